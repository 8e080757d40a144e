"""A small study in a database, and the steps of a driver, for tests of the ledger."""

from pathlib import Path

import optuna

from searcher.ledger.database import Database
from searcher.ledger.records import CheckpointRecord
from searcher.ledger.registration import Registration
from searcher.ledger.retry_policy import RetryPolicy
from searcher.ledger.study_ledger import StudyLedger
from searcher.study.reader import parse_study
from searcher.study.spec import StudySpec

TEXT = """
[study]
name = "s"
objective = "object_dice"
trials = 4
[space.optimizer]
name = { choices = ["sgd", "adam"] }
lr = { low = 0.001, high = 0.1, log = true }
[[enqueue]]
optimizer.name = "adam"
optimizer.lr = 0.01
"""


def spec(**overrides: object) -> StudySpec:
    """Return the study; `__` in a keyword stands for the dot of a key."""
    return parse_study(
        TEXT, source="s.toml", overrides={k.replace("__", "."): v for k, v in overrides.items()}
    )


def registration(
    study: StudySpec | None = None, *, fingerprint: str = "f" * 64, root: Path = Path("/nowhere/runs")
) -> Registration:
    """Return what a launch of the study says of it."""
    return Registration(
        spec=study or spec(), data_source="glas", data_fingerprint=fingerprint, storage_root=root
    )


def register(
    database: Database,
    study: StudySpec | None = None,
    *,
    retry_policy: RetryPolicy | None = None,
    **about: object,
) -> StudyLedger:
    """Register the study and return its ledger."""
    study = study or spec()
    registration(study, **about).register(database)
    return StudyLedger(database, study, optuna.samplers.RandomSampler(seed=0), retry_policy=retry_policy)


def ask(ledger: StudyLedger) -> int:
    """Begin a trial as a driver would that knows of every other one."""
    return ledger.begin_trial(running=range(1000))[0]


def metrics(value: float) -> dict[str, float]:
    """Return the metrics of an epoch."""
    return {"object_dice": value, "loss": 1 - value}


def checkpoint(kind: str, *, epoch: int) -> CheckpointRecord:
    """Return the record of a checkpoint that does not exist on disk."""
    uri = f"s/trial-0000/{kind}.pt"
    return CheckpointRecord(
        kind=kind, epoch=epoch, uri=uri, sha256=str(epoch) * 64, num_bytes=epoch, value=0.5
    )


def write_checkpoint(
    ledger: StudyLedger,
    root: Path,
    number: int,
    *,
    epoch: int,
    kind: str = "last",
    content: bytes | None = None,
) -> Path:
    """Write a file as a trial's checkpoint and record it; return its path."""
    import hashlib

    content = content or f"trial {number} epoch {epoch}".encode()
    path = root / "s" / f"trial-{number:04d}" / f"{kind}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "last" and path.exists():
        path.replace(path.with_name("previous.pt"))
    path.write_bytes(content)
    record = CheckpointRecord(
        kind=kind,
        epoch=epoch,
        uri=path.relative_to(root).as_posix(),
        sha256=hashlib.sha256(content).hexdigest(),
        num_bytes=len(content),
        value=0.5,
    )
    ledger.checkpoint(number, record)
    return path
