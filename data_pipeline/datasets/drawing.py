"""Writing drawn images as files."""

from collections.abc import Callable
from pathlib import Path

from searcher.data_pipeline.datasets.canonical import import_dataset
from searcher.data_pipeline.datasets.synthetic import SyntheticSource
from searcher.data_pipeline.datasets.writing import write_release

__all__ = ["write_drawn"]


def write_drawn(
    source: SyntheticSource, folder: Path, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write synthetic images to a folder: with classes in the canonical layout, without in that of the GlaS release.

    Args:
        source: The synthetic data set.
        folder: The folder, new or empty.
        progress: Called with the number of images done and the number of all images.

    Raises:
        DataError: The folder is not empty, or cannot be written.
    """
    if hasattr(source, "read_annotated"):
        import_dataset(source, source.name, folder, labels_are_said=True, progress=progress)
    else:
        write_release(source, folder, progress)
