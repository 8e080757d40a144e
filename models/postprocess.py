"""From probabilities to separate instances, on the CPU.

Foreground is 8-connected, as in the benchmark's own relabelling. So background is 4-connected: a hole is closed also if
its wall is one diagonal step. No two of the 1,435 glands annotated in GlaS train and test A are 8-connected to each
other. 4-connectivity would split 10 pieces off them.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from searcher.models.class_branch import mean_probabilities
from searcher.models.settings import PostprocessSettings
from searcher.models.values import InstanceMaps, Prediction
from searcher.renamed import old_names

__all__ = [
    "fill_holes",
    "fill_instances",
    "first_pixels",
    "flood",
    "instances_from_maps",
    "instances_from_probability",
    "instances_from_seed_map",
    "smooth",
]

Window = tuple[slice, slice]


def instances_from_maps(instance_maps: InstanceMaps, settings: PostprocessSettings) -> Prediction:
    """Return the instances of one image, cut from its foreground map, and split at its seeds if there is a seed map.

    The probability of a class is the mean of its map over the instance's pixels, filled holes included.

    Args:
        instance_maps: Foreground map and seed map of the image.
        settings: How instances are cut; see `instances_from_probability` and `instances_from_seed_map`.
    """
    if instance_maps.seed_map is None:
        found = instances_from_probability(instance_maps.foreground_map, settings)
    else:
        found = instances_from_seed_map(instance_maps.foreground_map, instance_maps.seed_map, settings)
    if instance_maps.class_maps is None:
        return found
    probabilities = mean_probabilities(found.labels, instance_maps.class_maps, len(found.scores))
    return found._replace(class_probabilities=probabilities)


def instances_from_probability(probability: NDArray[np.float32], settings: PostprocessSettings) -> Prediction:
    """Return the connected components of the foreground as instances, with the mean probability of each as its score.

    The steps, in this order: smooth, threshold, fill holes, label 8-connected components, remove small ones (holes
    count to the area). Labels follow the order of the instances' first pixels, row by row.

    Args:
        probability: float32[H, W], 0 to 1; a pixel is foreground strictly above the threshold.
        settings: Smoothing, threshold, hole filling, smallest area.
    """
    probability = smooth(probability, settings.smoothing_sigma_px)
    mask = (probability > settings.threshold).view(np.uint8)
    if settings.fill_holes:
        mask = fill_holes(mask)
    num_components, components, stats, _ = cv2.connectedComponentsWithStats(
        mask, connectivity=8, ltype=cv2.CV_32S
    )
    keep = stats[:, cv2.CC_STAT_AREA] >= settings.min_object_area_px
    return _scored(_relabel(components, keep, num_components), probability)


def instances_from_seed_map(
    probability: NDArray[np.float32], seed_map: NDArray[np.float32], settings: PostprocessSettings
) -> Prediction:
    """Return the foreground's connected components, split where they have several seeds, scored by mean probability.

    The steps, in this order. Smooth both maps, and threshold both. Seeds are the large enough 8-connected components of
    the seed map within the foreground. A foreground component with several seeds is flooded from them, from high
    values to low ones (watershed). A component with one seed is an instance; one without is an instance or is removed.
    Fill the holes of each instance, with all that is in them. Remove small instances. Labels follow the order of the
    instances' first pixels, row by row.

    If no component has several seeds, the result is the same as that of `instances_from_probability`.

    Args:
        probability: float32[H, W], 0 to 1; a pixel is foreground strictly above `threshold`.
        seed_map: float32[H, W], 0 to 1, high in the middle of instances, low at their borders; a pixel is a seed
            strictly above `seed_threshold`.
        settings: Smoothing, thresholds, hole filling, smallest areas, and `keep_unseeded`.
    """
    probability = smooth(probability, settings.smoothing_sigma_px)
    seed_map = smooth(seed_map, settings.smoothing_sigma_px)
    mask = (probability > settings.threshold).view(np.uint8)
    num_components, components, boxes, _ = cv2.connectedComponentsWithStats(
        mask, connectivity=8, ltype=cv2.CV_32S
    )
    seeds = _seeds((seed_map > settings.seed_threshold).view(np.uint8) & mask, settings.min_seed_area_px)
    num_seeds = _seeds_per_component(components, seeds, num_components)
    is_instance = (num_seeds > 0) | settings.keep_unseeded
    labels = np.where(is_instance[components], components, np.int32(0))
    for component in np.flatnonzero(num_seeds > 1):
        window = _window_of(boxes[component])
        is_here = components[window] == component
        flooded = flood(seed_map[window], np.where(is_here, seeds[window], np.int32(0)), is_here)
        # Seeds are numbered from 1 over the whole image: behind the components, all labels differ.
        np.copyto(labels[window], flooded + np.int32(num_components - 1), where=is_here)
    if settings.fill_holes:
        labels = fill_instances(labels)
    areas = np.bincount(labels.ravel(), minlength=1)
    keep = (areas > 0) & (areas >= settings.min_object_area_px)
    return _scored(_relabel(labels, keep, len(areas)), probability)


def fill_holes(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a mask with its holes filled: 4-connected background regions that do not touch the image's border.

    Args:
        mask: uint8[H, W], 0 or 1.
    """
    # A frame of background joins everything open to the border, so one flood from a corner finds it all.
    flooded = np.pad(mask, 1)
    cv2.floodFill(flooded, None, (0, 0), 2, flags=4)
    filled: NDArray[np.uint8] = (flooded[1:-1, 1:-1] != 2).view(np.uint8)
    return filled


