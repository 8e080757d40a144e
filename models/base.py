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
    """The two ends of a model, each with all that its modules contain; what lies between is in neither."""

    encoder: Sequence[nn.Module]
    """Layers that make features of images, for any kind of object."""
    head: Sequence[nn.Module]
    """The last layers, which say what was found."""


class SegmentationModel(nn.Module, ABC):
    """A network with its loss and its way from output to instances.

    The trainer and the evaluation use these methods and nothing else, so they have no branch on a model's
    name. An abstract base rather than a protocol, because they also need what `nn.Module` gives (parameters,
    state dictionary, device, train and eval mode).

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
        """The fields of `PostprocessSettings` whose values matter to this model and can be tuned, coarse ones first."""

    @property
    def tuning_candidates(self) -> Mapping[str, Sequence[Any]]:
        """Values of `postprocess_keys` that tuning tries for this model in place of its usual ones, by key."""
        return {}

    @abstractmethod
    def parts(self) -> ModelParts:
        """Return the model's encoder and head, so that the weights of some layers can be frozen."""

    def transferable(self, fitting: Collection[str], settings: ModelSettings) -> set[str]:
        """Return which tensors to take over from another model's state dictionary; the others stay as they are.

        All by default. Not those about which the settings decide, or the data, rather than training.

        Args:
            fitting: Names of the tensors that both have, with equal shapes.
            settings: This model's as they were chosen, before what they leave to the data was filled in.
        """
        del settings
        return set(fitting)

    def load_pretrained(self) -> None:
        """Load the weights that training is to begin from, if the settings name any.

        Called once before training begins; not by a model that gets its weights from a checkpoint.

        Raises:
            WeightsError: They cannot be had, or do not fit.
        """

    @classmethod
    def fetch_pretrained(cls, settings: ModelSettings) -> None:
        """Make sure that the weights which settings name are on this machine, without building a model.

        Raises:
            WeightsError: They cannot be had.
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

        Works in the mode the module is in: call `eval()` first. Builds no graph.

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
        """What the maps say, by a name: the maps of models that agree in it can be averaged."""

    @abstractmethod
    def predict_maps(self, images: Tensor) -> Tensor:
        """Return float32[B, C, H, W], probabilities in 0 to 1 at the images' own resolution.

        Works in the mode the module is in: call `eval()` first. Builds no graph.

        Args:
            images: uint8[B, H, W, C], on the model's device.
        """

    def evaluate(self, batch: TensorBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Return what `training_step` and `predict_maps` return, for the price of one forward pass if possible."""
        return self.training_step(batch), self.predict_maps(batch.images)

    @abstractmethod
    def instance_maps(self, maps: NDArray[np.float32]) -> InstanceMaps:
        """Return what the maps of one image, or of a part of it, say; a pixel's depends on its own values alone.

        Args:
            maps: float32[C, H, W], as `predict_maps` gives them for one image.
        """

    def instances_from_maps(self, maps: NDArray[np.float32]) -> Prediction:
        """Return the instances in the maps of one image, following `postprocess`.

        Args:
            maps: float32[C, H, W], as `predict_maps` gives them for one image.
        """
        return instances_from_maps(self.instance_maps(maps), self.postprocess)

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[Prediction]:
        """Return the instances of each image: `instances_from_maps` after `predict_maps`."""
        return [self.instances_from_maps(maps) for maps in self.predict_maps(images).cpu().numpy()]


class DetectionModel(SegmentationModel):
    """A model that finds instances one by one. Sees whole images only: an instance cut by a tile's edge is two."""

    @abstractmethod
    def detect(self, images: Tensor) -> list[Detections]:
        """Return what is found in each image, at the image's own resolution.

        Works in the mode the module is in: call `eval()` first. Builds no graph.

        Args:
            images: uint8[B, H, W, C], on the model's device.
        """

    def evaluate(self, batch: TensorBatch) -> tuple[dict[str, Tensor], list[Detections]]:
        """Return what `training_step` and `detect` return, for the price of one forward pass if possible."""
        return self.training_step(batch), self.detect(batch.images)

    @abstractmethod
    def instances_from_detections(self, detections: Detections) -> Prediction:
        """Return the instances of one image, following `postprocess`."""

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[Prediction]:
        """Return the instances of each image: `instances_from_detections` after `detect`."""
        return [self.instances_from_detections(found) for found in self.detect(images)]
