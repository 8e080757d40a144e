"""The parameters of every model and of post-processing, for study files and builders. Imports no torch."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from searcher.models.parts import BACKBONES, ENCODERS, HEADS, PRETRAINED_ENCODERS, has_own_norm
from searcher.models.settings_base import (
    MAX_CHANNELS,
    MAX_CLASSES,
    ModelSettings,
    PartOptions,
    PartsSettings,
    names_losses,
)
from searcher.models.sizes import ObjectStatistics, OrAuto
from searcher.parts import Section, one_of
from searcher.plugins import Registry

__all__ = [
    "MAX_CHANNELS",
    "MAX_CLASSES",
    "SETTINGS",
    "MaskRCNNSettings",
    "ModelSettings",
    "ObjectStatistics",
    "PartOptions",
    "PartsSettings",
    "PostprocessSettings",
    "UNetSettings",
    "names_losses",
]


def _names_encoder_weights(value: str) -> str:
    if not re.fullmatch(r"none|imagenet|.+\.(pth|pt|safetensors)", value):
        raise PydanticCustomError(
            "weights", "must be 'none', 'imagenet' or a file ending in .pth, .pt or .safetensors"
        )
    return value


class UNetSettings(PartsSettings):
    """Parameters of the U-Net (Ronneberger et al. 2015, arXiv 1505.04597).

    The defaults are the plain network of the DTU poster: 64 to 1024 channels, zero padding, transposed
    convolutions, no normalisation, no dropout, one logit per pixel trained with binary cross-entropy.
    """

    pretrained_keys: ClassVar[tuple[str, ...]] = ("weights", "encoder")
    learns_classes: ClassVar[bool] = True
    small: ClassVar[Mapping[str, Any]] = {"base_channels": 4, "depth": 2}

    name: Literal["unet"] = "unet"
    """Which model this is."""
    encoder: Annotated[str, one_of(ENCODERS)] = "plain"
    """What goes down: plain or residual blocks, or a backbone (the others), which may have pretrained weights."""
    weights: Annotated[str, AfterValidator(_names_encoder_weights)] = "none"
    """Pretrained weights of a backbone: `none`, `imagenet`, or the path of a file; unused by other encoders. With
    weights, the backbone has batch norm and `norm` concerns the decoder only. An EfficientNet-Lite always has batch
    norm."""
    input_scale: float = Field(default=1.0, gt=0.0, le=4.0)
    """Factor by which images are enlarged for the network; losses are taken at that scale, maps enlarged back."""
    base_channels: int = Field(default=64, ge=1, le=1024)
    """Channels of the first level; every level below doubles them. With a backbone, of the decoder only."""
    depth: int = Field(default=4, ge=1, le=8)
    """Number of poolings."""
    norm: Literal["none", "batch", "group"] = "none"
    """Normalisation after every convolution."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Probability of dropping a channel after the deepest encoder level and after the bottleneck."""
    upsampling: Literal["transposed", "bilinear"] = "transposed"
    """How a level is doubled in size on the way up."""
    head: Annotated[str, one_of(HEADS)] = "binary"
    """What the network predicts for a pixel: `binary` is one logit, gland or background. `contour` (background,
    inside, contour) and `distance` (gland or background, distance to the border) tell touching glands apart."""
    loss: Annotated[str, BeforeValidator(names_losses)] = "bce"
    """Training loss of the head's classes: cross-entropy (`ce`; `bce` is the same), soft Dice, focal, or a sum."""
    focal_gamma: float = Field(default=2.0, ge=0.0, le=10.0)
    """How little pixels count in `focal` that are right already; 0 is cross-entropy."""
    border_weight: float = Field(default=0.0, ge=0.0, le=1000.0)
    """How much more pixels between near instances count in `ce` and `focal`: w0 of the original U-Net, which took
    10. 0 counts all alike. Unused by `dice`."""
    border_sigma_px: Annotated[float, Field(gt=0.0, le=100.0), OrAuto()] = 5.0
    """How near instances are for `border_weight`: sigma of the original U-Net, which took 5. `"auto"`: a tenth of an
    object's side, 5 at most."""
    contour_width_px: Annotated[int, Field(ge=1, le=64), OrAuto()] = 3
    """Width of the contour of head `contour` in pixels of the image, inside of the instance; unused by the others.
    `"auto"`: 8, or less where 5% of the objects would keep no inside."""
    distance_cap_px: Annotated[int, Field(ge=0, le=1024), OrAuto()] = 16
    """Head `distance`: pixels at least this deep in an instance are its middle, or only its deepest pixels if it is
    smaller; 0: only the deepest. `"auto"`: half of an object's side, 16 at most. Unused by the others."""
    distance_weight: float = Field(default=1.0, ge=0.0, le=1000.0)
    """Weight of the distance's loss of head `distance`; unused by the others."""
    deep_supervision: bool = False
    """In training, each level of the decoder predicts; a level's losses count half of those of the one above."""
    options: PartOptions = Field(default={}, validate_default=True)
    """Settings that a plug-in's encoder, head or losses bring with them, by the part's name."""

    @model_validator(mode="after")
    def _backbones_end(self) -> Self:
        most = 5 if self.encoder in PRETRAINED_ENCODERS else 8
        if self.encoder not in ENCODERS.built_in_names():
            most = ENCODERS[self.encoder].max_depth
        if self.depth > most:
            raise ValueError(
                f"encoder={self.encoder!r} needs a depth of at most {most}, got depth={self.depth}"
            )
        return self

    @property
    def grows_seeds(self) -> bool:
        """Whether the head's instances grow from seeds; see `ModelSettings.grows_seeds`. Imports torch."""
        return "min_seed_area_px" in HEADS[self.head].postprocess_keys

    @property
    def border_keys(self) -> tuple[str, ...]:
        """Names of the head's parameters that are the width of a border.

        See `ModelSettings.border_keys`. Imports torch.
        """
        return HEADS[self.head].border_keys