def smooth(values: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Return a map smoothed by a Gaussian; the same array if `sigma_px` is 0.

    The kernel reaches 4 sigma. Beyond its edges, the map continues as its mirror image.

    Args:
        values: float32[H, W], at most 1.
        sigma_px: Standard deviation in pixels.
    """
    if not sigma_px:
        return values
    smoothed = cv2.GaussianBlur(values, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101)
    # The kernel's rounded values may add up to a little more than 1.
    bounded: NDArray[np.float32] = np.minimum(smoothed, np.float32(1), out=smoothed)
    return bounded


def _seeds(mask: NDArray[np.uint8], min_area_px: int) -> NDArray[np.int32]:
    """Return the mask's 8-connected components that are large enough, labelled from 1 by first pixel."""
    num_components, components, stats, _ = cv2.connectedComponentsWithStats(
        mask, connectivity=8, ltype=cv2.CV_32S
    )
    return _relabel(components, stats[:, cv2.CC_STAT_AREA] >= min_area_px, num_components)


def _seeds_per_component(
    components: NDArray[np.int32], seeds: NDArray[np.int32], num_components: int
) -> NDArray[np.intp]:
    """Return how many seeds lie in each component. A seed lies in one."""
    component_of_seed = np.zeros(int(seeds.max(initial=0)) + 1, np.int32)
    component_of_seed[seeds] = components
    return np.bincount(component_of_seed[1:], minlength=num_components)


def flood(
    seed_map: NDArray[np.float32], seeds: NDArray[np.int32], mask: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Return a watershed: each pixel of the mask gets the label of the seed that reaches it first.

    The level falls from high values of the seed map to low ones.

    Args:
        seed_map: float32[H, W], the height of each pixel.
        seeds: int32[H, W], numbers of the seeds, 0 for none.
        mask: bool[H, W], the pixels that may get a label.
    """
    from skimage.segmentation import watershed  # half a second to import, and most images never need it

    # Only seed pixels with a neighbour that is not of their seed have somewhere to flood to.
    square = np.ones((3, 3), np.uint8)
    is_seed = (seeds > 0).view(np.uint8)
    surrounded = cv2.erode(is_seed, square, borderType=cv2.BORDER_CONSTANT, borderValue=1).view(np.bool_)
    open_seeds = np.where(surrounded, np.int32(0), seeds)
    flooded: NDArray[np.int32] = watershed(-seed_map, open_seeds, connectivity=2, mask=mask & ~surrounded)
    return np.where(surrounded, seeds, flooded)


def fill_instances(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return a label map in which the holes of each instance are filled. Instances that lie in a hole disappear.

    Args:
        labels: int32[H, W], instance label map, 0 is background.
    """
    filled = labels.copy()
    areas = np.bincount(labels.ravel(), minlength=1)
    boxes = dict(_boxes(labels))
    for label in sorted(
        boxes, key=lambda each: (-areas[each], each)
    ):  # what encloses is larger: it goes first
        window = boxes[label]
        mask = (filled[window] == label).view(np.uint8)
        np.copyto(filled[window], np.int32(label), where=fill_holes(mask).view(np.bool_))
    return filled


def _boxes(labels: NDArray[np.int32]) -> Iterator[tuple[int, Window]]:
    """Yield each label and its bounding box."""
    for label, box in enumerate(find_objects(labels), start=1):
        if box is not None:
            yield label, box


def _window_of(stats: NDArray[np.int32]) -> Window:
    """Return the bounding box in one row of OpenCV's statistics."""
    left, top, width, height = (int(value) for value in stats[:4])
    return slice(top, top + height), slice(left, left + width)


def _scored(labels: NDArray[np.int32], probability: NDArray[np.float32]) -> Prediction:
    """Return the labels, 1 to n without gaps, with the mean probability of each."""
    num_pixels = np.bincount(labels.ravel(), minlength=1)[1:]
    total = np.bincount(labels.ravel(), weights=probability.ravel(), minlength=1)[1:]
    return Prediction(labels, (total / num_pixels).astype(np.float32))


def first_pixels(labels: NDArray[np.int32], num_labels: int) -> NDArray[np.int64]:
    """Return the position of the first pixel of each label, int64[num_labels], as `row * W + column`.

    Entry 0, for the background, is always `H * W`, as is the entry of a label without pixels.

    Args:
        labels: int32[H, W], 0 to `num_labels` - 1.
        num_labels: Number of labels, the background included.
    """
    flat = labels.ravel()
    foreground = np.flatnonzero(flat)
    first = np.full(num_labels, flat.size, np.int64)
    first[flat[foreground[::-1]]] = foreground[::-1]  # the last assignment stays: the first pixel
    return first


def _relabel(
    components: NDArray[np.int32], keep: NDArray[np.bool_], num_components: int
) -> NDArray[np.int32]:
    """Return the kept components but 0, the background, labelled 1 to n by first pixel, row by row.

    OpenCV's own order depends on its algorithm and its number of threads; results must not.
    """
    first = first_pixels(components, num_components)
    kept = np.flatnonzero(keep[1:]) + 1
    lookup = np.zeros(num_components, np.int32)
    lookup[kept[np.argsort(first[kept])]] = np.arange(1, len(kept) + 1)
    labels: NDArray[np.int32] = lookup[components]
    return labels


__getattr__ = old_names(__name__)
