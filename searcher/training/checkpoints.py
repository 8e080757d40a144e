"""Checkpoints: everything a trial needs to go on exactly as if it had not stopped.

A checkpoint is a `torch.save` archive of tensors and plain values, loadable with `weights_only=True`.
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from searcher.atomic_files import link_or_copy, sha256_of, write_atomically
from searcher.escaping import one_line
from searcher.exceptions import CheckpointError
from searcher.study.config import TrialConfig
from searcher.training.checkpoint_content import (
    check_archive,
    check_fields,
    check_records,
    check_size,
    read_content,
)

__all__ = [
    "FORMAT",
    "Checkpoint",
    "CheckpointFile",
    "load_checkpoint",
    "publish_checkpoint",
    "save_checkpoint",
]

FORMAT = "searcher-checkpoint-1"
"""What a checkpoint says it is; the number is raised when an older reader would misread a newer file."""


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint's file: path, digest, size, and the epoch and value in it."""

    path: Path
    sha256: str
    """SHA-256 of the file, 64 hexadecimal digits."""
    num_bytes: int
    epoch: int
    """Epochs trained, counted from 1."""
    value: float
    """The objective after that epoch."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a trial at the end of an epoch, complete enough to resume from."""

    config: dict[str, Any]
    """Resolved configuration, `TrialConfig.to_dict()`. What has no normalisation is older: `fixed`."""
    config_digest: str
    """`TrialConfig.digest()`."""
    data_fingerprint: str
    """Fingerprint of the store that it was trained on."""
    objective: str
    """Name of the metric that `value` and the counters are about."""
    epoch: int
    """Epochs trained."""
    next_batch: int
    """Position in the stream's next epoch: the first batch not trained yet."""
    step: int
    """Optimiser steps made."""
    value: float
    """The objective after `epoch`."""
    metrics: dict[str, float]
    """Every metric reported for `epoch`."""
    progress: dict[str, Any]
    """Best value, its epoch, and the early stop's counter: `PlateauCounter.state_dict()`."""
    model: dict[str, Any]
    """Trained weights, by name."""
    ema: dict[str, Any] | None
    """`WeightAverage.state_dict()`, if there is an average."""
    optimizer: dict[str, Any]
    """The optimiser's `state_dict()`."""
    schedule: dict[str, Any]
    """`LearningRate.state_dict()`."""
    random: dict[str, Any]
    """`RandomState.state_dict()`."""
    tuned: dict[str, Any] | None = None
    """`Tuned.to_dict()`, once the way from output to instances was tuned for these weights."""
    lineage: tuple[dict[str, Any], ...] = ()
    """Of the trials whose weights this one began from, the oldest first: `data_fingerprint`, and `split`, the keys of
    `data` that decide which images were held out."""
    left_to_data: tuple[str, ...] = ()
    """Keys of `config`, dotted, that were chosen by the data: they are `auto` in what `config_digest` is of, or at
    their defaults."""
    dtype: str = "uint8"
    """Type of the values of the images in the data set, `uint8` or `uint16`."""
    pixel_size_um: float | None = None
    """Side of a pixel of the training images in micrometres; None where unknown, or where they differ in scale."""

    def weights(self) -> dict[str, Any]:
        """Return the weights that were validated: the moving average if there is one, otherwise the trained ones."""
        if self.ema is None:
            return self.model
        weights: dict[str, Any] = self.ema["weights"]
        return weights

    @property
    def meaning(self) -> str:
        """The digest of the configuration, as this version of searcher reads it; see `meaning_for`."""
        return self.meaning_for(None)

    def meaning_for(self, num_epochs: int | None) -> str:
        """Return the digest of the configuration, as this version of searcher reads it.

        Keys that newer versions added get their defaults, which are always the earlier behaviour. So checkpoints stay
        usable after an upgrade.

        Args:
            num_epochs: Number of epochs that replaces the configuration's own; None to keep it.
        """
        chosen = {table: dict(keys) for table, keys in self.config.items() if isinstance(keys, dict)}
        for key in self.left_to_data:
            table, _, leaf = key.partition(".")
            if key == "model.channels":
                chosen.get(table, {}).pop(leaf, None)
            else:
                chosen.setdefault(table, {})[leaf] = "auto"
        if num_epochs is not None:
            chosen.setdefault("train", {})["epochs"] = num_epochs
        try:
            return TrialConfig.model_validate(chosen).digest()
        except ValidationError:  # of another version altogether
            return self.config_digest

    @property
    def best_epoch(self) -> int:
        """Number of the epoch with the best value so far, from 1; 0 if there is none."""
        return int(self.progress["best_epoch"])


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> CheckpointFile:
    """Write a checkpoint atomically, and return the file's digest and size.

    Args:
        checkpoint: The state to write.
        path: The file; an existing one is replaced when the new one is on disk.

    Returns:
        The written file.

    Raises:
        CheckpointError: The file could not be written, for example because the disk is full; an existing file is
            unchanged.
    """
    content = {"format": FORMAT} | {
        field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)
    }
    try:
        written = write_atomically(path, lambda writer: torch.save(content, writer))  # type: ignore[arg-type]
    except OSError as error:
        raise CheckpointError(
            f"{path}: the checkpoint of epoch {checkpoint.epoch} could not be written, the previous one is "
            f"kept ({error.strerror or error}); make room or choose another place for the runs"
        ) from error
    return CheckpointFile(
        path=written.path,
        sha256=written.sha256,
        num_bytes=written.num_bytes,
        epoch=checkpoint.epoch,
        value=checkpoint.value,
    )


