"""Outlines of objects on the image that they were found in.

The truth is cyan and the prediction is yellow. No stain has these colours, and people with any common colour blindness
can distinguish them. A dark edge makes both visible on a pale lumen and on dark nuclei.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.unannotated import objects_only
from searcher.report.composite import composite

__all__ = [
    "PREDICTION_COLOUR",
    "TRUTH_COLOUR",
    "Colour",
    "line_width_px",
    "outlines",
    "overlay",
    "truth_width_px",
]

LabelMap = NDArray[np.integer[Any]]
Colour = tuple[int, int, int]

TRUTH_COLOUR: Colour = (0, 229, 255)
"""RGB."""
PREDICTION_COLOUR: Colour = (255, 225, 0)
"""RGB."""
_CASING: Colour = (12, 12, 18)
_CASING_ALPHA = 150
_LONGEST_PER_WIDTH = 260
"""The image's longer side is divided by this for a line's width, so the line stays visible in a small picture of a
large image."""


def line_width_px(shape: tuple[int, ...]) -> int:
    """Return the width of outlines for an image of this height and width, in pixels, at least 2."""
    return max(2, round(max(shape[:2]) / _LONGEST_PER_WIDTH))


def truth_width_px(width_px: int) -> int:
    """Return the width of the truth's outline below a prediction's, so that both are visible where they agree."""
    return width_px + 2 * _edge_px(width_px)


def _edge_px(width_px: int) -> int:
    return max(1, width_px // 3)


def outlines(labels: LabelMap, colour: Colour | NDArray[np.uint8], *, width_px: int) -> NDArray[np.uint8]:
    """Return a picture of the objects' outlines only, to be laid over the image.

    An outline is drawn inside the object's border, so that touching objects have separate outlines.

    Args:
        labels: integer[H, W], instance label map, 0 is background, below 0 not annotated.
        colour: Colour of all lines, RGB; or uint8[n + 1, 3], colours indexed by label.
        width_px: Width of the line in pixels. On both sides it gets a dark edge of a third of the width, at least a
            pixel.

    Returns:
        uint8[H, W, 4], RGBA; alpha is 0 outside the outlines.
    """
    labels = objects_only(labels)
    edge = _edge_px(width_px)
    depth = _depth(labels)
    picture = np.zeros((*labels.shape, 4), np.uint8)
    line = (depth > 0) & (depth <= width_px)
    casing = (depth > width_px) & (depth <= width_px + edge)
    outside = cv2.dilate(line.astype(np.uint8), _disc(edge)).astype(bool) & (depth == 0) & (labels == 0)
    picture[casing | outside] = (*_CASING, _CASING_ALPHA)
    picture[line, :3] = colour[labels[line]] if isinstance(colour, np.ndarray) else colour
    picture[line, 3] = 255
    return picture


def overlay(
    image: NDArray[np.uint8],
    truth: LabelMap | None,
    prediction: LabelMap,
    *,
    width_px: int | None = None,
    colours: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Return an image with the outlines of the predicted and the true objects.

    Args:
        image: uint8[H, W, C], normalised; converted by `composite`.
        truth: integer[H, W], label map of the true objects; None if it is not known.
        prediction: integer[H, W], label map of the predicted objects.
        width_px: Width of the lines in pixels; None to choose it by the image's size, see `line_width_px`.
        colours: uint8[n + 1, 3], colours of the outlines, indexed by predicted label; None for the same colour for all.

    Returns:
        uint8[H, W, 3], RGB. The prediction is on top and the truth is wider, so that both are visible where they agree.

    Raises:
        ValueError: The shapes differ.
    """
    for name, labels in (("truth", truth), ("prediction", prediction)):
        if labels is not None and labels.shape != image.shape[:2]:
            raise ValueError(
                f"{name} must have the image's height and width, got {name} {labels.shape} image {image.shape}"
            )
    width_px = line_width_px(image.shape) if width_px is None else width_px
    drawn = composite(image).astype(np.float32)
    for labels, colour, width in (
        (truth, TRUTH_COLOUR, truth_width_px(width_px)),
        (prediction, PREDICTION_COLOUR if colours is None else colours, width_px),
    ):
        if labels is None:
            continue
        layer = outlines(labels, colour, width_px=width)
        alpha = layer[..., 3:].astype(np.float32) / 255
        drawn += alpha * (layer[..., :3] - drawn)
    return np.rint(drawn).astype(np.uint8)


def _depth(labels: LabelMap) -> NDArray[np.int32]:
    """Return int32[H, W]: how deep a pixel lies in its object, 1 at the border (the image's edge is none); else 0."""
    padded = np.pad(labels.astype(np.int32), 1, mode="edge")
    border = np.zeros(padded.shape, bool)
    for axis in (0, 1):
        for shift in (1, -1):
            border |= np.roll(padded, shift, axis) != padded
    border = border[1:-1, 1:-1] & (labels != 0)
    if not border.any():  # one object everywhere, or none
        return np.where(labels != 0, np.int32(np.iinfo(np.int32).max), np.int32(0))
    distance = cv2.distanceTransform((~border).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.where(labels != 0, np.floor(distance).astype(np.int32) + np.int32(1), np.int32(0))


def _disc(radius_px: int) -> NDArray[np.uint8]:
    side = 2 * radius_px + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)