def _names_weights(value: str) -> str:
    if not re.fullmatch(r"none|imagenet|coco|.+\.(pth|pt|safetensors)", value):
        raise PydanticCustomError(
            "weights", "must be 'none', 'imagenet', 'coco' or a file ending in .pth, .pt or .safetensors"
        )
    return value


class MaskRCNNSettings(PartsSettings):
    """Parameters of Mask R-CNN (He et al. 2017, arXiv 1703.06870) as torchvision builds it.

    The model of the DTU poster has `weights = "coco"`, `mask_layer = 256`, and torchvision's own rule for the input's
    size: `input_scale = 0`. Where the anchors' sizes and the detections per image are 0, they are computed from the
    data. COCO's anchors do not suit every data set: a gland may be as large as its image.
    """

    pretrained_keys: ClassVar[tuple[str, ...]] = ("weights", "backbone", "version")
    has_maps: ClassVar[bool] = False
    learns_classes: ClassVar[bool] = True
    small: ClassVar[Mapping[str, Any]] = {
        "backbone": "efficientnet_lite0",
        "fpn_channels": 32,
        "box_layer": 64,
        "mask_layer": 32,
        "rpn_proposals": 50,
        "rpn_samples": 64,
        "box_samples": 32,
    }

    name: Literal["mask_rcnn"] = "mask_rcnn"
    """Which model this is."""
    version: Literal["v1", "v2"] = "v1"
    """torchvision's `maskrcnn_resnet50_fpn`, or `_v2`: norms in pyramid and heads, deeper heads."""
    backbone: Annotated[str, one_of(BACKBONES)] = "resnet50"
    """Network below the feature pyramid. An EfficientNet-Lite has batch norm, trained or frozen."""
    weights: Annotated[str, AfterValidator(_names_weights)] = "none"
    """What training begins from: `none`, `imagenet` (backbone), `coco` (all but the two predictors), or a file."""
    trainable_layers: int = Field(default=3, ge=0, le=5)
    """Of the backbone's five stages, how many are trained, from the deepest; without weights all are."""
    norm: Literal["auto", "frozen", "batch", "group"] = "auto"
    """Normalisation. `auto`: `frozen` statistics with pretrained weights, `group` without (batches are small), but
    `batch` in an EfficientNet-Lite."""
    fpn_channels: int = Field(default=256, ge=16, le=1024)
    """Channels of the feature pyramid and of the heads' convolutions; 256 in pretrained weights."""
    box_layer: int = Field(default=1024, ge=16, le=4096)
    """Width of the box head's fully connected layers; 1024 in pretrained weights."""
    mask_layer: int = Field(default=256, ge=16, le=1024)
    """Channels of the mask predictor's hidden layer. COCO's weights leave this predictor untrained."""
    input_scale: float = Field(default=1.0, ge=0.0, le=8.0)
    """Factor by which images are enlarged; 0 follows `min_size_px`, by which crops are enlarged more than images."""
    min_size_px: int = Field(default=800, ge=32, le=16_384)
    """Where `input_scale` is 0: length that an image's shorter side is resized to."""
    max_size_px: int = Field(default=1333, ge=32, le=16_384)
    """Where `input_scale` is 0: length that an image's longer side may then have at most."""
    anchor_min_px: float = Field(default=0.0, ge=0.0, le=4096.0)
    """Side of the smallest anchor in pixels of the image; 0: a small object's of the training images."""
    anchor_octaves: float = Field(default=0.0, ge=0.0, le=10.0)
    """Octaves from the smallest anchor to the largest, over five levels; 0: up to a large object's side."""
    anchor_aspect: float = Field(default=0.0, ge=0.0, le=10.0)
    """Height over width of the tall anchors, at least 1, its inverse of the wide ones; 0: an elongated object's."""
    detections_per_image: int = Field(default=0, ge=0, le=100_000)
    """Most instances found in one image; 0: twice the most that a training image has."""
    rpn_foreground_iou: float = Field(default=0.7, gt=0.0, le=1.0)
    """Anchors that overlap an instance's box by this IoU are trained to be proposals."""
    rpn_background_iou: float = Field(default=0.3, ge=0.0, lt=1.0)
    """Anchors that overlap no instance's box by this IoU are trained to be none."""
    rpn_nms_threshold: float = Field(default=0.7, gt=0.0, le=1.0)
    """Of proposals that overlap by more than this IoU, the best stays."""
    rpn_proposals: int = Field(default=1000, ge=1, le=100_000)
    """Proposals that an image keeps, and the most of one level that are looked at for overlaps."""
    rpn_samples: int = Field(default=256, ge=2, le=1_000_000)
    """Anchors of an image that the losses look at."""
    box_foreground_iou: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Proposals that overlap an instance's box by this IoU are trained to be that instance."""
    box_score_threshold: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Boxes scored lower are never looked at; `postprocess.min_score` can be tuned from here upwards."""
    box_nms_threshold: float = Field(default=0.5, gt=0.0, le=1.0)
    """Of found boxes that overlap by more than this IoU, the best stays."""
    box_samples: int = Field(default=512, ge=4, le=100_000)
    """Proposals of an image that the losses look at; a quarter at most are instances, and get masks."""
    options: PartOptions = Field(default={}, validate_default=True)
    """Settings that a plug-in's backbone brings with it, by its name."""

    @model_validator(mode="after")
    def _pretrained_weights_fit(self) -> Self:
        is_coco = self.weights == "coco"
        needed = {"backbone": "resnet50", "fpn_channels": 256, "box_layer": 1024} if is_coco else {}
        actual = {key: getattr(self, key) for key in needed}
        if actual != needed:
            raise ValueError(f"weights='coco' needs {_listed(needed)}, got {_listed(actual)}")
        if self.norm == "group" and self.weights in ("imagenet", "coco"):
            raise ValueError(
                f"norm='group' needs weights='none', got weights={self.weights!r}; use norm='auto'"
            )
        if self.norm == "group" and has_own_norm(self.backbone):
            raise ValueError(
                f"norm='group' needs a backbone without a norm of its own, a ResNet say, got "
                f"backbone={self.backbone!r}; use norm='auto'"
            )
        if self.weights not in ("none", "coco") and not _has_weights(self.backbone):
            raise ValueError(
                f"weights must be 'none' for backbone={self.backbone!r}, which has none, got {self.weights!r}"
            )
        if self.norm == "frozen" and self.weights == "none":
            raise ValueError("norm='frozen' needs weights, got weights='none'; use norm='auto'")
        return self

    @model_validator(mode="after")
    def _ranges_are_in_order(self) -> Self:
        for low, high in (("rpn_background_iou", "rpn_foreground_iou"), ("min_size_px", "max_size_px")):
            if getattr(self, low) > getattr(self, high):
                pair = {key: getattr(self, key) for key in (low, high)}
                raise ValueError(f"{low} must not be above {high}, got {_listed(pair)}")
        if 0.0 < self.anchor_aspect < 1.0:
            raise ValueError(f"anchor_aspect must be 0 or at least 1, got {self.anchor_aspect}")
        return self

    @property
    def resolved_norm(self) -> Literal["frozen", "batch", "group"]:
        """The normalisation of the backbone, with `auto` resolved.

        `auto` means `frozen` with pretrained weights; without, `batch` for a backbone that always has batch norm, else
        `group`.
        """
        if self.norm != "auto":
            return self.norm
        if self.weights != "none":
            return "frozen"
        return "batch" if has_own_norm(self.backbone) else "group"

    @property
    def wants_objects(self) -> bool:
        """Whether the sizes of the anchors, or the number of detections, are to be computed from the data."""
        open_values = (
            self.anchor_min_px,
            self.anchor_octaves,
            self.anchor_aspect,
            self.detections_per_image,
        )
        return 0 in open_values

    def with_objects(self, objects: ObjectStatistics) -> Self:
        """Return the settings with anchors and number of detections computed from the data, where they are left open.

        The smallest anchor has the size of a small object, the largest that of a large one. The two differ by at least
        half an octave.

        Args:
            objects: Sizes and numbers of the training images' objects.
        """
        smallest = self.anchor_min_px or round(max(objects.small_px, 1.0), 1)
        octaves = self.anchor_octaves or round(max(math.log2(objects.large_px / smallest), 0.5), 2)
        return self.model_copy(
            update={
                "anchor_min_px": smallest,
                "anchor_octaves": octaves,
                "anchor_aspect": self.anchor_aspect or round(min(max(objects.aspect, 1.25), 4.0), 2),
                "detections_per_image": self.detections_per_image or 2 * objects.max_per_image,
            }
        )


