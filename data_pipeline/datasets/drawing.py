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
    """Write drawn images: in the layout of the GlaS release, or with classes as the canonical folder.

    Args:
        source: What is drawn.
        folder: Must be new or empty.
        progress: Called with (images done, images in all).

    Raises:
        DataError: The folder is taken, or cannot be written.
    """
    if hasattr(source, "read_annotated"):
        import_dataset(source, source.name, folder, labels_are_said=True, progress=progress)
    else:
        write_release(source, folder, progress)
