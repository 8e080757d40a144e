"""Random geometric distortion as one map from a crop's pixels to places in the image, and its resampling.

A crop's pixel p (relative to the crop's centre) is looked up at `centre + A p + e(p)`: A holds symmetry, scale,
rotation and shear, e is a smooth elastic displacement (Simard et al. 2003, drawn on a coarse grid and
interpolated, as in Ronneberger et al. 2015, arXiv 1505.04597). Composing them first and resampling once blurs only
once, and fills the corners of a rotated crop with the tissue around it.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.augmentation import Reflections
from searcher.data_pipeline.pixel_arrays import Pixels
from searcher.data_pipeline.unannotated import objects_only

__all__ = [
    "STANDARD",
    "STRONG",
    "Magnitudes",
    "Warp",
    "draw_start",
    "draw_warp",
    "resample",
    "separate_reflections",
]

_MAX_ROTATION_DEG = 45.0  # with the symmetries, that is every angle
_ELASTIC_GRID_PX = 64


class Magnitudes(NamedTuple):
    """The largest distortions of a warp at a strength of 1."""

    scale: float
    """Scales are 1 / scale to scale, uniform in their logarithm."""
    shear_deg: float
    """Shear in each direction, at most."""
    elastic_sigma_px: float
    """Standard deviation of the elastic displacement at grid points 64 px apart."""
    elastic_probability: float
    """Part of the crops that are bent."""


STANDARD = Magnitudes(scale=1.25, shear_deg=8.0, elastic_sigma_px=5.0, elastic_probability=0.5)
STRONG = Magnitudes(scale=1.5, shear_deg=12.0, elastic_sigma_px=6.0, elastic_probability=0.8)


class Warp(NamedTuple):
    """For each pixel of a crop, the place in the image where its value comes from.

    Both arrays are float32[crop_px, crop_px], in pixels of the image. Places outside the image mean its reflection
    there.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]


def draw_warp(
    shape: tuple[int, ...],
    crop_px: int,
    strength: float,
    rng: np.random.Generator,
    magnitudes: Magnitudes = STANDARD,
    near: tuple[int, int] | None = None,
) -> Warp:
    """Return a random warp of a crop: flips, turns, scale, shear and elastic displacement.

    Args:
        shape: Height and width of the image, in pixels.
        crop_px: Side of the crop, in pixels.
        strength: Factor on every magnitude. From 1 on, the turn is by any angle.
        rng: Generator of everything that is random.
        magnitudes: The largest distortions at a strength of 1.
        near: Row and column of a pixel of the image that is to be seen; None for anywhere.
    """
    matrix = _draw_matrix(strength, rng, magnitudes)
    centre_y, centre_x = (
        _draw_centre(size, crop_px, rng, None if near is None else near[axis])
        for axis, size in enumerate(shape[:2])
    )
    offset = np.arange(crop_px, dtype=np.float32) - np.float32((crop_px - 1) / 2)
    (a, b), (c, d) = matrix.astype(np.float32)
    x = np.add.outer(b * offset + np.float32(centre_x), a * offset)
    y = np.add.outer(d * offset + np.float32(centre_y), c * offset)
    if rng.random() < magnitudes.elastic_probability:
        points = 3 + crop_px // _ELASTIC_GRID_PX
        for target in (x, y):
            grid = rng.standard_normal((points, points), dtype=np.float32) * np.float32(
                magnitudes.elastic_sigma_px * strength
            )
            target += cv2.resize(grid, (crop_px, crop_px), interpolation=cv2.INTER_CUBIC)
    return Warp(x, y)


def resample(
    image: Pixels,
    labels: NDArray[np.uint16] | NDArray[np.int32],
    warp: Warp,
    out_image: Pixels,
    out_labels: NDArray[np.int32],
) -> Reflections:
    """Write a warped crop of an image and its labels: pixels interpolated linearly, labels by the nearest pixel.

    Where the crop shows the reflection of an instance beyond the image's border, the reflection gets a label of its
    own, see `separate_reflections`.

    Args:
        image: uint8 or uint16[H, W, C], the whole image.
        labels: uint16 or int32[H, W], the image's label map.
        warp: For each pixel of the crop, the place in the image.
        out_image: [crop_px, crop_px, C], of the image's type, C-contiguous; written.
        out_labels: int32[crop_px, crop_px], C-contiguous; written.
    """
    # Only the part that is seen goes to OpenCV, whose remap takes no image of 32,768 px or more. Two pixels
    # more than needed on each side keep the interpolation off the cut's own border.
    rows, columns = _seen(warp.y, image.shape[0]), _seen(warp.x, image.shape[1])
    x, y = warp.x - np.float32(columns.start), warp.y - np.float32(rows.start)
    border: dict[str, Any] = {"borderMode": cv2.BORDER_REFLECT_101}
    cv2.remap(image[rows, columns], x, y, cv2.INTER_LINEAR, dst=out_image, **border)
    if labels.dtype == out_labels.dtype:
        cv2.remap(labels[rows, columns], x, y, cv2.INTER_NEAREST, dst=out_labels, **border)
    else:
        np.copyto(out_labels, cv2.remap(labels[rows, columns], x, y, cv2.INTER_NEAREST, **border))
    return separate_reflections(out_labels, _is_outside(warp, image.shape))


