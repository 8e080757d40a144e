"""The formats that networks are exported in, ours and those of plug-ins. Imports no torch.

A plug-in registers its own by a decorator:

    from searcher.bundle.formats import register_export

    @register_export("state_dict")
    def state_dict(networks, folder):
        for number, model in enumerate(networks.models, start=1):
            torch.save(model.state_dict(), folder / f"network-{number}.pt")

`searcher export --as state_dict --to DIR` then writes it. `--as bundle --as state_dict` adds it to a bundle's folder.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from searcher.exceptions import UserError
from searcher.parts import Part
from searcher.plugins import Registry, broken_plugins

if TYPE_CHECKING:
    from searcher.bundle.manifest import DataFacts
    from searcher.bundle.member import BundleMember
    from searcher.data_pipeline.pixel_arrays import Pixels
    from searcher.models.base import SegmentationModel

__all__ = ["BUNDLE", "EXPORTS", "ExportFormat", "Networks", "check_formats", "register_export"]

F = TypeVar("F", bound=Callable[..., Mapping[str, Any] | None])

BUNDLE = "bundle"
"""The format that is written by default; the only one that searcher opens."""


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Trained networks to export, with everything that a format may write about them."""

    name: str
    """What they are called."""
    members: "Sequence[BundleMember]"
    """At least one; several are an ensemble. Each has its resolved configuration, `network.config`, and its
    weights."""
    models: "Sequence[SegmentationModel]"
    """Their models, on the CPU, in evaluation mode. Leave them as they are."""
    data: "DataFacts"
    """What they were trained on."""
    channels: int = 3
    """Of the images that they take."""
    size_px: int = 512
    """Height and width of the images that the exported network takes, where a format has to fix them."""
    pixel_size_um: float | None = None
    """Side of a pixel of the training images in micrometres; None where nobody said."""
    images: "Mapping[str, Pixels]" = field(default_factory=dict)
    """Images to compare what was exported with PyTorch on, by what they are: uint8[H, W, channels], normalised."""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """Image files for the model card, by file name."""


@dataclass(frozen=True)
class ExportFormat(Part[Mapping[str, Any] | None]):
    """A registered export format. `build` writes its files; see `register_export`."""

    check: "Callable[[Sequence[SegmentationModel]], None] | None" = None
    """Raises a `UserError` if the models cannot be written in this format; called before the other work."""


EXPORTS: Registry[ExportFormat] = Registry(
    "export format",
    key="export --as",
    built_in={BUNDLE: "searcher.bundle.contents:BUNDLE_FORMAT", "onnx": "searcher.bundle.onnx:ONNX_FORMAT"},
)
"""By `searcher export --as`."""


def register_export(
    name: str, *, check: "Callable[[Sequence[SegmentationModel]], None] | None" = None
) -> Callable[[F], F]:
    """Return a decorator that registers a function as an export format, for a plug-in.

    The function takes the `Networks` and an existing folder. It writes plain files into the folder, no subfolders. It
    returns None, or facts about the files, which must be JSON. When all formats have written their files, searcher
    flushes the folder and gives it its final name.

    Args:
        name: Name of the format in `--as`.
        check: Function that raises UserError if the models cannot be exported in this format; see `ExportFormat.check`.
    """

    def register(build: F) -> F:
        EXPORTS.register(name, ExportFormat(build, check=check))
        return build

    return register


def check_formats(names: Collection[str]) -> None:
    """Check that every name is a registered export format and occurs once.

    Raises:
        UserError: A name is unknown, or occurs twice; the message lists the known ones.
    """
    for name in names:
        if not EXPORTS.known(name):
            why = "".join(f"; {problem}" for problem in broken_plugins())
            raise UserError(
                f"--as: must be one of {', '.join(EXPORTS.names())}, got {name!r}; choose one of them{why}"
            )
    if not names or len({*names}) < len([*names]):
        raise UserError(f"--as: must name formats, each once, got {', '.join(names) or 'none'}; remove one")
