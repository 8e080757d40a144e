"""A study with trials in a database and checkpoint files on disk, for tests that need no training."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import optuna
from new_database import new_database

from searcher.ledger.database import Database
from searcher.ledger.lease import Lease
from searcher.ledger.records import CheckpointRecord
from searcher.ledger.registration import Registration
from searcher.ledger.study_ledger import StudyLedger
from searcher.study.catalog import load_study
from searcher.study.layout import trial_folder
from searcher.study.spec import StudySpec

TEXT = """
[study]
name = "s"
objective = "object_dice"
trials = 9
[space.optimizer]
name = { choices = ["sgd", "adam"] }
lr = { low = 0.001, high = 0.1, log = true }
momentum = { low = 0.0, high = 0.9, when = { "optimizer.name" = ["sgd"] } }
"""
RERANK = """
[study]
name = "again"
objective = "object_dice"
[parent]
study = "s"
how = "rerank"
replicates = 2
replicate = "seed"
candidates = [
  { trial = 2, value = 0.9, params = { "optimizer.lr" = 0.01 } },
  { trial = 5, value = 0.8, params = { "optimizer.lr" = 0.02 } },
]
"""
"""A study that trains two trials of `s` again, from two seeds: trial 2, trial 5, trial 2, trial 5."""
NAMES = {"last": "last.pt", "previous": "previous.pt", "best": "best.pt"}


class StoredStudy:
    """A registered study, and the steps of a driver and a worker in few words. Its study file is `s.toml`."""

    def __init__(self, database: Database, folder: Path, *, text: str = TEXT, **overrides: object) -> None:
        self.database = database
        self.root = folder / "runs"
        self.file = folder / "s.toml"
        self.file.write_text(text)
        self.overrides = {key.replace("__", "."): value for key, value in overrides.items()}
        self.spec: StudySpec = load_study(str(self.file), self.overrides)
        self.registration = Registration(
            spec=self.spec,
            data_source="synthetic glands",
            data_fingerprint="f" * 64,
            storage_root=self.root,
        )
        self.registration.register(database)
        self.registration.begin_launch(database)
        self.ledger = StudyLedger(database, self.spec, optuna.samplers.RandomSampler(seed=0))

    @property
    def name(self) -> str:
        return self.spec.name

    def folder(self, number: int) -> Path:
        return self.root / trial_folder(self.name, number)

    def lease(self) -> Lease:
        """Begin a launch."""
        return Lease.acquire(self.database, self.name)

    def begin(self) -> int:
        """Ask for a trial, the queued ones first, and make its folder."""
        trial = self.ledger.optuna_study.ask()
        self.spec.space.suggest(trial)
        self.folder(trial.number).mkdir(parents=True)
        for name in ("trial.log", "config.json", "metrics.jsonl"):
            (self.folder(trial.number) / name).write_text(f"{name}\n")
        return trial.number

    def write(self, number: int, name: str, content: bytes) -> Path:
        """Write a file into a trial's folder as a worker does: under another name, then moved."""
        path = self.folder(number) / name
        temporary = path.with_name(f"{name}.tmp")
        temporary.write_bytes(content)
        temporary.replace(path)
        return path

    def link(self, number: int, name: str, source: Path) -> Path:
        path = self.folder(number) / name
        os.link(source, path)
        return path

    def record(self, number: int, kind: str, content: bytes, *, epoch: int = 1) -> None:
        """Write down a checkpoint as the driver does when it hears of it."""
        record = CheckpointRecord(
            kind=kind,
            epoch=epoch,
            uri=f"{trial_folder(self.name, number)}/{NAMES[kind]}",
            sha256=hashlib.sha256(content).hexdigest(),
            num_bytes=len(content),
            value=0.5,
        )
        self.ledger.checkpoint(number, record)

    def save(self, number: int, kind: str, content: bytes, *, epoch: int = 1) -> Path:
        """Write a checkpoint and its record."""
        path = self.write(number, NAMES[kind], content)
        self.record(number, kind, content, epoch=epoch)
        return path

    def complete(self, value: float = 0.5, *, kinds: tuple[str, ...] = ("best", "last")) -> int:
        """Run a trial to its end; the bytes of its checkpoints differ from all others."""
        number = self.begin()
        self.save_all(number, kinds)
        self.ledger.report(number, 1, {"object_dice": value})
        self.ledger.complete(number, value, best_epoch=1, stop_reason="epochs")
        return number

    def save_all(self, number: int, kinds: tuple[str, ...] = ("best", "last")) -> None:
        for kind in kinds:
            self.save(number, kind, content_of(number, kind))

    def files(self, number: int) -> list[str]:
        """Return what is in a trial's folder besides log, history and configuration."""
        always = {"trial.log", "config.json", "metrics.jsonl"}
        names = {path.name for path in self.folder(number).iterdir()}
        assert always <= names
        return sorted(names - always)

    def records(self, number: int) -> dict[str, CheckpointRecord]:
        return dict(self.database.trials(self.name)[number].checkpoints)


def stored_in(folder: Path, run_trials: Callable[[StoredStudy], None]) -> Path:
    """Make `searcher.db` with the study `s` and its trials in a folder, to be copied by tests; return the folder."""
    with new_database(folder / "searcher.db") as database:
        run_trials(StoredStudy(database, folder))
    return folder


def content_of(number: int, kind: str) -> bytes:
    """Return made-up weights, 8 KiB, a size in whole blocks of every file system."""
    return f"{kind} of trial {number}".encode().ljust(8192, b".")
