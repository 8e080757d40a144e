"""From detections to one instance label map, on the CPU."""

import math

import numpy as np
from numpy.typing import NDArray

from searcher.models.postprocess import fill_holes
from searcher.models.settings import PostprocessSettings
from searcher.models.values import Detections, Prediction

__all__ = ["claim", "instances_from_detections", "mask_of"]


def instances_from_detections(detections: Detections, settings: PostprocessSettings) -> Prediction:
    """Return the label map of one image: where detections overlap, a pixel belongs to the one with the highest score.

    Detections with a score above `min_score` are handled from the highest score down, those of all classes alike. A
    detection's mask is resized to its box and thresholded, and its holes are filled. The detection gets the pixels of
    the mask that are still free. It is left out if more than the share `max_overlap` of its pixels were taken, because
    a better detection found the same object. It is also left out if fewer than `min_object_area_px` pixels, or none,
    are free.

    Args:
        detections: The detections of one image.
        settings: Thresholds, hole filling, smallest area.

    Returns:
        The label map and the scores. Labels are 1 to n, from the highest score down.
    """
    labels = np.zeros(detections.size, np.int32)
    scores: list[float] = []
    kept: list[int] = []
    for index in np.argsort(-detections.scores, kind="stable"):
        if detections.scores[index] <= settings.min_score:
            break
        window, mask = mask_of(detections.boxes[index], detections.masks[index], detections.size, settings)
        free = claim(mask, labels[window], settings)
        if free is not None:
            scores.append(detections.scores[index])
            kept.append(int(index))
            labels[window][free] = len(scores)
    of_classes = detections.class_probabilities
    return Prediction(
        labels,
        np.array(scores, np.float32),
        None if of_classes is None else of_classes[np.array(kept, np.int64)],
    )


def mask_of(
    box: NDArray[np.float32],
    mask: NDArray[np.float32],
    size: tuple[int, int],
    settings: PostprocessSettings,
) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Return the window of an image that a detection's box covers, and the detection's pixels in that window.

    Args:
        box: float32[4], one row of `Detections.boxes`.
        mask: float32[M, M], one of `Detections.masks`.
        size: Height and width of the image.
        settings: Threshold, hole filling.

    Returns:
        A slice of rows and one of columns, and bool[rows, columns], true on the detection's pixels.
    """
    window = _window(box, size)
    pixels = _paste(mask, box, *window) > settings.threshold
    if settings.fill_holes and pixels.size:
        pixels = fill_holes(pixels.view(np.uint8)).view(np.bool_)
    return window, pixels


def claim(
    mask: NDArray[np.bool_], taken: NDArray[np.int32], settings: PostprocessSettings
) -> NDArray[np.bool_] | None:
    """Return the pixels that one detection gets in the label map, or None if the detection is left out.

    See `instances_from_detections` for the rules.

    Args:
        mask: bool[h, w], the pixels of the detection.
        taken: int32[h, w], not 0 where a detection with a higher score has the pixel.
        settings: `max_overlap`, `min_object_area_px`.

    Returns:
        bool[h, w], the pixels of `mask` that are still free.
    """
    free: NDArray[np.bool_] = mask & (taken == 0)
    num_all, num_free = np.count_nonzero(mask), np.count_nonzero(free)
    if num_free < max(1, settings.min_object_area_px) or num_all - num_free > settings.max_overlap * num_all:
        return None
    return free


def _window(box: NDArray[np.float32], size: tuple[int, int]) -> tuple[slice, slice]:
    """Return the rows and columns of the pixels whose centres lie in a box."""
    x1, y1, x2, y2 = box.tolist()
    rows, columns = (
        slice(max(0, math.ceil(low - 0.5)), max(0, min(limit, math.ceil(high - 0.5))))
        for low, high, limit in ((y1, y2, size[0]), (x1, x2, size[1]))
    )
    return rows, columns


def _paste(
    mask: NDArray[np.float32], box: NDArray[np.float32], rows: slice, columns: slice
) -> NDArray[np.float32]:
    """Return the mask float32[M, M] of a box at its pixels, float32[rows, columns].

    Bilinear between the centres of the mask's cells, and constant from the outermost centres to the box's edge. In
    torchvision the mask fades to 0 there. That removes half a cell at each edge of the box, and every instance touches
    four edges: 10 pixels of a gland of 600.
    """
    x1, y1, x2, y2 = box.tolist()
    by_row = _weights(rows, y1, y2, len(mask))
    by_column = _weights(columns, x1, x2, len(mask))
    return (by_row @ mask @ by_column.T).astype(np.float32, copy=False)


def _weights(pixels: slice, low: float, high: float, num_cells: int) -> NDArray[np.float32]:
    """Return the weight of each cell along one axis for each pixel, float32[pixels, cells]; rows sum to 1."""
    centres = np.arange(pixels.start, max(pixels.start, pixels.stop)) + 0.5
    position = np.clip((centres - low) / max(high - low, 1e-6) * num_cells - 0.5, 0, num_cells - 1)
    distance = np.abs(position[:, None] - np.arange(num_cells))
    weights: NDArray[np.float32] = np.clip(1 - distance, 0, None).astype(np.float32)
    return weights
