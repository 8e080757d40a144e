"""`bundle.json`: what a bundle holds and where it comes from. Imports no torch."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from searcher.data_pipeline.normalisation import Normalisation
from searcher.inference.image_kind import ImageKind
from searcher.models.settings import MAX_CHANNELS, MAX_CLASSES, PostprocessSettings
from searcher.study.ancestor import Ancestor
from searcher.study.config import Section

__all__ = [
    "MANIFEST",
    "MAX_NAME",
    "SCHEMA",
    "BundleManifest",
    "DataFacts",
    "FileFacts",
    "FormatFacts",
    "MemberFacts",
    "NormalisationFacts",
    "OnnxFacts",
    "PluginFacts",
]

MANIFEST = "bundle.json"
MAX_NAME = 200
"""Signs of a bundle's name."""
SCHEMA = "searcher-bundle-1"
"""What a bundle says it is; the number is raised when an older reader would misread a newer bundle."""

Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Pixels = Annotated[int, Field(ge=0, le=1 << 20)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _plain_name(value: str) -> str:
    if (
        not value
        or value.startswith(".")
        or "/" in value
        or "\\" in value
        or "\0" in value
        or value == MANIFEST
    ):
        raise PydanticCustomError("file_name", "must be the plain name of a file in the bundle")
    return value


FileName = Annotated[str, AfterValidator(_plain_name)]


PartName = Annotated[str, Field(pattern=r"^[a-z_.]{1,100}=[^=\x00-\x1f\x7f]{1,100}$")]


class FileFacts(Section):
    """The digest and size of a file in the bundle."""

    sha256: Sha256
    num_bytes: Count


class MemberFacts(Section):
    """One trained network of a bundle: its weights' file, and how it was trained."""

    weights: FileName
    """File with its weights."""
    study: str | None
    """Study that it was a trial of; None for a checkpoint of which nothing else is known."""
    trial: Count | None
    """Number of the trial."""
    epoch: Count
    """Epoch whose weights these are, counted from 1."""
    objective: str
    """Metric that chose the epoch."""
    value: FiniteFloat
    """That metric, on the validation images."""
    params: dict[str, Any]
    """What the search chose, by dotted key."""
    config: dict[str, Any]
    """The resolved configuration: `TrialConfig.to_dict()`."""
    tuned: dict[str, Any] | None
    """`Tuned.to_dict()`, where post-processing was tuned for these weights."""
    checkpoint_sha256: Sha256
    """Digest of the checkpoint that the weights were taken from."""
    data_fingerprint: Sha256
    """Fingerprint of the data that it was trained on."""
    history: dict[Count, dict[str, FiniteFloat]]
    """Every metric of every epoch."""
    lineage: tuple[Ancestor, ...]
    """The studies before, the nearest first."""


class DataFacts(Section):
    """The data set that the networks were trained on."""

    name: str
    licence: str
    """What may be done with it, and so perhaps with what was learnt from it."""
    fingerprints: tuple[Sha256, ...]
    class_name: str | None = Field(default=None, max_length=MAX_NAME)
    """Class of its objects, where it names one; not written where it names none."""

    @model_serializer(mode="wrap")
    def _without_no_class(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = as_usual(self)
        if self.class_name is None:
            del values["class_name"]
        return values


class NormalisationFacts(Section):
    """How the values of an image become 0..255; see `searcher.data_pipeline.normalisation`."""

    kind: Literal["fixed", "percentile"] = "fixed"
    low_percentile: FiniteFloat = Field(default=1.0, ge=0.0, le=100.0)
    """What becomes 0; unused by `fixed`."""
    high_percentile: FiniteFloat = Field(default=99.8, ge=0.0, le=100.0)
    """What becomes 255; unused by `fixed`."""

    @model_validator(mode="after")
    def _percentiles_are_in_order(self) -> "NormalisationFacts":
        if self.low_percentile >= self.high_percentile:
            raise ValueError(
                "low_percentile must be below high_percentile, got "
                f"{self.low_percentile:g} and {self.high_percentile:g}"
            )
        return self


class OnnxFacts(Section):
    """The ONNX file of a bundle, and how it was checked.

    It computes maps float32[B, C, H, W] from normalised images uint8[B, H, W, `channels`].
    """

    file: FileName
    height: Pixels = Field(ge=1)
    width: Pixels = Field(ge=1)
    """Pixels of the images that it takes; the batch may be any."""
    opset: Count
    max_difference: FiniteFloat = Field(ge=0.0)
    """Largest difference of a probability from PyTorch's, of all that was compared."""
    compared_on: tuple[str, ...]
    """The inputs that were compared."""


class FormatFacts(Section):
    """Files that a plug-in's export format added to the bundle, and its facts about them."""

    files: tuple[FileName, ...] = Field(min_length=1)
    facts: dict[str, Any]
    """Facts about them, by the format."""


class PluginFacts(Section):
    """A plug-in that a bundle's networks need. Opening a bundle never searches for it or runs it."""

    name: str = Field(min_length=1, max_length=MAX_NAME)
    """The distribution, the module, or the file without its folder."""
    version: str = Field(max_length=MAX_NAME)
    """The distribution's; empty for a file."""
    sha256: Sha256 | Literal[""]
    """Digest of its Python files."""
    parts: tuple[PartName, ...] = Field(min_length=1)
    """What the configurations name of it, `model.name=attention_unet` say."""


class BundleManifest(Section):
    """The content of `bundle.json`: everything known about a bundle and its files."""

    schema_version: str = SCHEMA
    name: str = Field(min_length=1, max_length=MAX_NAME)
    """What the bundle is called in tables and reports."""
    created_at: datetime
    versions: dict[str, str]
    """Of Python and the packages that wrote it."""
    members: tuple[MemberFacts, ...] = Field(min_length=1)
    """The networks; of several, the mean of the maps is taken."""
    postprocess: PostprocessSettings
    """From maps or detections to instances."""
    tta: bool
    """Whether maps are the mean of 8 turned and mirrored views."""
    tile_px: Pixels
    """Side of the tiles that validation saw; 0: whole images."""
    tile_overlap_px: Pixels
    pixel_size_um: FiniteFloat | None = Field(gt=0.0)
    """Side of a pixel of the images that it was trained on, in micrometres; None where nobody said."""
    channels: int = Field(default=3, ge=1, le=MAX_CHANNELS)
    """Channels of the images; 3 in bundles of a time when there was nothing else, and `fixed`, and `uint8`."""
    dtype: Literal["uint8", "uint16"] = "uint8"
    """Of the images that it was trained on."""
    normalisation: NormalisationFacts = NormalisationFacts()
    class_names: tuple[str, ...] = Field(default=(), max_length=MAX_CLASSES)
    """Classes that the networks tell apart, class 1 first; not written where there are none."""
    data: DataFacts
    onnx: OnnxFacts | None
    plugins: tuple[PluginFacts, ...] = ()
    """What has to be known to open it, in addition to searcher; not written where there is none."""
    formats: dict[str, FormatFacts] = Field(default_factory=dict)
    """Files in formats of plug-ins; left out if there are none."""
    files: dict[FileName, FileFacts]
    """Every file but this one."""

    @model_serializer(mode="wrap")
    def _without_no_plugins(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return plain values that a version before plug-ins reads, too, where there is none."""
        values: dict[str, Any] = as_usual(self)
        for key in ("plugins", "formats", "class_names"):
            if not getattr(self, key):
                del values[key]
        return values

    @property
    def kind(self) -> ImageKind:
        """The kind of images that the networks expect: channels, type and normalisation."""
        how = self.normalisation
        normalisation = Normalisation(how.kind, how.low_percentile, how.high_percentile)
        return ImageKind(self.channels, self.dtype, normalisation)

    @model_validator(mode="after")
    def _names_its_files(self) -> "BundleManifest":
        named = {member.weights for member in self.members} | ({self.onnx.file} if self.onnx else set())
        named |= {name for each in self.formats.values() for name in each.files}
        if missing := sorted(named - self.files.keys()):
            raise ValueError(f"files must list every file that is named, lacks {', '.join(missing)}")
        return self
