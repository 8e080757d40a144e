"""The files below a data set's folder, by what their folders and names say that they are.

Folders such as `images` and `masks` say what a file is, ones such as `train` and `test` which split it belongs to. What
is left of the path, and the file's name without endings such as `_masks`, is the name of the image.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from searcher.data_pipeline.datasets.samples import Sample
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import IMAGE_SUFFIXES, is_data_file, same_name, without_marks

__all__ = ["FoundFile", "find_image", "samples_of", "scan"]

_MAX_FILES = 500_000
_IMAGE_FOLDERS = {
    "image",
    "images",
    "img",
    "imgs",
    "tissue images",
    "jpegimages",
    "raw",
    "input",
    "inputs",
    "slides",
}
_LABEL_FOLDERS = {
    "annotation", "annotations", "label", "labels", "mask", "masks", "geojson", "json", "xml", "mat", "roi", "rois",
    "rois_zip", "gt", "ground truth", "groundtruth", "instance", "instances", "segmentation", "segmentations",
    "inst_masks", "label_maps",
}  # fmt: skip
_OTHER_FOLDERS = {"overlay", "overlays", "thumbnails", "preview", "previews"}
_SPLITS = {
    "train": "train", "training": "train", "stage1_train": "train", "test": "test", "testing": "test",
    "val": "val", "valid": "val", "validation": "val", "testa": "testA", "testb": "testB",
}  # fmt: skip
_ROIS_ENDING = re.compile(r"[_.-]?rois?(et)?$", re.I)
_YEAR = re.compile(r"(?<=[a-z])20\d\d$")
"""As in COCO's `train2017`."""
_IMAGE_ENDING = re.compile(r"[_.-](img|image)$", re.I)


@dataclass(frozen=True)
class FoundFile:
    """A data file, with the facts that its folders and name tell: split, image name, image or annotation."""

    path: Path
    split: str
    """Of the folder around it; `train` where none says."""
    parts: tuple[str, ...]
    """Names of the folders around it that say nothing else."""
    stem: str
    """Name of its image."""
    is_label: bool
    """Whether its folder or its name says that it is an annotation."""
    is_image: bool
    """Whether its folder says that it is an image."""

    @property
    def key(self) -> tuple[str, ...]:
        """The split, folders and name that an image has in common with its annotation."""
        return (self.split, *self.parts, self.stem)


def scan(root: Path, suffixes: Iterable[str]) -> list[FoundFile]:
    """Return the files in and below a folder that have one of the endings, sorted; hidden files are left out.

    Args:
        root: The folder.
        suffixes: The endings, such as `.png`, in small letters.

    Raises:
        DataError: There are more files than a data set can have.
    """
    wanted = frozenset(suffixes)
    found: list[FoundFile] = []
    num_files = 0
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if _is_walked(name))
        num_files += len(names)
        if num_files > _MAX_FILES:
            raise DataError(
                f"{root}: must hold at most {_MAX_FILES} files, got more; give the data set's own folder"
            )
        for name in sorted(names):
            if is_data_file(Path(parent, name), wanted):
                found.append(_found(root, Path(parent, name)))
    return found


def samples_of(images: list[FoundFile]) -> list[Sample]:
    """Return a sample for each image. Its name is made of the file's name and the folders that differ between images.

    Every image is its own group, because the patients are not known.

    Args:
        images: The image files.
    """
    by_place = zip(*(image.parts for image in images), strict=False)
    num_common = len(list(takewhile(lambda parts: len(set(parts)) == 1, by_place)))
    names = ["_".join((*image.parts[num_common:], image.stem)) for image in images]
    by_name: dict[str, set[str]] = defaultdict(set)
    for image, name in zip(images, names, strict=True):
        by_name[name].add(image.split)
    samples = []
    for image, name in zip(images, names, strict=True):
        if len(by_name[name]) > 1:  # train/1.png and test/1.png
            name = f"{image.split}_{name}"
        samples.append(Sample(name, image.split, group=name, stratum=""))
    return samples


def find_image(images: list[FoundFile], wanted: str) -> list[FoundFile]:
    """Return the image files that a name in an annotation file may mean: those whose path ends like the name.

    Args:
        images: All image files of the data set.
        wanted: A file name, or a path or URL on the machine where the image was annotated.
    """
    parts = [
        same_name(part)
        for part in re.split(r"[\\/]", wanted.partition("?")[0])
        if part not in ("", ".", "..")
    ]
    if not parts:
        return []
    found = [image for image in images if same_name(image.path.name) == parts[-1]]
    for length in range(2, len(parts) + 1):
        closer = [
            image
            for image in found
            if [same_name(part) for part in image.path.parts[-length:]] == parts[-length:]
        ]
        if not closer:
            break
        found = closer
    return found


def _found(root: Path, path: Path) -> FoundFile:
    split, parts, is_label, is_image = "train", [], False, False
    for part in path.relative_to(root).parts[:-1]:
        lower = part.lower()
        is_label |= lower in _LABEL_FOLDERS
        is_image |= lower in _IMAGE_FOLDERS
        year = _YEAR.sub("", lower)
        if year in _SPLITS:
            split = _SPLITS[year]
        elif lower not in _LABEL_FOLDERS | _IMAGE_FOLDERS:
            parts.append(same_name(part))
    stem = same_name(path.stem).removesuffix(".ome")
    is_image &= path.suffix.lower() in IMAGE_SUFFIXES
    bare = stem if is_image else without_marks(_ROIS_ENDING.sub("", stem) or stem)
    is_label |= bare != stem
    return FoundFile(path, split, tuple(parts), _IMAGE_ENDING.sub("", bare) or bare, is_label, is_image)


def _is_walked(name: str) -> bool:
    lower = name.lower()
    return (
        not lower.startswith((".", "__macosx"))
        and not lower.endswith(".zarr")
        and lower not in _OTHER_FOLDERS
    )
