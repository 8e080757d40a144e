"""Images with an annotation file each: in two folders, or side by side, and in folders for train and test."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.annotations.fiji import is_fiji, read_fiji
from searcher.data_pipeline.datasets.annotations.geojson import (
    is_geojson,
    may_have_ignored,
    read_geojson,
    rectangle,
)
from searcher.data_pipeline.datasets.annotations.imagescope import (
    is_imagescope,
    pixel_size_of,
    read_imagescope,
)
from searcher.data_pipeline.datasets.annotations.labelme import is_labelme, read_labelme
from searcher.data_pipeline.datasets.annotations.matlab import is_matlab, read_matlab
from searcher.data_pipeline.datasets.annotations.painting import covered, paint
from searcher.data_pipeline.datasets.annotations.shapes import Shape
from searcher.data_pipeline.datasets.layouts.folder_scan import FoundFile, samples_of, scan
from searcher.data_pipeline.datasets.layouts.layout_source import Entry, LayoutSource
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import IMAGE_SUFFIXES, LABEL_SUFFIXES, read_data_image, read_labels
from searcher.data_pipeline.pixel_arrays import Pixels
from searcher.data_pipeline.unannotated import marked_outside

__all__ = ["open_paired"]

_Read = Callable[[Pixels, Path], tuple[Pixels, Annotation]]


@dataclass(frozen=True)
class _Format:
    """A kind of annotation file."""

    kind: str
    suffixes: tuple[str, ...]
    recognises: Callable[[Path], bool]
    read: _Read
    """Returns the image, cut to what is annotated, and its annotation."""
    is_read_anew: Callable[[Path], bool] = lambda _path: False
    """See `Entry`."""


def open_paired(root: Path, *, strict: bool) -> LayoutSource | None:
    """Return the data set in a folder of images with an annotation file each; None if there are no such pairs.

    Raises:
        DataError: Images have no annotation or the reverse, or files are unusable (`strict` only).
    """
    files = scan(root, {*IMAGE_SUFFIXES, *(suffix for kind in _FORMATS for suffix in kind.suffixes)})
    by_suffix: dict[str, list[FoundFile]] = defaultdict(list)
    for file in files:
        by_suffix[file.path.suffix.lower()].append(file)
    for kind in _FORMATS:
        candidates = [file for suffix in kind.suffixes for file in by_suffix[suffix]]
        if kind is _LABEL_MAPS:
            candidates = [file for file in candidates if file.is_label and not _is_cellpose(file.path)]
        if not any(kind.recognises(file.path) for file in candidates[:_SNIFFED]):
            continue
        images = [
            file for suffix in sorted(IMAGE_SUFFIXES) for file in by_suffix[suffix] if not file.is_label
        ]
        if images:
            return _open(root, kind, images, candidates, strict=strict)
    return None


def _open(
    root: Path, kind: _Format, images: list[FoundFile], annotations: list[FoundFile], *, strict: bool
) -> LayoutSource:
    images.sort(key=lambda image: image.key)
    pairs, problems = _pair(images, annotations)
    samples = samples_of([image for image, _ in pairs])
    entries = []
    for sample, (image, annotation) in zip(samples, pairs, strict=True):

        def read(image: Path = image.path, annotation: Path = annotation.path) -> tuple[Pixels, Annotation]:
            return kind.read(read_data_image(image), annotation)

        entries.append(
            Entry(
                sample,
                (image.path, annotation.path),
                read,
                is_read_anew=partial(kind.is_read_anew, annotation.path),
            )
        )
    sizes = (
        {pixel_size_of(annotation.path) for _, annotation in pairs} if kind.kind == "imagescope" else set()
    )
    common = sizes.pop() if len(sizes) == 1 else None
    return LayoutSource(root, kind.kind, entries, problems, strict=strict, pixel_size_um=common)


def _pair(
    images: list[FoundFile], annotations: list[FoundFile]
) -> tuple[list[tuple[FoundFile, FoundFile]], list[str]]:
    """Return images with their annotations: of the same split, folders and name, or else of the same name alone."""
    by_key: dict[tuple[str, ...], list[FoundFile]] = defaultdict(list)
    by_stem: dict[str, list[FoundFile]] = defaultdict(list)
    num_images: dict[str, int] = defaultdict(int)
    for annotation in annotations:
        by_key[annotation.key].append(annotation)
        by_stem[annotation.stem].append(annotation)
    for image in images:
        num_images[image.stem] += 1
    pairs: list[tuple[FoundFile, FoundFile]] = []
    problems: list[str] = []
    used: set[Path] = set()
    for image in images:
        found = by_key.get(image.key) or (by_stem.get(image.stem, []) if num_images[image.stem] == 1 else [])
        used.update(annotation.path for annotation in found)
        if len(found) == 1:
            pairs.append((image, found[0]))
        elif found:
            names = ", ".join(annotation.path.name for annotation in found[:3])
            problems.append(f"{image.path}: every image needs one annotation, got {names}; keep one of them")
        else:
            problems.append(
                f"{image.path}: every image needs an annotation of its name, got none; add it or move the image away"
            )
    problems += [
        f"{annotation.path}: every annotation needs its image, got none; add it or move this away"
        for annotation in annotations
        if annotation.path not in used
    ]
    problems += [
        f"{images[0].path}: must be the only image of its name, got {image.path} too; keep one of them"
        for key, images in _by_key(images).items()
        for image in images[1:]
        if key
    ]
    return pairs, problems


def _by_key(images: list[FoundFile]) -> dict[tuple[str, ...], list[FoundFile]]:
    by_key: dict[tuple[str, ...], list[FoundFile]] = defaultdict(list)
    for image in images:
        by_key[image.key].append(image)
    return by_key


def _drawn(read: Callable[[Path, int, int], tuple[list[Shape], tuple[str, ...]]]) -> _Read:
    """Return how to read a format of polygons in pixels of the image."""

    def read_whole(image: Pixels, path: Path) -> tuple[Pixels, Annotation]:
        height, width = image.shape[:2]
        shapes, remarks = read(path, height, width)
        painted = paint(shapes, height, width, str(path))
        return image, Annotation(painted.labels, painted.classes, remarks + painted.remarks)

    return read_whole


def _read_geojson(image: Pixels, path: Path) -> tuple[Pixels, Annotation]:
    """Cut the image to what is annotated, if the file says where that is; what remains outside is not annotated."""
    found = read_geojson(path)
    height, width = image.shape[:2]
    painted = paint(found.shapes, height, width, str(path))
    labels, remarks = painted.labels, [*found.remarks, *painted.remarks]
    regions = [region for region in found.regions if region.region is not None]
    if regions and not any(_covers(region, height, width) for region in regions):
        labels, box = _within_regions(path, labels, regions, remarks)
    else:
        box = np.s_[:, :]
    if found.ignored:
        labels = marked_outside(labels, ~covered(found.ignored, height, width, str(path)))
    labels = labels[box]
    left = set(np.unique(labels).tolist())
    classes = {label: name for label, name in painted.classes.items() if label in left}
    return image[box], Annotation(labels, classes, tuple(remarks))


def _within_regions(
    path: Path, labels: NDArray[np.int32], regions: list[Shape], remarks: list[str]
) -> tuple[NDArray[np.int32], tuple[slice, slice]]:
    """Return the label map, not annotated outside the regions, and what the image is to be cut to; adds a remark.

    Raises:
        DataError: The regions lie outside the image.
    """
    single = rectangle(regions[0]) if len(regions) == 1 else None
    if single is not None:
        top, left, bottom, right = single
        box = np.s_[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        if not labels[box].size:
            raise DataError(
                f"{path}: {regions[0].name}: must lie in its image, got a region outside; draw it again"
            )
        rows, columns = labels[box].shape
        remarks.append(f"{path}: the image is cut to its annotated region, {columns}x{rows} px")
        return labels, box
    is_known = covered(regions, labels.shape[0], labels.shape[1], str(path))
    rows, columns = np.nonzero(is_known.any(axis=1))[0], np.nonzero(is_known.any(axis=0))[0]
    if not len(rows):
        raise DataError(f"{path}: annotated regions must hold a pixel's centre, got none; draw them again")
    box = np.s_[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
    height, width = is_known[box].shape
    remarks.append(
        f"{path}: the image is cut to its annotated regions ({len(regions)} of them), {width}x{height} px, of which "
        f"{1 - is_known[box].mean():.0%} outside the regions is not annotated"
    )
    return marked_outside(labels, is_known), box


def _covers(region: Shape, height: int, width: int) -> bool:
    return bool(shapely.covers(shapely.buffer(region.region, 1), shapely.box(0, 0, width, height)))


def _read_matlab(image: Pixels, path: Path) -> tuple[Pixels, Annotation]:
    return image, read_matlab(path, image.shape[0], image.shape[1])


def _read_labels(image: Pixels, path: Path) -> tuple[Pixels, Annotation]:
    return image, Annotation(read_labels(path))


def _is_cellpose(path: Path) -> bool:
    return path.name.lower().endswith("_seg.npy")


def _read_cellpose(_image: Pixels, path: Path) -> tuple[Pixels, Annotation]:
    raise DataError(
        f"{path}: must be a label map, got Cellpose's _seg.npy, which can run any program when it is opened; "
        "save the masks as PNG or TIFF in Cellpose (File menu, or cellpose --save_png)"
    )


_SNIFFED = 20
"""Files that are looked into to tell a format: the first ones may be damaged."""
_LABEL_MAPS = _Format("label maps", tuple(sorted(LABEL_SUFFIXES)), lambda _path: True, _read_labels)
_FORMATS = (
    _Format("qupath", (".geojson", ".json"), is_geojson, _read_geojson, may_have_ignored),
    _Format("labelme", (".json",), is_labelme, _drawn(read_labelme)),
    _Format("imagescope", (".xml",), is_imagescope, _drawn(read_imagescope)),
    _Format("fiji", (".zip", ".roi"), is_fiji, _drawn(read_fiji)),
    _Format("matlab", (".mat",), is_matlab, _read_matlab),
    _LABEL_MAPS,
    _Format("cellpose", (".npy",), _is_cellpose, _read_cellpose),
)
