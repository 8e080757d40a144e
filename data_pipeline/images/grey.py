"""Grey pictures that are stored in colour."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["grey_channel"]


def grey_channel(pixels: NDArray[Any]) -> NDArray[Any] | None:
    """Return the single channel [H, W] of a picture that is grey; None if colours differ or a pixel is transparent.

    Args:
        pixels: [H, W, 1 to 4]: grey or three colours, perhaps followed by opacity.
    """
    num = pixels.shape[2]
    if not np.issubdtype(pixels.dtype, np.integer) or not 1 <= num <= 4:
        return None
    num_colours = 1 if num <= 2 else 3
    grey: NDArray[Any] = pixels[..., 0]
    is_coloured = (pixels[..., 1:num_colours] != grey[..., None]).any()
    is_transparent = (pixels[..., num_colours:] != np.iinfo(pixels.dtype).max).any()
    return None if is_coloured or is_transparent else grey
