"""A copy of a study's finished trials in MLflow, where that is installed and `MLFLOW_TRACKING_URI` says where it is.

The database stays the one truth. Every trial that has ended becomes a run: parameters, every metric of every epoch,
pictures. Existing runs are not copied again, so a launch that resumes a study completes the copy.
"""

import importlib.util
import logging
import os
import threading
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from searcher.ledger.database import Database
from searcher.ledger.records import TrialRecord
from searcher.storage.mirror import fetch_folder
from searcher.study.layout import trial_folder

__all__ = ["MlflowMirror"]

logger = logging.getLogger(__name__)

_URI = "MLFLOW_TRACKING_URI"
_KEY = "searcher.trial"
"""Tag of a run: the trial's number, and when it began, since another database may hold a study of that name."""
_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
_BATCH = 1000
"""Metrics that MLflow takes at a time."""
_LAST_WAIT_S = 30.0
_PICTURES = (".jpg", ".png")


class MlflowMirror:
    """Copies finished trials to MLflow in a separate thread, so that a slow or missing server delays no trial.

    Args:
        database: The study database.
        study: Name of the study, also of the MLflow experiment.
        storage_root: Folder of the storage root on this machine.
        say: Receives lines for the user, one for each kind of problem.
    """

    def __init__(
        self, database: Database, study: str, storage_root: Path, say: Callable[[str], None]
    ) -> None:
        self._database = database
        self._study = study
        self._storage_root = storage_root
        self._say = say
        self._said: set[str] = set()
        self._copied: set[str] | None = None  # None until MLflow was asked
        self._wake = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    @classmethod
    def start(
        cls, database: Database, study: str, storage_root: Path, say: Callable[[str], None]
    ) -> Self | None:
        """Return a started mirror; None if MLflow is not configured, or not installed (which is reported).

        Args:
            database: The study database, which is only read.
            study: Name of the study.
            storage_root: Folder of the storage root on this machine.
            say: Receives lines for the user.
        """
        if not os.environ.get(_URI):
            return None
        if importlib.util.find_spec("mlflow") is None:
            say(f"{_URI} is set, but mlflow is not installed: nothing is copied there; pip install mlflow")
            return None
        for name, value in (
            ("MLFLOW_DISABLE_TELEMETRY", "true"),
            ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"),
            ("MLFLOW_HTTP_REQUEST_TIMEOUT", "20"),
        ):
            os.environ.setdefault(name, value)
        return cls(database, study, storage_root, say)

    def wake(self) -> None:
        """Make the thread copy newly finished trials soon."""
        self._wake.set()

    def close(self) -> None:
        """Copy the remaining trials, and end the thread; after a while it gives up with a line in the log."""
        self._is_closing = True
        self._wake.set()
        self._thread.join(_LAST_WAIT_S)
        if self._thread.is_alive():
            self._say(
                f"MLflow has not answered for {_LAST_WAIT_S:.0f} s; the next launch copies what is missing"
            )

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            closing = self._is_closing
            try:
                self._copy_all()
            except Exception as error:  # anything: it is only a copy
                self._copied = None  # half a run may be there, which asking MLflow anew removes
                # Not its text, which may hold the address with a password.
                kind = type(error).__name__
                where = "".join(traceback.format_tb(error.__traceback__))
                logger.debug("not copied to MLflow: %s, raised at\n%s", kind, where)
                if kind not in self._said:
                    self._said.add(kind)
                    self._say(
                        f"not copied to MLflow ({kind}); tried again after the next trial, and by the next launch"
                    )
            if closing:
                return

    def _copy_all(self) -> None:
        from mlflow import MlflowClient

        ended = [trial for trial in self._database.trials(self._study) if trial.state in _STATUS]
        if self._copied is not None and self._copied >= {_key(trial) for trial in ended}:
            return
        client = MlflowClient()
        experiment = client.get_experiment_by_name(self._study)
        experiment_id = (
            client.create_experiment(self._study) if experiment is None else experiment.experiment_id
        )
        if self._copied is None:
            self._copied = _whole_runs(client, experiment_id)
        problem: Exception | None = None
        for trial in ended:
            if _key(trial) in self._copied:
                continue
            try:
                self._copy(client, experiment_id, trial)
                self._copied.add(_key(trial))
            except Exception as error:  # the others may go well
                problem = problem or error
        if problem is not None:
            raise problem

    def _copy(self, client: Any, experiment_id: str, trial: TrialRecord) -> None:
        from mlflow.entities import Metric, Param

        notes = {key: str(value)[:5000] for key, value in trial.notes.items()}
        started_ms = _milliseconds(trial.started_at)
        run = client.create_run(
            experiment_id,
            start_time=started_ms,
            run_name=f"{self._study}-trial-{trial.number}",
            tags={_KEY: _key(trial), "searcher.state": trial.state}
            | {f"searcher.{name}": text for name, text in notes.items()},
        )
        run_id, elapsed_s, metrics = run.info.run_id, 0.0, []
        for epoch, values in sorted(trial.epochs.items()):
            elapsed_s += values.get("epoch_s") or 0.0
            moment = started_ms + round(1000 * elapsed_s)
            metrics += [
                Metric(name, value, moment, epoch) for name, value in values.items() if value is not None
            ]
        params = [Param(name, str(value)) for name, value in trial.params.items()]
        client.log_batch(run_id, params=params)
        for first in range(0, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[first : first + _BATCH])
        name = trial_folder(self._study, trial.number)
        fetch_folder(self._storage_root, name, _PICTURES)
        folder = self._storage_root / name
        for picture in sorted(path for path in folder.glob("*") if path.suffix in _PICTURES):
            client.log_artifact(run_id, str(picture), "pictures")
        client.set_terminated(run_id, _STATUS[trial.state], _milliseconds(trial.ended_at))


def _whole_runs(client: Any, experiment_id: str) -> set[str]:
    """Return the keys of the trials that are copied, and remove runs that a kill left in the middle."""
    keys: set[str] = set()
    token = None
    while True:
        page = client.search_runs([experiment_id], page_token=token)
        for run in page:
            key = run.data.tags.get(_KEY)
            if key is not None and run.info.status == "RUNNING":
                client.delete_run(run.info.run_id)
            elif key is not None:
                keys.add(key)
        token = page.token
        if not token:
            return keys


def _key(trial: TrialRecord) -> str:
    # In local time without a zone, as the first versions wrote it: what they have copied is not copied again.
    started = None if trial.started_at is None else trial.started_at.astimezone().replace(tzinfo=None)
    return f"{trial.number} {started}"


def _milliseconds(moment: datetime | None) -> int:
    return 0 if moment is None else round(1000 * moment.timestamp())
