"""The resolved configuration of one trial: everything that decides what is trained, and nothing else.

A study file gives the fixed values, the search space the rest; `TrialConfig` is their sum after validation.
Its canonical hash is what proves that the trainer applied what the sampler asked for.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.pipeline_file import MAX_PIPELINE, read_pipeline
from searcher.data_pipeline.presets import AUGMENTATIONS
from searcher.models.settings import SETTINGS, ModelSettings, PostprocessSettings
from searcher.parts import Options, PartSection, Section, one_of
from searcher.plugins import Registry
from searcher.study.objectives import METRICS
from searcher.study.parts import OPTIMIZERS, SCHEDULES

if TYPE_CHECKING:
    from searcher.data_pipeline.normalisation import Normalisation

__all__ = [
    "DEFAULT_MODEL",
    "MAX_SEED",
    "MEANING",
    "AugmentConfig",
    "DataConfig",
    "OptimizerConfig",
    "ScheduleConfig",
    "Section",
    "TrainConfig",
    "TrialConfig",
    "TuningConfig",
    "WarmStartConfig",
]

MEANING = 2
"""Raised when the same configuration comes to train to another value on purpose: trials before are not compared with
trials after. 2: labels shrink without moving, reflections in crops are instances of their own."""

MAX_SEED = 2**63 - 1
"""Highest seed: databases and random generators hold 64 bits."""
_MAX_SYNTHETIC_PX = 10**10
"""Most pixels of all synthetic images together; the store then takes about 50 GB of disk."""
_MAX_COVERAGE = 8
"""How often overlapping tiles may show a pixel to the network, along each axis."""

_NEW_KEYS = {
    "normalisation",
    "low_percentile",
    "high_percentile",
    "learn_classes",
    "class_balance",
    "class_weighting",
    "class_digest",
    "synthetic",
}
"""Keys of `data` that are written down only where they say something."""

_OF_THE_DATA = ("channels", "num_classes", "class_names", "class_weights")
"""Keys of `model` that are filled in from the data, whose fingerprint and classes are compared separately."""

_TUNED_FOR = ("objective", "object_f1", "object_dice", "object_f1+object_dice", "ap50", "ap", "pq", "aji")
"""Values of `tuning.metric` other than a plug-in's metric."""

DEFAULT_MODEL = "unet"
"""The model of a configuration that names none."""


