"""Training on from another trial's checkpoint: which weights are taken over, and from which checkpoints not.

Unlike resuming, it is a new trial: its own configuration, data, seed and schedule, from epoch 1. It begins from the
checkpoint's validated weights where name and shape fit. So the network may have another head, width or depth, and its
new parts have fresh weights.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from searcher.exceptions import UserError
from searcher.models.base import SegmentationModel
from searcher.models.class_branch import CLASS_BRANCH
from searcher.models.settings import ModelSettings
from searcher.study.config import DataConfig, TrialConfig
from searcher.training.checkpoints import Checkpoint, load_checkpoint

__all__ = [
    "ParentCheckpoint",
    "Transfer",
    "keep_optimizer",
    "read_parent_bundle",
    "read_parent_checkpoint",
    "refuse_fresh",
    "warm_start",
]

logger = logging.getLogger(__name__)

_MAX_NAMES = 20
"""Of a kind, in the record of a transfer."""


@dataclass(frozen=True)
class Transfer:
    """Which tensors a warm start loaded from a checkpoint and which not, by their names in the state dictionary."""

    epoch: int
    """Epochs that the checkpoint was trained."""
    loaded: tuple[str, ...]
    """Taken over from the checkpoint."""
    reset: Mapping[str, str]
    """In the model, but not in the checkpoint or of another shape there; with both shapes as text."""
    skipped: tuple[str, ...]
    """In the checkpoint, but not in the model."""
    settled: tuple[str, ...] = ()
    """In both, but it is the settings or the data that decide, so the model's own stay."""

    def to_dict(self) -> dict[str, Any]:
        """Return counts, and the names of tensors that were not loaded (the first few), as plain values."""
        return {
            "epoch": self.epoch,
            "num_loaded": len(self.loaded),
            "num_reset": len(self.reset),
            "num_skipped": len(self.skipped),
            "reset": dict([*self.reset.items()][:_MAX_NAMES]),
            "skipped": [*self.skipped[:_MAX_NAMES]],
            "settled": [*self.settled[:_MAX_NAMES]],
        }


@dataclass(frozen=True)
class ParentCheckpoint:
    """The checkpoint that a trial starts from, and the model settings of that trial."""

    checkpoint: Checkpoint
    settings: ModelSettings
    """The trial's, before what they leave to the data was filled in."""

    @property
    def lineage(self) -> tuple[dict[str, Any], ...]:
        """The value of `Checkpoint.lineage` for a trial that starts from this checkpoint."""
        checkpoint = self.checkpoint
        data = DataConfig.model_validate(checkpoint.config.get("data", {}))
        own = {"data_fingerprint": checkpoint.data_fingerprint, "split": data.split}
        return (*(each for each in checkpoint.lineage if each != own), own)


def read_parent_checkpoint(path: Path, config: TrialConfig, *, data_fingerprint: str) -> ParentCheckpoint:
    """Return the checkpoint that a trial starts from, read from its file.

    Args:
        path: The checkpoint's file; its digest must be `config.warm_start.sha256`.
        config: Configuration of the trial, from the sampler.
        data_fingerprint: Fingerprint of the images that the trial trains on.

    Raises:
        CheckpointError: The file is missing or damaged, or has another digest.
        UserError: The checkpoint, or one before it in its lineage, was trained on images that the trial validates on.
    """
    checkpoint, _ = load_checkpoint(path, sha256=config.warm_start.sha256)
    return _checked(path, checkpoint, config, data_fingerprint)