def separate_reflections(
    labels: NDArray[np.int32], is_reflected: NDArray[np.bool_] | None
) -> dict[int, int] | None:
    """Give each reflection of an instance a label of its own, in place, unless it touches the instance itself.

    An instance near the border is visible twice. With the same label it would be one instance in two places. A
    reflection that touches its instance keeps the label, because no border is visible between them.

    Args:
        labels: int32[H, W]; -1 where nothing is annotated, which stays.
        is_reflected: bool[H, W], true where the image's reflection is visible; None for nowhere.

    Returns:
        The new labels, each with the label of the instance that it is the reflection of; None where there is none.
    """
    if is_reflected is None:
        return None
    from skimage import measure  # half a second to import, and many crops see no reflection

    components = measure.label(objects_only(labels), background=0, connectivity=2)
    is_separate = np.ones(int(components.max()) + 1, np.bool_)
    is_separate[0] = False
    is_separate[components[~is_reflected]] = False
    num_separate = np.count_nonzero(is_separate)
    if not num_separate:
        return None
    used = np.unique(labels)
    fresh = np.setdiff1d(np.arange(1, num_separate + len(used) + 1, dtype=np.int32), used)[:num_separate]
    label_of = np.zeros(len(is_separate), np.int32)
    label_of[is_separate] = fresh
    where = is_separate[components]
    reflections, instances = label_of[components[where]], labels[where]
    labels[where] = reflections
    instance_of = np.zeros(int(fresh[-1]) + 1, np.int32)
    instance_of[reflections] = instances
    return {int(label): int(instance_of[label]) for label in fresh}


def _is_outside(warp: Warp, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Return where the nearest pixel to a place is the reflection of one; None for nowhere."""
    outside: NDArray[np.bool_] | None = None
    for places, size in ((warp.y, shape[0]), (warp.x, shape[1])):
        low, high, _, _ = cv2.minMaxLoc(places)
        if low >= -0.5 and high <= size - 0.5:
            continue
        beyond = (places < -0.5) | (places > size - 0.5)
        outside = beyond if outside is None else outside | beyond
    return outside


def _draw_matrix(strength: float, rng: np.random.Generator, magnitudes: Magnitudes) -> NDArray[np.float64]:
    """Return float64[2, 2]: symmetry, then shear, rotation and scale, from the crop to the image."""
    log_scale = rng.uniform(-1, 1) * strength * np.log(magnitudes.scale)
    angle = np.deg2rad(rng.uniform(-1, 1) * min(strength, 1.0) * _MAX_ROTATION_DEG)
    shear = np.tan(np.deg2rad(rng.uniform(-1, 1, size=2) * strength * magnitudes.shear_deg))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    flip_x, flip_y, transpose = rng.random(3) < 0.5
    symmetry = np.diag([-1.0 if flip_x else 1.0, -1.0 if flip_y else 1.0])
    if transpose:
        symmetry = symmetry[::-1]
    sheared = np.array([[1.0, shear[0]], [shear[1], 1.0]])
    matrix: NDArray[np.float64] = np.exp(log_scale) * rotation @ sheared @ symmetry
    return matrix


def draw_start(size: int, crop_px: int, rng: np.random.Generator, near: int | None = None) -> int:
    """Return the random first pixel, along one axis, of a crop that is no larger than its image.

    Args:
        size: Size of the image, in pixels.
        crop_px: Size of the crop, in pixels.
        rng: The source of the random number.
        near: A pixel that is to be in the middle half of the crop, or as close to it as the image's border allows; None
            for any crop that fits.
    """
    low, high = 0, size - crop_px
    if near is not None:
        low, high = (min(max(0, near - part * crop_px // 4), high) for part in (3, 1))
    return int(rng.integers(low, high + 1))


def _draw_centre(size: int, crop_px: int, rng: np.random.Generator, near: int | None) -> float:
    """Return the crop's centre along one axis: anywhere the crop fits, the image's centre where it does not."""
    room = size - crop_px
    start = draw_start(size, crop_px, rng, near) if room > 0 else room / 2
    return float(start + (crop_px - 1) / 2)


def _seen(places: NDArray[np.float32], size: int) -> slice:
    """Return the part of an axis that the places touch, or all of it where they need its reflection."""
    low, high, _, _ = cv2.minMaxLoc(places)
    if low < 0 or high > size - 1:
        # Reflection reaches back as far as the places go beyond the border.
        beyond = max(-low, high - (size - 1))
        if (low < 0 and high > size - 1) or beyond >= size - 1:
            return slice(0, size)
        low, high = (0.0, max(high, beyond)) if low < 0 else (min(low, size - 1 - beyond), float(size - 1))
    return slice(max(0, int(low) - 2), min(size, int(high) + 4))