class DataConfig(Section):
    """Settings of the data: which images are used for training and validation, and how they are streamed."""

    val_fraction: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Part of the training images held out for validation, by patient. Unused when `folds` is set."""
    folds: int = Field(default=0, ge=0, le=1000)
    """Number of cross-validation folds by patient; 0 uses `val_fraction` instead."""
    fold: int = Field(default=0, ge=0, le=999)
    """Which fold validates, counted from 0."""
    split_seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of the split. Trials of one study share it, so that they are comparable."""
    samples_per_epoch: int = Field(default=0, ge=0, le=10_000_000)
    """Crops per epoch; 0 takes as many as there are training images."""
    num_threads: int = Field(default=2, ge=0, le=256)
    """Threads that load and augment. What they produce does not depend on their number."""
    normalisation: Literal["auto", "fixed", "percentile"] = "auto"
    """How an image's values become 0..255. `fixed`: 8 bit stay, 16 bit by their whole range. `percentile`: two
    percentiles of each channel become 0 and 255. `auto`: told from the images; `fixed` for 8 bit in bright field."""
    low_percentile: float = Field(default=1.0, ge=0.0, le=100.0)
    """What becomes 0 by `percentile`."""
    high_percentile: float = Field(default=99.8, ge=0.0, le=100.0)
    """What becomes 255 by `percentile`."""
    learn_classes: bool = False
    """Learn what each object is, besides where it is. The data must name the classes of objects."""
    class_balance: float = Field(default=0.0, ge=0.0, le=1.0)
    """Part of the crops that are taken around an object, each class being aimed at equally often. 0 takes crops from
    anywhere. Needs `learn_classes`."""
    class_weighting: float = Field(default=1.0, ge=0.0, le=1.0)
    """How much more the loss of rare classes counts: 1 is inversely to their number of training objects, a factor of 10
    at most from the mean; 0 counts all alike. Needs `learn_classes`."""
    class_digest: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """SHA-256 of the classes of the data's objects. Not to be chosen: it is filled in where classes are learned."""
    synthetic: Literal["glands", "nuclei"] = "glands"
    """What is drawn when the study runs without `--data`: `glands`, or `nuclei` of two classes."""
    synthetic_images: int = Field(default=40, ge=4, le=1_000_000)
    """Synthetic images to draw when the study runs without `--data`."""
    synthetic_size_px: int = Field(default=192, ge=64, le=16_384)
    """Side length of a synthetic image."""
    synthetic_seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of the synthetic images."""

    @property
    def split(self) -> dict[str, int | float]:
        """The keys that decide which images are used for validation, with their values."""
        by_fold = ("folds", "fold", "split_seed")
        return {
            key: getattr(self, key)
            for key in (by_fold if self.folds else ("folds", "val_fraction", "split_seed"))
        }

    @property
    def normalised_by(self) -> "Normalisation":
        """The rule of normalisation. A resolved configuration with `auto` is from before normalisation: `fixed`."""
        from searcher.data_pipeline.normalisation import Normalisation  # NumPy, which no study file needs

        kind = "fixed" if self.normalisation == "auto" else self.normalisation
        return Normalisation(kind, self.low_percentile, self.high_percentile)

    @model_serializer(mode="wrap")
    def _without_new_defaults(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return plain values, without newer keys at their defaults: digests stay what they were."""
        values: dict[str, Any] = as_usual(self)
        return {
            key: value
            for key, value in values.items()
            if key not in _NEW_KEYS or value != type(self).model_fields[key].default
        }

    @model_validator(mode="after")
    def _classes_are_learned(self) -> "DataConfig":
        for key in ("class_balance", "class_weighting", "class_digest"):
            value = getattr(self, key)
            if not self.learn_classes and value != type(self).model_fields[key].default:
                raise ValueError(f"{key} needs learn_classes=true, got {key}={value} learn_classes=False")
        return self

    @model_validator(mode="after")
    def _percentiles_are_in_order(self) -> "DataConfig":
        if self.low_percentile >= self.high_percentile:
            raise ValueError(
                "low_percentile must be below high_percentile, got "
                f"low_percentile={self.low_percentile:g} high_percentile={self.high_percentile:g}"
            )
        return self

    @model_validator(mode="after")
    def _synthetic_images_fit_a_disk(self) -> "DataConfig":
        num_px = self.synthetic_images * self.synthetic_size_px**2
        if num_px > _MAX_SYNTHETIC_PX:
            raise ValueError(
                f"synthetic_images times synthetic_size_px squared must be at most {_MAX_SYNTHETIC_PX:.0e} pixels, "
                f"got synthetic_images={self.synthetic_images} synthetic_size_px={self.synthetic_size_px}; lower one"
            )
        return self

    @model_validator(mode="after")
    def _fold_is_one_of_folds(self) -> "DataConfig":
        if self.folds == 1:
            raise ValueError("folds must be 0 (no cross-validation) or at least 2, got folds=1")
        if self.folds and self.fold >= self.folds:
            raise ValueError(f"fold must be below folds, got fold={self.fold} folds={self.folds}")
        if not self.folds and self.fold:
            raise ValueError(f"fold needs folds of at least 2, got fold={self.fold} folds=0")
        return self