def _has_weights(backbone: str) -> bool:
    """Return whether there are weights for a known backbone, as for all of ours. Imports no torch for one of these."""
    return backbone in BACKBONES.built_in_names() or BACKBONES[backbone].weights is not None


def _listed(values: dict[str, object]) -> str:
    return " ".join(f"{key}={value!r}" for key, value in values.items())


class PostprocessSettings(Section):
    """How a network's output becomes separate instances."""

    threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    """A pixel is foreground where its probability exceeds this."""
    min_object_area_px: Annotated[int, Field(ge=0, le=10**9), OrAuto()] = 0
    """Instances smaller than this are removed. 0 keeps all. `"auto"`: the area that 5% of the training objects are
    below."""
    fill_holes: bool = True
    """Fill holes inside instances (a gland's lumen belongs to the gland)."""
    smoothing_sigma_px: float = Field(default=0.0, ge=0.0, le=100.0)
    """Standard deviation of the Gaussian that smooths a dense model's maps first. 0 leaves them."""
    seed_threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Heads `contour` and `distance`: an instance grows from where P(inside), or the distance, exceeds this."""
    min_seed_area_px: int = Field(default=0, ge=0, le=10**9)
    """Heads `contour` and `distance`: smaller seeds grow nothing. 0 takes all."""
    keep_unseeded: bool = True
    """Heads `contour` and `distance`: a piece of foreground without a seed is an instance too, or else goes."""
    min_score: float = Field(default=0.5, ge=0.0, lt=1.0)
    """Detections (of Mask R-CNN) with this score or a lower one are dropped."""
    max_overlap: float = Field(default=0.5, ge=0.0, le=1.0)
    """Detections (of Mask R-CNN) are dropped if better ones cover more than this part of them."""


SETTINGS: Registry[type[ModelSettings]] = Registry(
    "model",
    key="model.name",
    built_in={
        "unet": "searcher.models.settings:UNetSettings",
        "mask_rcnn": "searcher.models.settings:MaskRCNNSettings",
    },
)
"""Settings class of every model, by the model's name."""
