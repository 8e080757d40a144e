"""The files of one run: checkpoints, configuration, history."""

import contextlib
import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from searcher.atomic_files import sha256_of, write_atomically
from searcher.exceptions import CheckpointError
from searcher.study.config import TrialConfig
from searcher.training.checkpoints import (
    Checkpoint,
    CheckpointFile,
    load_checkpoint,
    publish_checkpoint,
    save_checkpoint,
)
from searcher.training.history import append_epoch, read_history, truncate_history

__all__ = ["RunFolder"]

logger = logging.getLogger(__name__)

_LAST = "last.pt"
_PREVIOUS = "previous.pt"
_BEST = "best.pt"
_PREVIOUS_BEST = "previous-best.pt"
_CHECKPOINTS = (_BEST, _PREVIOUS_BEST, _PREVIOUS, _LAST)
_CONFIG = "config.json"
_HISTORY = "metrics.jsonl"


class RunFolder:
    """The folder of a run, with `last.pt`, `best.pt`, `config.json` and `metrics.jsonl`; created if it is missing.

    The driver may have been stopped before it received the newest epoch. So the files that this epoch replaced stay
    until the next one. `previous.pt` is the last checkpoint before `last.pt`. If the epoch was the best so far,
    `previous-best.pt` is the best one before `best.pt`. Several names of one checkpoint are hard links if the file
    system supports them. Then the folder needs room for three checkpoints at most, including the one being written;
    otherwise for five.

    An epoch's line is written before its checkpoint. On resuming, the lines after the checkpoint are dropped. So a run
    that was killed at any moment has every epoch exactly once after it resumed.

    One process at a time may write to a folder; others may read its checkpoints meanwhile.

    Args:
        path: The folder.

    Raises:
        CheckpointError: The folder could not be created.
    """

    def __init__(self, path: Path) -> None:
        with _writing(path):
            path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.last: CheckpointFile | None = None
        """Checkpoint of the last epoch."""
        self.best: CheckpointFile | None = None
        """Checkpoint of the epoch with the best objective."""

    def begin(self, config: TrialConfig) -> None:
        """Prepare the folder for a new run.

        Raises:
            CheckpointError: The folder holds a checkpoint of an earlier run, which stays unchanged; or a file could not
                be written.
        """
        self._refuse_if(self._checkpoints())
        self._sweep()
        self._write_config(config)
        self._truncate_history(self.path / _HISTORY, last_epoch=0)

    def resume(self, config: TrialConfig, checkpoint: Checkpoint, file: CheckpointFile) -> None:
        """Prepare the folder to resume after a checkpoint, which may be in another run's folder.

        History and best checkpoint are copied from the checkpoint's folder, otherwise taken from this folder. If it is
        interrupted by a kill, it can be called again.

        Args:
            config: Configuration of the trial.
            checkpoint: The content of the checkpoint.
            file: The checkpoint's file, with its digest.

        Raises:
            CheckpointError: The folder holds a checkpoint of another configuration, a file could not be written, or the
                checkpoint was replaced meanwhile. No checkpoint is lost.
        """
        if not self._is_mine(file) and self._config() != config.to_dict():
            self._refuse_if(self._checkpoints())
        self._sweep()
        self._write_config(config)
        best = self._find_best(checkpoint, file)
        source = file.path.with_name(_HISTORY)
        if not self._is_mine(file) and source.exists():  # to be here before the checkpoint is
            self._truncate_history(source, last_epoch=checkpoint.epoch)
        if best is not None:
            self.best = self._take_over(best, _BEST)
        self.last = self._take_over(file, _LAST)
        # The lines of later epochs go last: as long as this folder's own checkpoint is of such an epoch it needs them.
        self._truncate_history(self.path / _HISTORY, last_epoch=checkpoint.epoch)
        self._check_history(checkpoint.epoch)

    def history(self) -> list[dict[str, float | None]]:
        """Return the metrics of the epochs so far, from `read_history`."""
        return read_history(self.path / _HISTORY)

    def add_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Append an epoch's metrics to the history.

        Raises:
            CheckpointError: The line could not be written; earlier lines are unchanged.
        """
        with _writing(self.path / _HISTORY):
            append_epoch(self.path / _HISTORY, epoch, metrics)

    def save(self, checkpoint: Checkpoint, *, is_best: bool) -> None:
        """Write a checkpoint as `last.pt`, keep the previous one, and publish it as `best.pt` if it is the best.

        Raises:
            CheckpointError: The checkpoint could not be written; the previous and the best one are still there.
        """
        # The epoch before this one has been reported, so the best that it replaced is not needed any more.
        with _writing(self.path / _PREVIOUS_BEST):
            (self.path / _PREVIOUS_BEST).unlink(missing_ok=True)
        self._keep(self.last, _PREVIOUS)
        self.last = save_checkpoint(checkpoint, self.path / _LAST)
        if is_best:
            self._keep(self.best, _PREVIOUS_BEST)
            self.best = publish_checkpoint(self.last, self.path / _BEST)

    def add_to_best(self, tuned: Mapping[str, Any]) -> None:
        """Write the best checkpoint again, with tuned settings of post-processing added.

        The driver may not have received the last epoch yet. So the earlier best checkpoint stays as `previous-best.pt`.
        If the best is also the last checkpoint, its earlier version is still `last.pt`, and `previous-best.pt` stays
        the best one before.

        Raises:
            CheckpointError: The checkpoint could not be read or written; the best so far is still there.
        """
        assert self.best is not None
        best, _ = load_checkpoint(self.best.path, sha256=self.best.sha256)
        if self.last is None or self.last.sha256 != self.best.sha256:
            self._keep(self.best, _PREVIOUS_BEST)
        self.best = save_checkpoint(dataclasses.replace(best, tuned=dict(tuned)), self.path / _BEST)

    def _keep(self, file: CheckpointFile | None, name: str) -> None:
        """Give a checkpoint that is about to be replaced a second name."""
        if file is None:
            return
        if not file.path.exists():  # no reason to lose the new epoch as well
            logger.warning("%s was removed by somebody else: there is no %s", file.path, name)
            return
        publish_checkpoint(file, self.path / name)

    def _take_over(self, file: CheckpointFile, name: str) -> CheckpointFile:
        """Return the checkpoint under a name in this folder, where nobody else replaces it."""
        taken = publish_checkpoint(file, self.path / name)
        if not self._is_mine(file):
            with taken.path.open("rb") as content:
                sha256, _ = sha256_of(content)
            if sha256 != file.sha256:
                raise CheckpointError(
                    f"{file.path}: must stay as it was read, sha256 {file.sha256[:12]}, got {sha256[:12]} a moment "
                    "later; another process is writing to its folder, wait for its end"
                )
        return taken

    def _find_best(self, checkpoint: Checkpoint, file: CheckpointFile) -> CheckpointFile | None:
        """Return the best checkpoint so far of the run that `checkpoint` belongs to, if it is still there."""
        if checkpoint.best_epoch == 0:
            return None
        if checkpoint.best_epoch == checkpoint.epoch:
            return file
        folders = dict.fromkeys([file.path.parent, self.path])
        named = [path for folder in folders for name in _CHECKPOINTS if (path := folder / name).exists()]
        fetched = sorted(file.path.parent.glob("*.pt"))  # from an object store: named by their content
        for path in dict.fromkeys([*named, *fetched]):
            try:
                # The best may be from before the trial went on to more epochs.
                num_epochs = checkpoint.config["train"]["epochs"]
                best, best_file = load_checkpoint(
                    path, config_digest=checkpoint.meaning, num_epochs=num_epochs
                )
            except CheckpointError as error:
                logger.warning("not the best checkpoint so far: %s", error)
                continue
            # By its value too: an epoch that was never reported was trained again, and perhaps not bit by bit.
            if (best.epoch, best.value) == (checkpoint.best_epoch, checkpoint.progress["best_value"]):
                return best_file
        logger.warning(
            "%s: the best checkpoint so far, of epoch %d, is not beside it; a later one must still beat it",
            file.path,
            checkpoint.best_epoch,
        )
        return None

    def _is_mine(self, file: CheckpointFile) -> bool:
        return file.path.parent.resolve() == self.path.resolve()

    def _checkpoints(self) -> list[Path]:
        return [path for name in _CHECKPOINTS if (path := self.path / name).exists()]

    def _refuse_if(self, found: list[Path]) -> None:
        if found:
            raise CheckpointError(
                f"{found[0]}: a new run must not overwrite an earlier one's checkpoint; resume from it or choose "
                "another folder"
            )

    def _sweep(self) -> None:
        """Remove what a killed process left half written."""
        with _writing(self.path):
            for name in (*_CHECKPOINTS, _CONFIG, _HISTORY):
                (self.path / f"{name}.tmp").unlink(missing_ok=True)

    def _config(self) -> object:
        """Return the configuration of the run that the folder holds, None if there is none to read."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.path / _CONFIG).read_bytes())
        return None

    def _write_config(self, config: TrialConfig) -> None:
        text = json.dumps(config.to_dict(), indent=2) + "\n"
        with _writing(self.path / _CONFIG):
            write_atomically(self.path / _CONFIG, lambda writer: writer.write(text.encode()))

    def _truncate_history(self, source: Path, *, last_epoch: int) -> None:
        with _writing(self.path / _HISTORY):
            truncate_history(source, self.path / _HISTORY, last_epoch=last_epoch)

    def _check_history(self, num_epochs: int) -> None:
        there = {line["epoch"] for line in read_history(self.path / _HISTORY)}
        if missing := [epoch for epoch in range(1, num_epochs + 1) if epoch not in there]:
            logger.warning("%s: lacks the epochs %s", self.path / _HISTORY, missing)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn a failure of the system to write a file into ours."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{path}: could not be written ({error.strerror or error}); make room or choose another place for the runs"
        ) from error
