"""Writing a data set as files, in the layout of the GlaS release, which `GlasFolder` reads."""

import csv
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from searcher.data_pipeline.datasets.samples import SampleSource
from searcher.data_pipeline.exceptions import DataError

__all__ = ["new_folder", "write_release"]


def write_release(
    source: SampleSource, folder: Path, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write a data set in the layout of the GlaS release: `train_1.png`, `train_1_anno.png`, .., `Grade.csv`.

    The folder is written under a temporary name next to its place and then renamed: an interrupted call leaves nothing.

    Args:
        source: A data set whose samples are named as in the GlaS release, with at most 65,535 objects per image.
        folder: Folder to write; must be new or empty.
        progress: Called with (images written, images in all).

    Raises:
        DataError: The folder is not empty, or cannot be written.
    """
    with new_folder(folder) as temporary:
        _write(source, temporary, progress)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder, which is renamed to `folder` when the `with` block succeeds, else deleted.

    Args:
        folder: The final path; must be new or an empty folder.

    Raises:
        DataError: The folder is not empty, or cannot be written.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder}: must be a new or empty folder, got one with something in it; choose another"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".partial.", dir=folder.parent))
    except OSError as error:
        raise DataError(
            f"{folder}: must be a place to write to, got {error.strerror}; choose another"
        ) from error
    try:
        yield temporary
        mask = os.umask(0o022)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
        temporary.rename(folder)
    except OSError as error:
        raise DataError(f"{folder}: could not be written: {error.strerror or error}; make room") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(source: SampleSource, folder: Path, progress: Callable[[int, int], None] | None) -> None:
    for index, sample in enumerate(source.samples):
        image, labels = source.read(index)
        assert labels.max() < 2**16, sample.id
        Image.fromarray(image).save(folder / f"{sample.id}.png")
        Image.fromarray(labels.astype(np.uint16)).save(folder / f"{sample.id}_anno.png")
        if progress is not None:
            progress(index + 1, len(source.samples))
    with (folder / "Grade.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "patient ID", "grade (GlaS)"))
        writer.writerows((sample.id, sample.group, sample.stratum) for sample in source.samples)
