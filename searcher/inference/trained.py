"""A trained network as plain parts, from any storage, and the predictor of one or several of them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor

from searcher.escaping import one_line
from searcher.exceptions import UserError
from searcher.inference.image_kind import ImageKind
from searcher.inference.precision import resolve_precision
from searcher.inference.predictor import Predictor
from searcher.inference.tuning import Tuned, agreed
from searcher.models.base import SegmentationModel
from searcher.models.registry import build_model
from searcher.models.settings import PostprocessSettings
from searcher.models.settings_base import auto_keys
from searcher.study.config import TrialConfig

__all__ = ["TrainedNetwork", "predictor_of", "uses_tta"]


@dataclass(frozen=True)
class TrainedNetwork:
    """The weights of a trained network, its configuration, and its tuned post-processing."""

    config: TrialConfig
    """What they were trained with."""
    weights: Mapping[str, Tensor]
    """The model's state dictionary: the weights that were validated."""
    tuned: Tuned | None
    """The way to instances that was tuned for them, None if none was."""
    dtype: Literal["uint8", "uint16"] = "uint8"
    """Of the images that it was trained on."""

    @classmethod
    def from_plain(
        cls,
        config: Mapping[str, Any],
        weights: Mapping[str, Tensor],
        tuned: Mapping[str, Any] | None,
        dtype: str = "uint8",
    ) -> Self:
        """Return a trained network from plain values, such as a checkpoint or a bundle contains.

        Args:
            config: Configuration of the trial, from `TrialConfig.to_dict`.
            weights: The network's state dictionary.
            tuned: Tuned post-processing, from `Tuned.to_dict`; None for a network that was not tuned.
            dtype: Type of the images that the network expects, `uint8` or `uint16`.

        Raises:
            ValueError: The values are of another version of searcher; one line.
        """
        with _one_line():
            known = TrialConfig.model_validate(config)
            if left := [*auto_keys(known.model), *auto_keys(known.postprocess)]:
                raise ValueError(f"{left[0]} must be a number of pixels in a trained network, got 'auto'")
            return cls(
                known,
                weights,
                None if tuned is None else Tuned.from_dict(tuned),
                "uint16" if dtype == "uint16" else "uint8",
            )

    @property
    def postprocess(self) -> PostprocessSettings:
        """The settings of post-processing: the tuned ones, or without tuning those of the configuration."""
        return self.config.postprocess if self.tuned is None else self.tuned.postprocess

    @property
    def kind(self) -> ImageKind:
        """The kind of images on which the network was trained."""
        return ImageKind(self.config.model.channels, self.dtype, self.config.data.normalised_by)

    def model(self, device: torch.device) -> SegmentationModel:
        """Return a model with these weights on a device, in eval mode.

        Raises:
            ValueError: The weights do not fit this version's model, or are not finite numbers; one line.
        """
        with _one_line():
            model = build_model(self.config.model, self.postprocess)
            _check_weights(self.weights, model.state_dict())
            model.load_state_dict(self.weights)
        model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.eval()


def uses_tta(networks: Sequence[TrainedNetwork]) -> bool:
    """Return whether all networks were tuned for the mean of 8 turned and mirrored views."""
    return all(network.tuned is not None and network.tuned.tta for network in networks)


def predictor_of(
    networks: Sequence[TrainedNetwork],
    models: Sequence[SegmentationModel],
    *,
    device: torch.device,
    tta: bool | None = None,
) -> Predictor:
    """Return a predictor of one network, or of several together, with the settings for which they were tuned.

    Precision and tiles are those with which the first network was validated. Several networks cut instances with the
    median of their tuned settings, see `agreed`.

    Args:
        networks: At least one network.
        models: The networks' models, on the device, from `TrainedNetwork.model`.
        device: Device to predict on.
        tta: Whether to average 8 turned and mirrored views; None to do so if all networks were tuned for it.

    Raises:
        UserError: The networks cannot be used together, or not with `tta`.
    """
    kinds = {network.kind: None for network in networks}
    if len(kinds) > 1:
        raise UserError(
            "an ensemble needs networks that were trained on images of the same kind, got "
            f"{' and '.join(map(str, kinds))}; take those of one kind"
        )
    classes = {network.config.model.class_names: None for network in networks}
    if len(classes) > 1:
        raise UserError(
            "an ensemble needs networks that were trained on the same classes, got "
            f"{' and '.join(', '.join(names) or 'none' for names in classes)}; take those of the same classes"
        )
    train = networks[0].config.train
    predictor = Predictor(
        models,
        device=device,
        dtype=resolve_precision(train.precision, device),
        tta=uses_tta(networks) if tta is None else tta,
        tile_px=train.eval_tile_px,
        tile_overlap_px=train.eval_tile_overlap_px,
        kind=networks[0].kind,
    )
    predictor.postprocess = agreed([network.postprocess for network in networks])
    return predictor


def _check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check what `load_state_dict` takes without a word; it says itself which tensors lack, and which are too many."""
    for name, tensor in expected.items():
        given = weights.get(name)
        if given is None or given.shape != tensor.shape:
            continue
        if given.dtype != tensor.dtype:
            raise ValueError(f"{name} must be of type {tensor.dtype}, got {given.dtype}")
        if not torch.isfinite(given).all():
            raise ValueError(f"{name} must have finite numbers, got NaN or infinity")


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn each misfit into a ValueError of one line."""
    try:
        yield
    except Exception as error:  # whatever foreign values make models and their settings stumble over
        raise ValueError(one_line(" ".join(str(error).split())[:160]) or type(error).__name__) from error
