"""The table of layouts that other programs and published data sets have, and that plug-ins bring."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from searcher.plugins import Registry

if TYPE_CHECKING:
    from searcher.data_pipeline.datasets.samples import SampleSource

__all__ = ["LAYOUTS", "Opener", "open_layout", "register_layout"]


class Opener(Protocol):
    """A function that opens the data set in a folder if the folder has one particular layout."""

    def __call__(self, root: Path, *, strict: bool) -> "SampleSource | None":
        """Return the data set in a folder, None if it is of another layout.

        Args:
            root: The folder.
            strict: Raise when any file is unusable; otherwise leave it out and list it in the source's `problems`.

        Raises:
            DataError: Files in it are unusable (`strict` only), or nothing in it is usable.
        """


_HERE = "searcher.data_pipeline.datasets.layouts"

LAYOUTS: Registry[Opener] = Registry(
    "data-set layout",
    key="data layout",
    built_in={
        "nnunet": f"{_HERE}.nnunet:open_nnunet",
        "object_masks": f"{_HERE}.object_masks:open_object_masks",
        "ome_zarr": f"{_HERE}.ome_zarr:open_ome_zarr",
        "pannuke": f"{_HERE}.arrays:open_pannuke",
        "conic": f"{_HERE}.arrays:open_conic",
        "coco": f"{_HERE}.coco:open_coco",
        "cvat": f"{_HERE}.cvat:open_cvat",
        "label_studio": f"{_HERE}.label_studio:open_label_studio",
        "paired": f"{_HERE}.paired:open_paired",
    },
)
"""Those of plug-ins are tried first, then ours in turn: what one says about a folder is more certain than what the next
ones say."""

OpenerT = TypeVar("OpenerT", bound=Opener)


def register_layout(name: str) -> Callable[[OpenerT], OpenerT]:
    """Return a decorator that registers an `Opener` as a layout under a name, for a plug-in."""
    return lambda opener: LAYOUTS.register(name, opener)  # type: ignore[return-value]


def open_layout(root: Path, *, strict: bool) -> "SampleSource | None":
    """Return the data set in a folder, or in its only subfolder, if the layout is a registered one; None otherwise.

    Args:
        root: The folder.
        strict: Whether an unusable file is an error.

    Raises:
        DataError: Files are unusable (`strict` only), or nothing in the folder is usable.
    """
    names, ours = LAYOUTS.names(), LAYOUTS.built_in_names()
    for name in (*(each for each in names if each not in ours), *ours):
        source = LAYOUTS[name](root, strict=strict)
        if source is not None:
            return source
    inside = [child for child in root.iterdir() if not child.name.startswith((".", "__MACOSX"))]
    if len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink():  # as archives unpack
        return open_layout(inside[0], strict=strict)
    return None
