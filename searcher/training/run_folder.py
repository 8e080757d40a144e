"""The files of one run: checkpoints, configuration, history."""

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from searcher.exceptions import CheckpointError
from searcher.study.config import TrialConfig
from searcher.training.checkpoints import (
    Checkpoint,
    CheckpointFile,
    load_checkpoint,
    publish_checkpoint,
    save_checkpoint,
)
from searcher.training.files import write_atomically
from searcher.training.history import append_epoch, truncate_history

__all__ = ["RunFolder"]

logger = logging.getLogger(__name__)

_LAST = "last.pt"
_PREVIOUS = "previous.pt"
_BEST = "best.pt"
_CONFIG = "config.json"
_HISTORY = "metrics.jsonl"


class RunFolder:
    """A folder with `last.pt`, `best.pt`, `config.json` and `metrics.jsonl`, made if it does not exist.

    An epoch's line is written before its checkpoint, and on resuming the lines after the checkpoint are
    dropped: killed at any moment, the continued run has every epoch exactly once.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.last: CheckpointFile | None = None
        """Checkpoint of the last epoch."""
        self.best: CheckpointFile | None = None
        """Checkpoint of the epoch with the best objective."""

    def begin(self, config: TrialConfig) -> None:
        """Prepare the folder for a new run.

        Raises:
            CheckpointError: The folder holds the checkpoint of an earlier run, which is left alone.
        """
        last = self.path / _LAST
        if last.exists():
            raise CheckpointError(
                f"{last}: a new run must not overwrite an earlier one's checkpoint; resume from it or choose "
                "another folder"
            )
        self._write_config(config)
        truncate_history(self.path / _HISTORY, self.path / _HISTORY, last_epoch=0)

    def resume(self, config: TrialConfig, checkpoint: Checkpoint, file: CheckpointFile) -> None:
        """Prepare the folder to go on after a checkpoint, which may lie in another run's folder.

        History and best checkpoint are taken over from beside the checkpoint, or else from this folder.

        Raises:
            CheckpointError: A file could not be written.
        """
        self._write_config(config)
        histories = [file.path.with_name(_HISTORY), self.path / _HISTORY]
        source = next((path for path in histories if path.exists()), histories[-1])
        truncate_history(source, self.path / _HISTORY, last_epoch=checkpoint.epoch)
        best = self._find_best(checkpoint, file)
        self.last = publish_checkpoint(file, self.path / _LAST)
        if best is not None:
            self.best = publish_checkpoint(best, self.path / _BEST)
        else:
            (self.path / _BEST).unlink(missing_ok=True)

    def add_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Append an epoch's metrics to the history."""
        append_epoch(self.path / _HISTORY, epoch, metrics)

    def save(self, checkpoint: Checkpoint, *, is_best: bool) -> None:
        """Write the last checkpoint, keep the one before it, and make the new one the best too if it is.

        The one before stays as `previous.pt`, since whoever keeps books of this folder may have been stopped
        before it heard of the new one.

        Raises:
            CheckpointError: It could not be written; the previous one is still there.
        """
        if self.last is not None:
            publish_checkpoint(self.last, self.path / _PREVIOUS)
        self.last = save_checkpoint(checkpoint, self.path / _LAST)
        if is_best:
            self.best = publish_checkpoint(self.last, self.path / _BEST)

    def _write_config(self, config: TrialConfig) -> None:
        text = json.dumps(config.to_dict(), indent=2) + "\n"
        write_atomically(self.path / _CONFIG, lambda writer: writer.write(text.encode()))

    def _find_best(self, checkpoint: Checkpoint, file: CheckpointFile) -> CheckpointFile | None:
        """Return the best checkpoint so far of the run that `checkpoint` belongs to, if it is still there."""
        if checkpoint.best_epoch == 0:
            return None
        if checkpoint.best_epoch == checkpoint.epoch:
            return file
        for path in (file.path.with_name(_BEST), self.path / _BEST):
            with contextlib.suppress(CheckpointError):
                best, best_file = load_checkpoint(path, config_digest=checkpoint.config_digest)
                if best.epoch == checkpoint.best_epoch:
                    return best_file
        logger.warning(
            "%s: the best checkpoint so far, of epoch %d, is not beside it; a later one must still beat it",
            file.path,
            checkpoint.best_epoch,
        )
        return None
