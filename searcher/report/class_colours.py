"""The colour of each class, the same in every picture and file, and a legend that says which is which."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from searcher.escaping import one_line
from searcher.report.overlays import Colour

__all__ = ["class_colour", "colour_table", "with_legend"]

_PALETTE: tuple[Colour, ...] = (
    (255, 225, 0),
    (0, 114, 255),
    (255, 90, 0),
    (0, 200, 80),
    (200, 0, 255),
    (255, 160, 200),
    (130, 85, 20),
    (0, 0, 0),
    (160, 255, 60),
    (255, 255, 255),
    (120, 120, 140),
    (180, 0, 60),
)
"""RGB; the first is that of objects without classes. None is the truth's cyan."""
_ROW_PX, _SWATCH_PX, _GAP_PX = 18, 10, 6
_MOST_SIGNS = 40


def class_colour(number: int) -> Colour:
    """Return the colour of a class; the palette's colours are used again after the last one.

    Args:
        number: Number of the class, from 1.
    """
    return _PALETTE[(number - 1) % len(_PALETTE)]


def colour_table(classes: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return the colours of labels, indexed by label: uint8[n + 1, 3], black for background.

    Args:
        classes: int32[n], the class of each object, from 1.
    """
    palette = np.array(_PALETTE, np.uint8)
    return np.concatenate([np.zeros((1, 3), np.uint8), palette[(classes - 1) % len(palette)]])


def with_legend(picture: NDArray[np.uint8], names: Sequence[str]) -> NDArray[np.uint8]:
    """Return a picture with a legend below it: the name of each class next to its colour.

    Args:
        picture: uint8[H, W, 3].
        names: Names of the classes, class 1 first.

    Returns:
        uint8[H + h, W, 3], where h is the height of the legend.
    """
    font = ImageFont.load_default(size=12)
    texts = [one_line(name)[:_MOST_SIGNS] for name in names]
    places, row, left = [], 0, _GAP_PX
    for text in texts:
        width = _SWATCH_PX + _GAP_PX + int(font.getlength(text)) + 2 * _GAP_PX
        if left > _GAP_PX and left + width > picture.shape[1]:
            row, left = row + 1, _GAP_PX
        places.append((left, row * _ROW_PX + (_ROW_PX - _SWATCH_PX) // 2))
        left += width
    legend = Image.new("RGB", (picture.shape[1], (row + 1) * _ROW_PX), (60, 60, 66))
    draw = ImageDraw.Draw(legend)
    for number, (text, (x, y)) in enumerate(zip(texts, places, strict=True), start=1):
        draw.rectangle((x, y, x + _SWATCH_PX - 1, y + _SWATCH_PX - 1), fill=class_colour(number))
        draw.text((x + _SWATCH_PX + _GAP_PX, y - 3), text, fill=(255, 255, 255), font=font)
    return np.concatenate([picture, np.asarray(legend)])
