"""What every segmentation model does, with any network: the interface between training and models.

Shapes: B batch, C channels, H rows, W columns, n instances.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from searcher.models.instance_maps import HasInstanceMaps
from searcher.models.postprocess import instances_from_maps
from searcher.models.settings import ModelSettings, PostprocessSettings
from searcher.models.values import Detections, InstanceMaps, Prediction, TensorBatch

__all__ = ["DenseModel", "DetectionModel", "ModelParts", "SegmentationModel"]


class ModelParts(NamedTuple):
    """The encoder and the head of a model, each a list of modules; the layers between them are in neither."""

    encoder: Sequence[nn.Module]
    """Layers that make features of images, for any kind of object."""
    head: Sequence[nn.Module]
    """The last layers, which say what was found."""


class SegmentationModel(nn.Module, ABC):
    """A network with its losses and its steps from output to instances: the base class of all models.

    The trainer and the evaluation use these methods and nothing else, so they have no branch on a model's name. An
    abstract base rather than a protocol, because they also need what `nn.Module` gives (parameters, state dictionary,
    device, train and eval mode).

    Autocast may be active around any method; losses and probabilities are float32 anyway. To compile, call
    `model.compile()`. It compiles `forward` in place, which all methods use, and keeps the names in the state
    dictionary. (`torch.compile(model)` returns a wrapper whose methods are not compiled.)
    """

    postprocess: PostprocessSettings
    """From the network's output to instances. May be replaced at any time."""
    num_classes: int = 0
    """Classes of objects that it tells apart; 0 for none."""

    @property
    @abstractmethod
    def postprocess_keys(self) -> tuple[str, ...]:
        """The names of the `PostprocessSettings` that affect this model and can be tuned, largest effect first."""

    @property
    def tuning_candidates(self) -> Mapping[str, Sequence[Any]]:
        """The values that tuning tries for this model instead of the usual ones, by field of `PostprocessSettings`."""
        return {}

    @abstractmethod
    def parts(self) -> ModelParts:
        """Return the model's encoder and head, so that the weights of some layers can be frozen."""

    def transferable(self, fitting: Collection[str], settings: ModelSettings) -> set[str]:
        """Return the names of the tensors to copy from another model's state dictionary.

        By default, all that fit. Not tensors that the settings or the data determine, such as sizes of anchors.

        Args:
            fitting: Names of the tensors that both models have, with equal shapes.
            settings: This model's settings as the user chose them, before sizes were filled in from the data.
        """
        del settings
        return set(fitting)

    def load_pretrained(self) -> None:
        """Load the pretrained weights that the settings name into this model; do nothing if they name none.

        Called once before training begins; not by a model that gets its weights from a checkpoint.

        Raises:
            WeightsError: The weights cannot be read or downloaded, or do not fit.
        """

    @classmethod
    def fetch_pretrained(cls, settings: ModelSettings) -> None:
        """Download the pretrained weights that the settings name, if they are not on this machine; builds no model.

        Args:
            settings: The model's settings.

        Raises:
            WeightsError: The weights cannot be read or downloaded.
        """
        del settings

    @abstractmethod
    def training_step(self, batch: TensorBatch) -> dict[str, Tensor]:
        """Return the losses of a batch by name, each a float32 scalar; the total loss is their sum.

        In eval mode and under `torch.no_grad` it is the validation loss, comparable with the training loss.
        """

    @abstractmethod
    def predict(self, images: Tensor) -> list[Prediction]:
        """Return the instances of each image at the image's own resolution.

        Does not switch to eval mode: call `eval()` first. Computes no gradients.

        Args:
            images: uint8[B, H, W, C], on the model's device.
        """


class DenseModel(HasInstanceMaps, SegmentationModel):
    """A model whose instances are cut from maps of per-pixel probabilities.

    Large images are predicted tile by tile. The maps are stitched first, and instances are cut from the whole
    afterwards. So no tile's edge cuts an instance.
    """

    @property
    @abstractmethod
    def kind_of_maps(self) -> str:
        """A name for the meaning of the model's maps. Maps of models with the same name can be averaged."""

    @abstractmethod
    def predict_maps(self, images: Tensor) -> Tensor:
        """Return the model's maps: float32[B, C, H, W], probabilities from 0 to 1 at the images' own resolution.

        Does not switch to eval mode: call `eval()` first. Computes no gradients.

        Args:
            images: uint8[B, H, W, C], on the model's device.
        """

    def evaluate(self, batch: TensorBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the results of `training_step` and `predict_maps` for a batch, from one forward pass if possible."""
        return self.training_step(batch), self.predict_maps(batch.images)

    @abstractmethod
    def instance_maps(self, maps: NDArray[np.float32]) -> InstanceMaps:
        """Return the foreground map and the seed map of one image, or of a part of an image.

        Each pixel of the result depends only on the same pixel of `maps`.

        Args:
            maps: float32[C, H, W], one image of the result of `predict_maps`.
        """

    def instances_from_maps(self, maps: NDArray[np.float32]) -> Prediction:
        """Return the instances of one image, cut from its maps with the settings in `postprocess`.

        Args:
            maps: float32[C, H, W], one image of the result of `predict_maps`.
        """
        return instances_from_maps(self.instance_maps(maps), self.postprocess)

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[Prediction]:
        """Return the instances of each image: `instances_from_maps` after `predict_maps`."""
        return [self.instances_from_maps(maps) for maps in self.predict_maps(images).cpu().numpy()]


class DetectionModel(SegmentationModel):
    """A model that finds instances one by one, each with a box, a score and a mask.

    Its input must be a whole image: an instance cut by a tile's edge would be found twice.
    """

    @abstractmethod
    def detect(self, images: Tensor) -> list[Detections]:
        """Return the detections of each image, at the image's own resolution, one `Detections` an image.

        Does not switch to eval mode: call `eval()` first. Computes no gradients.

        Args:
            images: uint8[B, H, W, C], on the model's device.
        """

    def evaluate(self, batch: TensorBatch) -> tuple[dict[str, Tensor], list[Detections]]:
        """Return the results of `training_step` and `detect` for a batch, from one forward pass where possible."""
        return self.training_step(batch), self.detect(batch.images)

    @abstractmethod
    def instances_from_detections(self, detections: Detections) -> Prediction:
        """Return the instances of one image, chosen from its detections with the settings in `postprocess`."""

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[Prediction]:
        """Return the instances of each image: `instances_from_detections` after `detect`."""
        return [self.instances_from_detections(found) for found in self.detect(images)]