def read_parent_bundle(path: Path, config: TrialConfig, *, data_fingerprint: str) -> ParentCheckpoint:
    """Return the first network of a bundle as the checkpoint that a trial starts from.

    Args:
        path: Folder of the bundle; the digest of the network's weights must be `config.warm_start.sha256`.
        config: Configuration of the trial, from the sampler.
        data_fingerprint: Fingerprint of the images that the trial trains on.

    Raises:
        UserError: The folder is no intact bundle, or has other weights; or the network was trained on images that the
            trial validates on.
    """
    from searcher.bundle.load import load_bundle

    bundle = load_bundle(path)
    member = bundle.members[0]
    facts, digest = member.facts, bundle.manifest.files[member.facts.weights].sha256
    if digest != config.warm_start.sha256:
        raise UserError(
            f"{path}: must have the weights that the study began from, {config.warm_start.sha256[:12]}, got "
            f"{digest[:12]}; put the bundle back, or begin another study"
        )
    if config.warm_start.optimizer == "keep":
        raise _not_kept("needs a checkpoint, got a bundle, which has no optimiser's state")
    checkpoint = Checkpoint(
        config=facts.config,
        config_digest="",
        data_fingerprint=facts.data_fingerprint,
        objective=facts.objective,
        epoch=facts.epoch,
        next_batch=0,
        step=0,
        value=facts.value,
        metrics={},
        progress={},
        model=dict(member.network.weights),
        ema=None,
        optimizer={},
        schedule={},
        random={},
    )
    return _checked(path, checkpoint, config, data_fingerprint)


def _checked(
    path: Path, checkpoint: Checkpoint, config: TrialConfig, data_fingerprint: str
) -> ParentCheckpoint:
    if checkpoint.data_fingerprint != data_fingerprint:
        logger.info(
            "warm start from %s: trained on other data (%s) than this trial (%s)",
            path,
            checkpoint.data_fingerprint[:12],
            data_fingerprint[:12],
        )
    parent = ParentCheckpoint(checkpoint, config.model)
    for trial in parent.lineage:
        if trial["data_fingerprint"] == data_fingerprint:
            _refuse_leakage(path, trial["split"], config.data.split)
    return parent


