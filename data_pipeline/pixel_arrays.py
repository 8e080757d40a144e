"""The array type of images, which every module of the data pipeline names."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pixels"]

Pixels = NDArray[np.uint8 | np.uint16]
"""An image or a crop of one, [H, W, C]."""