class AugmentConfig(PartSection):
    """Settings of the augmentation: how a training image is changed before the network gets it."""

    registry: ClassVar[Registry[Any]] = AUGMENTATIONS
    named_by: ClassVar[str] = "preset"

    preset: Annotated[str, one_of(AUGMENTATIONS)] = "standard"
    """`poster`: flips and a random crop, each with p = 0.5. `standard`: dihedral, affine, elastic, colour. `strong`:
    farther, with H&E stain jitter for colour, and blur."""
    crop_px: int = Field(default=448, ge=16, le=16_384)
    """Side length of a training crop at the images' own scale (`poster` resizes to it instead)."""
    strength: float = Field(default=1.0, ge=0.0, le=3.0)
    """Scales the magnitudes of `standard` and `strong`; 1 is the preset as designed, 0 only crops, flips, rotates."""
    options: Options = Field(default={}, validate_default=True)
    """Settings of a plug-in's preset."""
    pipeline: str = Field(default="", max_length=MAX_PIPELINE)
    """In place of a preset: a pipeline of albumentations. A study file names the YAML or JSON file that it is saved in;
    a configuration has its content."""

    unsaid: ClassVar[Sequence[str]] = ("options", "pipeline")

    @model_validator(mode="before")
    @classmethod
    def _pipeline_takes_the_presets_place(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("pipeline"):
            beside = sorted({"preset", "strength", "options"} & values.keys())
            if beside:
                raise ValueError(
                    f"pipeline takes the place of preset, strength and options, got {', '.join(beside)} beside it; "
                    "remove one or the other"
                )
        return values

    @field_validator("pipeline")
    @classmethod
    def _is_content(cls, pipeline: str) -> str:
        if pipeline:
            try:
                read_pipeline(pipeline)
            except DataError as error:
                raise ValueError(str(error)) from None
        return pipeline

    @model_serializer(mode="wrap")
    def _without_what_it_replaces(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = as_usual(self)
        if self.pipeline:
            return {key: values[key] for key in ("crop_px", "pipeline")}
        return {key: value for key, value in values.items() if key not in self.unsaid or value}


class OptimizerConfig(PartSection):
    """Settings of the optimiser. Weight decay never applies to norms and biases."""

    registry: ClassVar[Registry[Any]] = OPTIMIZERS

    name: Annotated[str, one_of(OPTIMIZERS)] = "adamw"
    """Optimiser; `adam` adds weight decay to the gradient (L2), `adamw` decouples it."""
    lr: float = Field(default=1e-3, gt=0.0)
    """Peak learning rate."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Weight decay."""
    momentum: float = Field(default=0.9, ge=0.0, le=1.0)
    """Momentum of `sgd`; unused by the others."""
    nesterov: bool = False
    """Nesterov momentum for `sgd`; needs a momentum above 0."""
    options: Options = Field(default={}, validate_default=True)
    """Settings of a plug-in's optimiser."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "OptimizerConfig":
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise ValueError(
                f"nesterov needs name='sgd' and momentum above 0, got name='{self.name}' momentum={self.momentum}"
            )
        return self


class ScheduleConfig(PartSection):
    """Settings of the learning-rate schedule over the training steps."""

    registry: ClassVar[Registry[Any]] = SCHEDULES

    name: Annotated[str, one_of(SCHEDULES)] = "cosine"
    """`plateau` multiplies the rate by `plateau_factor` when the objective has not improved."""
    warmup_epochs: float = Field(default=0.0, ge=0.0, le=100_000.0)
    """Epochs of linear warm-up from 0 to the peak rate, before the schedule proper."""
    min_lr_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Lowest rate of `cosine` and `plateau`, as a fraction of the peak."""
    plateau_patience: int = Field(default=5, ge=1, le=100_000)
    """Epochs without improvement before `plateau` lowers the rate."""
    plateau_factor: float = Field(default=0.5, gt=0.0, lt=1.0)
    """What `plateau` multiplies the rate by."""
    options: Options = Field(default={}, validate_default=True)
    """Settings of a plug-in's schedule."""


class TrainConfig(Section):
    """Settings of the training loop."""

    epochs: int = Field(default=20, ge=1, le=100_000)
    """Epochs of a trial that is neither pruned nor stopped."""
    batch_size: int = Field(default=4, ge=1, le=65_536)
    """Crops per optimiser step."""
    grad_clip_norm: float = Field(default=0.0, ge=0.0)
    """Largest L2 norm of all gradients together; 0 does not clip."""
    ema_decay: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Decay of the exponential moving average of the weights that is validated and kept; 0 keeps none."""
    early_stop_patience: int = Field(default=0, ge=0, le=100_000)
    """Epochs without improvement of the objective before the trial stops as complete; 0 never stops."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto` autocasts to bfloat16 on CUDA devices that have it, and trains in float32 elsewhere."""
    compile: bool = False
    """Compile the network with `torch.compile`."""
    eval_tile_px: int = Field(default=0, ge=0, le=65_536)
    """Validate by overlapping tiles of this side length; 0 takes whole images, but tiles of 1024 px of an image above 4
    million pixels."""
    eval_tile_overlap_px: int = Field(default=64, ge=0, le=65_536)
    """Overlap of neighbouring tiles."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of initial weights, crops, augmentation and dropout."""

    @model_validator(mode="after")
    def _tiles_advance(self) -> "TrainConfig":
        if self.eval_tile_px and self.eval_tile_overlap_px >= self.eval_tile_px:
            raise ValueError(
                "eval_tile_overlap_px must be below eval_tile_px, got "
                f"eval_tile_overlap_px={self.eval_tile_overlap_px} eval_tile_px={self.eval_tile_px}"
            )
        step_px = self.eval_tile_px - self.eval_tile_overlap_px
        if self.eval_tile_px and self.eval_tile_px > _MAX_COVERAGE * step_px:
            raise ValueError(
                f"eval_tile_overlap_px must be at most {_MAX_COVERAGE - 1}/{_MAX_COVERAGE} of eval_tile_px, got "
                f"eval_tile_overlap_px={self.eval_tile_overlap_px} eval_tile_px={self.eval_tile_px}; lower the overlap"
            )
        return self


class TuningConfig(Section):
    """Settings of the tuning after training: what is tuned on the validation images and stored with `best.pt`."""

    postprocess: bool = False
    """Tune `[postprocess]`: nothing is trained for it, it takes seconds."""
    metric: Annotated[str, one_of(METRICS, ours=_TUNED_FOR)] = "objective"
    """What is tuned for: the study's objective, a metric, or the mean of two."""
    tta: bool = False
    """Tune for the mean over the 8 turned and mirrored versions of an image. Predict by it unless one view is
    significantly better. Needs `postprocess`."""

    @model_validator(mode="after")
    def _tta_is_tuned_for(self) -> "TuningConfig":
        if self.tta and not self.postprocess:
            raise ValueError("tta needs postprocess=true, got tta=True postprocess=False")
        return self


class WarmStartConfig(Section):
    """Settings for starting from another trial's checkpoint, with another configuration."""

    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Digest of the checkpoint whose weights training begins from; empty: from none."""
    optimizer: Literal["reset", "keep"] = "reset"
    """`reset` begins the optimiser anew; `keep` takes its state over too, where it and every parameter are the same."""
    freeze: Literal["none", "encoder", "all_but_head"] = "none"
    """Layers that keep the checkpoint's weights, and their norms its statistics. Not without a checkpoint."""
    bundle: str = Field(default="", max_length=4096)
    """Folder of a bundle whose first network training begins from, in place of a checkpoint. `sha256` may be left out:
    it is the digest of that network's weights."""

    @model_serializer(mode="wrap")
    def _without_no_bundle(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return plain values as they were written before there were bundles to begin from."""
        values: dict[str, Any] = as_usual(self)
        if not values.get("bundle"):
            values.pop("bundle", None)
        return values


def _model_of(value: Any) -> ModelSettings:
    """Return the settings of the model that a table names, or has by default; all that is wrong with them at once."""
    if isinstance(value, ModelSettings):
        return value
    if not isinstance(value, Mapping):
        raise PydanticCustomError("model_table", "must be a table")
    name = value.get("name", DEFAULT_MODEL)
    try:
        one_of(SETTINGS).func(name)  # type: ignore[call-arg]
    except PydanticCustomError as error:
        known = ", ".join(map(repr, SETTINGS.names()))
        rule = PydanticCustomError(
            "unknown_model", "must be one of {known}", {"known": known, "why": (error.context or {})["why"]}
        )
        wrong = InitErrorDetails(type=rule, loc=("name",), input=name)
        raise ValidationError.from_exception_data("model", [wrong]) from None
    return SETTINGS[name].model_validate({"name": name, **value})


class TrialConfig(Section):
    """The complete configuration of one trial: everything that affects its training."""

    data: DataConfig = DataConfig()
    """Images and stream."""
    augment: AugmentConfig = AugmentConfig()
    """Augmentation."""
    model: Annotated[SerializeAsAny[ModelSettings], BeforeValidator(_model_of)] = SETTINGS[DEFAULT_MODEL]()
    """Network and loss; `name` decides which other keys there are."""
    postprocess: PostprocessSettings = PostprocessSettings()
    """From the network's output to instances."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimiser."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning-rate schedule."""
    train: TrainConfig = TrainConfig()
    """Training loop."""
    tuning: TuningConfig = TuningConfig()
    """What is tuned after training."""
    warm_start: WarmStartConfig = WarmStartConfig()
    """What training begins from."""

    @model_validator(mode="after")
    def _detections_have_no_mean(self) -> "TrialConfig":
        if self.tuning.tta and not self.model.has_maps:
            raise ValueError(
                "tuning.tta needs a model with maps of probabilities, got tuning.tta=True "
                f"model.name={self.model.name!r}"
            )
        return self

    @model_validator(mode="after")
    def _model_learns_classes(self) -> "TrialConfig":
        if self.data.learn_classes and not self.model.learns_classes:
            raise ValueError(
                f"data.learn_classes needs a model that learns classes, got model.name={self.model.name!r}; take unet "
                "or mask_rcnn, or set data.learn_classes=false"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as nested plain values, the form in checkpoints and the database."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """Return the SHA-256 of the configuration's canonical JSON, 64 hexadecimal digits.

        Without the images' channels and classes: they belong to the data, which are compared separately. And without
        `data.normalisation = "fixed"`, which is what every trial had before there was another.
        """
        values = self.to_dict()
        for key in _OF_THE_DATA:
            values["model"].pop(key, None)
        if self.data.normalisation == "fixed":
            del values["data"]["normalisation"]
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
