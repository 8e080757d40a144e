"""Exact Hausdorff distances between objects of two label maps, fast enough for every epoch.

The symmetric Euclidean Hausdorff distance in pixels between two filled pixel sets:
H(X, Y) = max(h(X, Y), h(Y, X)) with h(X, Y) = max over x in X of min over y in Y of |x - y|
(Sirinukunwattana et al. 2016, arXiv 1603.00275). Squared distances between pixels are integers, and everything
here is exact in them. Three things make it fast:

- only pixels of X outside Y can attain h(X, Y): a large pair takes a distance transform of its union box or two;
- specks are measured many at a time, without transforms (`searcher.evaluation.specks`);
- the nearest of all objects is found without measuring most: support functions bound H from below.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from searcher.evaluation import specks
from searcher.evaluation.labelled_objects import LabelledObjects

__all__ = ["nearest_hausdorff", "pair_hausdorff"]

_NUM_DIRECTIONS = 16
"""Directions of the lower bound: of convex sets far apart it falls short by 2% at most."""
_TRANSFORM_ERROR = 1e-6
"""Largest relative error of OpenCV's transform: 1.2e-7 on several threads, 6.4e-7 on one (in OpenCV 5.0)."""
_ROUNDING_SAFE_PX = 400.0
"""Below it, OpenCV's distance squared rounds to the true integer: 2 * 1e-6 * 400^2 is under one half."""


def pair_hausdorff(a: LabelledObjects, b: LabelledObjects, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the Hausdorff distance in pixels of each pair of objects, float64[k].

    Args:
        a: Objects of one label map.
        b: Objects of another label map of the same shape.
        pairs: int64[k, 2], the numbers of an object of `a` and of one of `b`, from 0.

    Returns:
        float64[k], correctly rounded.
    """
    assert a.shape == b.shape
    squared = np.full(len(pairs), -1, np.int64)
    if len(pairs):
        a_is_speck = a.areas[pairs[:, 0]] <= specks.SPECK_PX
        b_is_speck = b.areas[pairs[:, 1]] <= specks.SPECK_PX
        specks.set_distances(squared, a, b, pairs, np.flatnonzero(a_is_speck))
        specks.set_distances(squared, b, a, pairs[:, ::-1], np.flatnonzero(b_is_speck & ~a_is_speck))
        for position in np.flatnonzero(squared < 0):
            squared[position] = _transform_pair(a, b, *pairs[position])
    return np.sqrt(squared.astype(np.float64))


def nearest_hausdorff(
    a: LabelledObjects, b: LabelledObjects, which: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the Hausdorff distance in pixels from each given object of `a` to the nearest object of `b`.

    The candidates are measured in the order of a lower bound, until no bound is below the smallest distance so far.

    Args:
        a: Objects of one label map.
        b: Objects of another label map of the same shape, at least one.
        which: int64[k], the numbers of objects of `a`, from 0.

    Returns:
        float64[k].
    """
    assert len(b), "nothing to be near to"
    best = np.full(len(which), np.inf)
    support_a, support_b = (_supports(a)[which], _supports(b)) if len(which) else (np.empty((0, 0)),) * 2
    rows_at_once = max(1, 2**22 // len(b))
    for start in range(0, len(which), rows_at_once):
        rows = slice(start, start + rows_at_once)
        _search_nearest(a, b, which[rows], _lower_bounds(support_a[rows], support_b), best[rows])
    return best


def _search_nearest(
    a: LabelledObjects,
    b: LabelledObjects,
    which: NDArray[np.int64],
    bounds: NDArray[np.float64],
    best: NDArray[np.float64],
) -> None:
    """Lower `best` float64[k] to the true minimum, given lower bounds float64[k, n] of all candidates."""
    rows = np.arange(len(which))
    while len(rows):
        candidates = bounds[rows].argmin(axis=1)
        # The bounds are rounded by about 1e-12; the margin keeps a candidate that might just be nearer.
        open_ = bounds[rows, candidates] < best[rows] + 1e-6
        rows, candidates = rows[open_], candidates[open_]
        measured = pair_hausdorff(a, b, np.stack([which[rows], candidates], axis=1))
        best[rows] = np.minimum(best[rows], measured)
        bounds[rows, candidates] = np.inf


def _supports(objects: LabelledObjects) -> NDArray[np.float64]:
    """Return float64[n, directions], how far each object reaches in each direction."""
    angles = 2 * np.pi * np.arange(_NUM_DIRECTIONS) / _NUM_DIRECTIONS
    directions = np.stack([np.sin(angles), np.cos(angles)])
    border = objects.border
    reach: NDArray[np.float64] = np.maximum.reduceat(border.points @ directions, border.starts[:-1], axis=0)
    return reach


def _lower_bounds(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64[k, n], bounds below H: in no direction does one set reach further by more than H."""
    bounds = np.zeros((len(a), len(b)))
    for reach_a, reach_b in zip(a.T, b.T, strict=True):
        np.maximum(bounds, np.abs(reach_a[:, None] - reach_b[None, :]), out=bounds)
    return bounds


def _transform_pair(a: LabelledObjects, b: LabelledObjects, i: int, j: int) -> int:
    """Return the squared Hausdorff distance of object i of a and object j of b, by distance transforms."""
    box_a, box_b = a.boxes[i], b.boxes[j]
    top, left = np.minimum(box_a[:2], box_b[:2])
    bottom, right = np.maximum(box_a[2:], box_b[2:])
    crop = np.s_[top:bottom, left:right]
    x, y = a.index_map[crop] == i + 1, b.index_map[crop] == j + 1
    return max(_squared_directed(x, y), _squared_directed(y, x))


def _squared_directed(x: NDArray[np.bool_], y: NDArray[np.bool_]) -> int:
    """Return the largest squared distance from a pixel of x to its nearest pixel of y.

    OpenCV's precise transform is right but for a small relative error (checked against SciPy's exact
    transform for OpenCV 5.0). Where that could blur integers, the pixels that may be farthest are measured
    again.
    """
    only_x = (x & ~y).view(np.uint8)
    if not only_x.any():
        return 0
    distance = cv2.distanceTransform((~y).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    farthest = cv2.minMaxLoc(distance, only_x)[1]
    if farthest < _ROUNDING_SAFE_PX:
        return round(farthest**2)
    candidates = np.argwhere((distance >= farthest * (1 - 4 * _TRANSFORM_ERROR)) & (only_x != 0))
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    border = np.argwhere(y & (cv2.erode(y.view(np.uint8), cross) == 0))
    nearest = border[KDTree(border).query(candidates)[1]]
    return int(((nearest - candidates) ** 2).sum(axis=1).max())