def publish_checkpoint(file: CheckpointFile, path: Path) -> CheckpointFile:
    """Make a checkpoint's file available under a second path too, by a link or a copy, and return that file.

    Raises:
        CheckpointError: The file could not be linked or copied; an existing file at `path` is unchanged.
    """
    if file.path.absolute() != path.absolute():
        try:
            link_or_copy(file.path, path)
        except OSError as error:
            raise CheckpointError(
                f"{path}: could not be made from {file.path}, the previous one is kept "
                f"({error.strerror or error}); make room or choose another place for the runs"
            ) from error
    return dataclasses.replace(file, path=path)


def load_checkpoint(
    path: Path,
    *,
    config_digest: str | None = None,
    sha256: str | None = None,
    num_epochs: int | None = None,
) -> tuple[Checkpoint, CheckpointFile]:
    """Return the checkpoint in a file, with tensors on the CPU. Nothing in the file is executed.

    `sha256` detects a changed byte. Without it, the checksums inside the file do, which torch writes but does not
    check.

    Args:
        path: The checkpoint's file.
        config_digest: The `TrialConfig.digest()` that the checkpoint's configuration must have; None for any.
        sha256: Digest that the file must have; None for any.
        num_epochs: Number of epochs of the configuration that has `config_digest`; the checkpoint's may have fewer.
            None if they must be equal.

    Returns:
        The checkpoint, and the facts about its file.

    Raises:
        CheckpointError: The file is missing or damaged, is no checkpoint, or has another digest or configuration.
    """
    try:
        with path.open("rb") as file:
            check_size(path, os.fstat(file.fileno()).st_size)
            actual_sha256, num_bytes = sha256_of(file)
            if sha256 is not None and actual_sha256 != sha256:
                raise CheckpointError(
                    f"{path}: sha256 must be {sha256}, got {actual_sha256}; the file was changed or damaged"
                )
            check_archive(path, file, num_bytes)
            content = read_content(path, file, num_bytes)
            if sha256 is None:
                check_records(path, file)
    except OSError as error:
        raise CheckpointError(f"{path}: no checkpoint to read there: {error.strerror or error}") from error
    checkpoint = _validated(path, content)
    if config_digest is not None and config_digest not in _digests(checkpoint, num_epochs):
        raise CheckpointError(
            f"{path}: a checkpoint continues only its own configuration, which must have digest "
            f"{config_digest[:12]}, got {checkpoint.config_digest[:12]}; start without it"
        )
    return checkpoint, CheckpointFile(
        path=path,
        sha256=actual_sha256,
        num_bytes=num_bytes,
        epoch=checkpoint.epoch,
        value=checkpoint.value,
    )


def _digests(checkpoint: Checkpoint, num_epochs: int | None) -> set[str]:
    """Return the digests of the configurations that may resume from a checkpoint."""
    found = {checkpoint.config_digest, checkpoint.meaning}
    train = checkpoint.config.get("train")
    own = train.get("epochs") if isinstance(train, dict) else None
    if num_epochs is not None and isinstance(own, int) and own < num_epochs:
        found.add(checkpoint.meaning_for(num_epochs))
    return found


def _validated(path: Path, content: object) -> Checkpoint:
    if not isinstance(content, dict) or "format" not in content:
        raise CheckpointError(f"{path}: must be a checkpoint of searcher, got another file of torch")
    if content["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: format must be {FORMAT}, got {one_line(str(content['format'])[:60])}; "
            "use the version that wrote it"
        )
    fields = dataclasses.fields(Checkpoint)
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    if missing := needed - content.keys():
        raise CheckpointError(f"{path}: must be a whole checkpoint, lacks {sorted(missing)}; use another one")
    values = {field.name: content[field.name] for field in fields if field.name in content}
    check_fields(path, values)
    return Checkpoint(**values)
