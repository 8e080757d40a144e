"""The table of layouts that other programs and published data sets have."""

from pathlib import Path
from typing import Protocol

from searcher.data_pipeline.datasets.layouts.arrays import open_conic, open_pannuke
from searcher.data_pipeline.datasets.layouts.base import LayoutSource
from searcher.data_pipeline.datasets.layouts.coco import open_coco
from searcher.data_pipeline.datasets.layouts.cvat import open_cvat
from searcher.data_pipeline.datasets.layouts.label_studio import open_label_studio
from searcher.data_pipeline.datasets.layouts.nnunet import open_nnunet
from searcher.data_pipeline.datasets.layouts.object_masks import open_object_masks
from searcher.data_pipeline.datasets.layouts.ome_zarr import open_ome_zarr
from searcher.data_pipeline.datasets.layouts.paired import open_paired

__all__ = ["open_layout"]


class _Opener(Protocol):
    def __call__(self, root: Path, *, strict: bool) -> LayoutSource | None:
        """Return the data set in a folder, None if it is of another layout."""


_OPENERS: tuple[_Opener, ...] = (
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
"""Asked in turn: what one says about a folder is more certain than what the next ones say."""


def open_layout(root: Path, *, strict: bool) -> LayoutSource | None:
    """Return the data set in a folder of one of the layouts, or in the only folder in it; None if it is of none.

    Raises:
        DataError: Files in it are unusable (`strict` only), or nothing in it is usable.
    """
    for opener in _OPENERS:
        source = opener(root, strict=strict)
        if source is not None:
            return source
    inside = [child for child in root.iterdir() if not child.name.startswith((".", "__MACOSX"))]
    if len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink():  # as archives unpack
        return open_layout(inside[0], strict=strict)
    return None
