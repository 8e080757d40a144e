"""Datasets: images with instance label maps, from folders of several layouts or drawn by a program."""

import logging
from collections.abc import Callable
from pathlib import Path

from data_pipeline.datasets.base import SPLITS, Sample, SampleSource
from data_pipeline.datasets.folder import LabelFolder
from data_pipeline.datasets.glas import GlasFolder
from data_pipeline.datasets.layouts.arrays import open_conic, open_pannuke
from data_pipeline.datasets.layouts.coco import open_coco
from data_pipeline.datasets.layouts.cvat import open_cvat
from data_pipeline.datasets.layouts.label_studio import open_label_studio
from data_pipeline.datasets.layouts.nnunet import open_nnunet
from data_pipeline.datasets.layouts.object_masks import open_object_masks
from data_pipeline.datasets.layouts.ome_zarr import open_ome_zarr
from data_pipeline.datasets.layouts.paired import open_paired
from data_pipeline.datasets.synthetic import SyntheticGlands
from data_pipeline.datasets.writing import write_release
from data_pipeline.exceptions import DataError
from data_pipeline.images import images_by_stem

__all__ = [
    "SPLITS",
    "GlasFolder",
    "LabelFolder",
    "Sample",
    "SampleSource",
    "SyntheticGlands",
    "open_dataset",
    "write_release",
]

logger = logging.getLogger(__name__)


def open_dataset(path: Path, *, strict: bool = True) -> SampleSource:
    """Return the dataset that lies in a folder; its layout is recognised and logged.

    Args:
        path: A folder in one of the layouts of `docs/data.md`.
        strict: Raise when any file is unusable; otherwise leave it out and list it in the source's `problems`.

    Raises:
        DataError: The folder is missing, empty or of no known layout, or files in it are unusable.
    """
    if not path.exists():
        raise DataError(f"{path}: the data folder must exist, got nothing; check the path")
    if not path.is_dir():
        raise DataError(f"{path}: the data must be a folder, got a file; give the folder that holds it")
    try:
        source = _recognise(path, strict=strict)
    except OSError as error:
        raise DataError(
            f"{path}: the folder must be readable, got {error.strerror}; change its mode"
        ) from error
    logger.info("%s: %s layout, %d images", path, source.kind, len(source.samples))
    return source


_OPENERS: tuple[Callable[..., SampleSource | None], ...] = (
    open_nnunet,
    open_object_masks,
    open_ome_zarr,
    open_pannuke,
    open_conic,
    open_coco,
    open_cvat,
    open_label_studio,
    open_paired,
)
"""Layouts of other programs and data sets, asked in turn; each returns None for what is none of its own."""


def _recognise(path: Path, *, strict: bool) -> SampleSource:
    if LabelFolder.recognises(path):
        return LabelFolder(path, strict=strict)
    if GlasFolder.recognises(path):
        return GlasFolder(path, strict=strict)
    for opener in _OPENERS:
        source = opener(path, strict=strict)
        if source is not None:
            return source
    if (path / "images").is_dir() and (path / "labels").is_dir():
        return LabelFolder(path, strict=strict)
    raise DataError(_unknown_layout(path))


def _unknown_layout(path: Path) -> str:
    rule = "the folder must be a GlaS release (train_1.bmp, train_1_anno.bmp, ..) or hold images/ and labels/"
    inside = [child for child in sorted(path.iterdir()) if not child.name.startswith(".")]
    nested = [child for child in inside if child.is_dir() and GlasFolder.recognises(child)]
    if nested:
        return f"{path}: {rule}, got a folder around one; give {nested[0]}"
    got = (
        f"{len(images_by_stem(path))} images of other names among {len(inside)} entries"
        if inside
        else "nothing"
    )
    return f"{path}: {rule}, got {got}; check the path"
