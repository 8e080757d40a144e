"""What a dense network predicts for a pixel: its channels, its losses, and the way back to instances.

| head | channels | touching instances |
|---|---|---|
| `binary` | instance or background | are one |
| `contour` | background, inside, contour | grown from their insides |
| `distance` | instance or background; distance to the border | grown from their middles |
"""

from searcher.models.heads.base import Head, HeadOptions
from searcher.models.heads.binary import BinaryHead
from searcher.models.heads.contour import ContourHead
from searcher.models.heads.distance import DistanceHead

__all__ = ["BinaryHead", "ContourHead", "DistanceHead", "Head", "HeadOptions", "build_head"]

_HEADS: dict[str, type[Head]] = {"binary": BinaryHead, "contour": ContourHead, "distance": DistanceHead}


def build_head(name: str, options: HeadOptions) -> Head:
    """Return the head of that name.

    Raises:
        ValueError: No such head; the message lists the known ones.
    """
    if name not in _HEADS:
        raise ValueError(f"head must be one of {', '.join(_HEADS)}, got {name!r}")
    return _HEADS[name](options)
