"""Training one trial of a study in this process, without cluster and database."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from searcher.claims import free_folder
from searcher.exceptions import UserError
from searcher.study.spec import StudySpec
from searcher.training.class_data import with_class_digest
from searcher.training.data_check import check_data
from searcher.training.dataset import DataRequest
from searcher.training.outcome import Outcome
from searcher.training.reporter import Decision
from searcher.training.trainer import Trainer

__all__ = ["TrainedTrial", "only_point", "train_trial"]


@dataclass(frozen=True)
class TrainedTrial:
    """The result of training one trial: its folder, parameters, metrics by epoch, and outcome."""

    run_dir: Path
    """Folder of `best.pt`, `last.pt`, `metrics.jsonl` and `config.json`."""
    params: Mapping[str, Any]
    """The searched parameters and their values, by dotted key."""
    epochs: Mapping[int, Mapping[str, float]]
    """All metrics by epoch, counted from 1."""
    outcome: Outcome
    """How it ended."""

    @property
    def checkpoint(self) -> Path:
        """Path of the best epoch's checkpoint."""
        return self.run_dir / "best.pt"

    @property
    def best_value(self) -> float:
        """The best value of the study's objective."""
        return self.outcome.best_value

    @property
    def best_epoch(self) -> int:
        """Number of the epoch with the best value, from 1; 0 if the objective never had a value."""
        return self.outcome.best_epoch


def train_trial(
    spec: StudySpec,
    data: DataRequest,
    storage_root: Path,
    *,
    preparing: AbstractContextManager[Callable[[int, int], None]],
    remark: Callable[[str], None],
    begun: Callable[[Mapping[str, Any]], None],
    epoch_done: Callable[[int, Mapping[str, float]], None],
) -> TrainedTrial:
    """Train one trial with the parameters of the study's first known-good point, and return it.

    Args:
        spec: The study; see `only_point`.
        data: The data set.
        storage_root: Folder in which a new folder for this run is created.
        preparing: Context manager for the decoding of images; it yields a function to call with (done, total).
        remark: Receives each remark about the data, one line.
        begun: Called with the parameters before the first epoch.
        epoch_done: Called with the number of each epoch, from 1, and its metrics.

    Raises:
        UserError: The point leaves parameters open, or the study needs a database.
        DataError: The images cannot be used.
        TrialError: The trial cannot continue.
    """
    params = only_point(spec)
    config = spec.trial_config(params)
    with preparing as advance:
        store = data.prepare(advance)
    config = with_class_digest(config, store)
    for line in check_data(store, data, config):
        remark(line)
    # Another training of the study may begin in the same second.
    run_dir = _run_folder(storage_root / spec.name / f"train-{time.strftime('%Y%m%d-%H%M%S')}")
    begun(params)
    progress = _Progress(epoch_done)
    with Trainer(
        config, spec.objective, store=store, run_dir=run_dir, num_pictures=spec.resources.pictures
    ) as trainer:
        outcome = trainer.fit(progress)
    return TrainedTrial(run_dir, params, progress.epochs, outcome)


def only_point(spec: StudySpec) -> dict[str, Any]:
    """Return the parameters of the study's first known-good point, for a trial without a database.

    Raises:
        UserError: The point does not set every searched parameter, or the study has a parent.
    """
    if spec.parent is not None:
        raise UserError(
            f"{spec.source}: parent.study must not be set for a single trial, which has no database to "
            f"find it in, got {spec.parent.study}; use searcher launch"
        )
    params: dict[str, Any] = dict(spec.enqueue[0]) if spec.enqueue else {}
    missing = [p.name for p in spec.space.parameters if p.active(params) and p.name not in params]
    if missing:
        raise UserError(
            f"{spec.source}: must leave no searched parameter open for a single trial, got {', '.join(missing)}; "
            f"add --set {missing[0]}=VALUE"
        )
    warm_start = spec.trial_config(params).warm_start
    if warm_start.sha256 and not warm_start.bundle:
        raise UserError(
            f"{spec.source}: warm_start.sha256: must not be set for a single trial, which has no database to find the "
            f"checkpoint in, got {warm_start.sha256[:12]}; use searcher launch"
        )
    return params


def _run_folder(wanted: Path) -> Path:
    """Return a new folder for this run alone, of that name or the next free one.

    Raises:
        UserError: No folder can be made there.
    """
    try:
        return free_folder(wanted)
    except OSError as error:
        raise UserError(
            f"--storage {wanted.parent.parent}: must be a folder that can be written, got {error.strerror}; choose "
            "another path"
        ) from error


class _Progress:
    """A reporter that keeps every epoch, passes it on, and never stops the trial."""

    def __init__(self, epoch_done: Callable[[int, Mapping[str, float]], None]) -> None:
        self.epochs: dict[int, Mapping[str, float]] = {}
        self._epoch_done = epoch_done

    def report(self, epoch: int, metrics: Mapping[str, float]) -> Decision:
        """Keep the epoch's metrics, and return `Decision.CONTINUE`."""
        self.epochs[epoch] = metrics
        self._epoch_done(epoch, metrics)
        return Decision.CONTINUE
