"""What an annotation file says of an image: which object a pixel belongs to, and what the objects are."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Annotation"]


@dataclass(frozen=True)
class Annotation:
    """The label map of one image, and the classes and remarks that its annotation file gives."""

    labels: NDArray[np.int32]
    """int32[H, W], 0 background, -1 not annotated, objects numbered from 1."""
    classes: dict[int, str] = field(default_factory=dict)
    """Class by label, of the objects that have one."""
    remarks: tuple[str, ...] = ()
    """What was decided where the file leaves it open: one line each, naming the file."""