def _refuse_leakage(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Make sure that two splits of the same images hold out the same ones."""
    differing = sorted(key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key))
    if differing:
        wanted = " ".join(f"data.{key}={theirs.get(key, _UNUSED)}" for key in differing)
        actual = " ".join(f"data.{key}={ours.get(key, _UNUSED)}" for key in differing)
        raise UserError(
            f"{path}: a warm start on the same images must keep the checkpoint's split, {wanted}, got {actual}: images "
            "to validate on were trained on; set them alike"
        )


_UNUSED = "(unused)"


def warm_start(
    model: SegmentationModel,
    checkpoint: Checkpoint,
    *,
    settings: ModelSettings,
    class_names: Sequence[str] = (),
) -> Transfer:
    """Load a checkpoint's validated weights into a model, for each tensor whose name and shape fit.

    Args:
        model: The model, with fresh or pretrained weights, which stay in tensors that do not fit.
        checkpoint: A checkpoint of any trial.
        settings: The model's settings as chosen, before values were filled in from the data.
        class_names: The classes that the model learns. Other classes' branch is not taken over.

    Returns:
        Which tensors were loaded and which were not.

    Raises:
        UserError: No tensor of the model fits; the model is unchanged.
    """
    own, theirs = model.state_dict(), checkpoint.weights()
    fitting = [name for name in own if name in theirs and theirs[name].shape == own[name].shape]
    taken = model.transferable(fitting, settings)
    classes_there = tuple(checkpoint.config.get("model", {}).get("class_names", ()))
    if classes_there != tuple(class_names):
        taken = {name for name in taken if not name.startswith(CLASS_BRANCH)}
    transfer = Transfer(
        epoch=checkpoint.epoch,
        loaded=tuple(name for name in fitting if name in taken),
        reset={name: _shapes(own[name], theirs.get(name)) for name in own if name not in fitting},
        skipped=tuple(name for name in theirs if name not in own),
        settled=tuple(name for name in fitting if name not in taken),
    )
    if taken.isdisjoint(name for name, _ in model.named_parameters()):
        name = checkpoint.config.get("model", {}).get("name")
        raise UserError(
            f"warm_start.sha256: must be of a checkpoint with weights that fit model.name={settings.name}, got one of "
            f"model.name={name} of which none fits; take another"
        )
    model.load_state_dict({name: theirs[name] for name in transfer.loaded}, strict=False)
    logger.info("warm start from epoch %d of another trial", transfer.epoch)
    channels, before = settings.channels, checkpoint.config.get("model", {}).get("channels", 3)
    if channels != before:
        logger.warning(
            "warm start: the checkpoint's images have %s channels, these have %d; the first layer begins anew",
            before,
            channels,
        )
    if classes_there and classes_there != tuple(class_names):
        logger.warning(
            "warm start: the checkpoint's classes are %s, these are %s; the class branch begins anew",
            ", ".join(classes_there),
            ", ".join(class_names) or "none",
        )
    for what, names in (
        ("loaded", transfer.loaded),
        ("reset", [f"{name} ({shapes})" for name, shapes in transfer.reset.items()]),
        ("skipped", transfer.skipped),
    ):
        logger.info("warm start: %d tensors %s: %s", len(names), what, ", ".join(names) or "none")
    return transfer


def _shapes(own: Tensor, theirs: Tensor | None) -> str:
    return f"{_shape(own)} here, {'none' if theirs is None else _shape(theirs)} there"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f" ({', '.join(names[:3])}{more})" if names else ""


def refuse_fresh(frozen: frozenset[str], transfer: Transfer, *, freeze: str) -> None:
    """Raise an error if a frozen layer has weights that are not the checkpoint's.

    Args:
        frozen: Names of the frozen tensors.
        transfer: The result of `warm_start`.
        freeze: Value of `warm_start.freeze`, for the message.

    Raises:
        UserError: A frozen layer has fresh or pretrained weights.
    """
    fresh = [f"{name} ({shapes})" for name, shapes in transfer.reset.items() if name in frozen]
    if fresh:
        others = f" and {len(fresh) - 1} more" if len(fresh) > 1 else ""
        raise UserError(
            f"warm_start.freeze={freeze}: must freeze what the checkpoint has weights for, got {fresh[0]}{others} "
            "without; freeze less, or leave the model as it was"
        )


def keep_optimizer(
    optimizer: Optimizer, checkpoint: Checkpoint, config: TrialConfig, transfer: Transfer
) -> None:
    """Load a checkpoint's optimiser state into a fresh optimiser: moments and counters, not rate, decay or momentum.

    If the checkpoint has an average of weights, the model starts from the average, while the moments belong to the
    trained weights.

    Args:
        optimizer: Optimiser of the model into which the checkpoint's weights were loaded.
        checkpoint: The checkpoint with the state.
        config: Configuration of the trial.
        transfer: The result of `warm_start`.

    Raises:
        UserError: The state does not fit: another optimiser, tensors that were not loaded, or other frozen layers.
    """
    was = checkpoint.config.get("optimizer", {}).get("name")
    if was != config.optimizer.name:
        raise _not_kept(f"optimizer.name must be the checkpoint's {was}, got {config.optimizer.name}")
    if transfer.reset or transfer.skipped:
        differing = [f"{name} {shapes}" for name, shapes in transfer.reset.items()] + [
            f"{name} none here" for name in transfer.skipped
        ]
        raise _not_kept(f"every tensor must fit, got {len(differing)} that do not{_some(differing)}")
    froze = checkpoint.config.get("warm_start", {}).get("freeze", "none")
    if froze != config.warm_start.freeze:
        raise _not_kept(f"warm_start.freeze must be the checkpoint's {froze}, got {config.warm_start.freeze}")
    own, theirs = optimizer.state_dict(), checkpoint.optimizer
    sizes, their_sizes = (
        [len(group["params"]) for group in state["param_groups"]] for state in (own, theirs)
    )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if sizes != their_sizes or not all(
        _is_state_of(parameters[index], state) for index, state in theirs["state"].items()
    ):
        raise _not_kept(
            f"the trained parameters must be the checkpoint's {sum(their_sizes)}, got {sum(sizes)} or others"
        )
    optimizer.load_state_dict({"state": theirs["state"], "param_groups": own["param_groups"]})
    logger.info("warm start: the optimiser goes on with the checkpoint's state")


def _is_state_of(parameter: torch.nn.Parameter, state: Mapping[str, Any]) -> bool:
    tensors = [value for value in state.values() if isinstance(value, Tensor) and value.ndim]
    return all(tensor.shape == parameter.shape for tensor in tensors)


def _not_kept(rule: str) -> UserError:
    return UserError(f"warm_start.optimizer=keep: {rule}; use warm_start.optimizer=reset")
