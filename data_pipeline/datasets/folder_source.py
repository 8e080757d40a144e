"""What all data sets that lie in a folder say of themselves."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from searcher.data_pipeline.datasets.samples import Sample
from searcher.data_pipeline.images import PixelKind

__all__ = ["FolderSource"]


class FolderSource(ABC):
    """Base class of data sets in a folder: the part of `SampleSource` that is the same for all layouts.

    A subclass sets `_kind`, the images' channels and depth, and defines `samples`, `fingerprint` and `read`.

    Args:
        root: The data set's folder.
    """

    _kind: PixelKind

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    @abstractmethod
    def samples(self) -> Sequence[Sample]:
        """All samples, in the layout's order."""

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.root.resolve().name

    @property
    def licence(self) -> str:
        """What may be done with the images: empty, because most layouts do not say."""
        return ""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the images' channels."""
        return self._kind.names

    @property
    def dtype(self) -> Literal["uint8", "uint16"]:
        """Type of the pixels, `uint8` or `uint16`."""
        return self._kind.dtype

    @property
    def pixel_size_um(self) -> float | None:
        """Side of a pixel in micrometres if it is known and the same for all images, else None."""
        sizes = {sample.pixel_size_um for sample in self.samples}
        return sizes.pop() if len(sizes) == 1 else None
