"""Datasets: images with instance label maps, from folders of several layouts or drawn by a program."""

import logging
from pathlib import Path

from searcher.data_pipeline.datasets.folder import LabelFolder
from searcher.data_pipeline.datasets.glas import GlasFolder
from searcher.data_pipeline.datasets.samples import SPLITS, Sample, SampleSource
from searcher.data_pipeline.datasets.synthetic import SyntheticGlands
from searcher.data_pipeline.datasets.writing import write_release
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import images_by_stem, subfolder

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
    """Return the data set in a folder, whose layout is recognised and logged.

    Args:
        path: A folder in one of the layouts of `docs/data.md`.
        strict: Whether to raise an error if any file is unusable; otherwise such files are left out and listed in the
            source's `problems`.

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


def _recognise(path: Path, *, strict: bool) -> SampleSource:
    if LabelFolder.recognises(path):
        return LabelFolder(path, strict=strict)
    if GlasFolder.recognises(path):
        return GlasFolder(path, strict=strict)
    if not _releases_in(path):
        # Imported here, since shapely, zarr and scipy cost every other process its start.
        from searcher.data_pipeline.datasets.layouts.table import open_layout

        source = open_layout(path, strict=strict)
        if source is not None:
            return source
    if subfolder(path, "images") is not None and subfolder(path, "labels") is not None:
        return LabelFolder(path, strict=strict)
    raise DataError(_unknown_layout(path))


def _releases_in(path: Path) -> list[Path]:
    """Return the folders in a folder that hold annotations under the names of the GlaS release."""
    children = [
        child for child in sorted(path.iterdir()) if child.is_dir() and not child.name.startswith(".")
    ]
    return [child for child in children if GlasFolder.recognises(child) and any(child.glob("*_anno.*"))]


def _unknown_layout(path: Path) -> str:
    rule = "the folder must hold images with annotations in a layout of docs/data.md, such as images/ and labels/"
    inside = [child for child in sorted(path.iterdir()) if not child.name.startswith(".")]
    if nested := _releases_in(path):
        return f"{path}: {rule}, got a folder around one; give {nested[0]}"
    got = (
        f"{len(images_by_stem(path))} images of other names among {len(inside)} entries"
        if inside
        else "nothing"
    )
    return f"{path}: {rule}, got {got}; check the path"
