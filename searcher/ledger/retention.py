"""Giving up checkpoints that nothing needs any more, to make room."""

import hashlib
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from searcher.exceptions import StorageError, StudyConflictError, UserError
from searcher.ledger.best import values_by_candidate
from searcher.ledger.database import Database
from searcher.ledger.tables import CheckpointRow, ExportRow, StudyRow, utc_now
from searcher.ledger.watch import frozen_trials
from searcher.storage.mirror import local_root, origin_of
from searcher.storage.objects import ObjectStore
from searcher.study.layout import inside, trial_folder
from searcher.study.objectives import Direction, Objective, pareto_front
from searcher.study.rerank import CANDIDATE, ranking

__all__ = ["Freed", "collect", "needed_to_go_on"]

_BEST = "best.pt"
_CHECKPOINTS = (_BEST, "last.pt", "previous.pt", "previous-best.pt")
_BLOCK_BYTES = 512  # of `st_blocks`, on every POSIX system


@dataclass(frozen=True, kw_only=True)
class Freed:
    """What was given up in a study, and what is still there."""

    study: str
    removed: tuple[str, ...]
    """Files, relative to the storage root."""
    freed_bytes: int
    """Room on the disk. Names of the same file count once, and only when all of them went."""
    num_kept: int
    """Checkpoint files that stay, of the trials that were looked at."""
    kept_bytes: int
    problems: tuple[str, ...]
    """Files that should have gone and did not, and why, one line each."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def collect(
    database: Database,
    study_name: str,
    *,
    keep_best: int | None,
    dry_run: bool = False,
    trials: Collection[int] | None = None,
) -> Freed:
    """Remove a study's checkpoint files that nothing needs; a driver may be at work on it.

    Kept are all files of trials that are RUNNING, or that a WAITING or RUNNING retry goes on from; `best` of the
    best trials; and every file with the bytes that an export or a child study refers to. Logs, histories and
    configurations are never removed, nor files that searcher did not write. A record is marked before its file
    goes: after a crash between the two, the next call removes the file.

    Args:
        database: The study database.
        study_name: The study.
        keep_best: Of how many of the best COMPLETE trials to keep `best`; None keeps that of every trial.
        dry_run: Change nothing, and say what would be done.
        trials: Numbers to look at; None looks at all.

    Raises:
        UserError: There is no such study, its trials were deleted from Optuna's tables, or its checkpoints do
            not lie on this machine.
    """
    row = database.study_row(study_name)
    frozen = frozen_trials(database, study_name)
    records = _records(database, row.id)
    root = local_root(row.storage_root)
    if records and not root.is_dir():
        raise StudyConflictError(
            f"--study {study_name}: its checkpoints must lie on this machine, in {root}, got no such folder; "
            "collect where they lie"
        )
    rules = _Rules(
        at_work=frozenset(trial.number for trial in frozen if not trial.state.is_finished()),
        needed=needed_to_go_on(frozen),
        done=frozenset(t.number for t in frozen if t.state in (TrialState.COMPLETE, TrialState.PRUNED)),
        keeps_best=_with_best(frozen, Objective(row.objective), keep_best, database.directions(study_name)),
        protected=_protected(database, row),
    )
    numbers = [trial.number for trial in frozen if trials is None or trial.number in trials]
    if (origin := origin_of(root)) is not None:
        objects = _ObjectPlan(study_name)
        try:
            objects.decide(origin, numbers, records, rules)
        except StorageError as error:
            objects.problems.append(str(error))
        if not dry_run:
            _mark_removed(database, objects.given_up)
            objects.remove(origin, root)
        return objects.freed()
    plan = _Plan()
    for number in numbers:
        _plan_trial(plan, rules, root, study_name, number, records.get(number, []))
    if not dry_run:
        _mark_removed(database, plan.given_up)
        plan.remove()
    return plan.freed(study_name, root)


def needed_to_go_on(trials: Sequence[FrozenTrial]) -> frozenset[int]:
    """Return the trials whose checkpoints a WAITING or RUNNING trial goes on from: those that it retries."""
    retried = {trial.number: trial.user_attrs.get("retry_of") for trial in trials}
    needed: set[int] = set()
    for trial in trials:
        number = None if trial.state.is_finished() else retried[trial.number]
        while number is not None and number not in needed:
            needed.add(number)
            number = retried.get(number)
    return frozenset(needed)


@dataclass(frozen=True, kw_only=True)
class _Rules:
    at_work: frozenset[int]
    """Trials that may be writing: nothing of theirs is touched."""
    needed: frozenset[int]
    """Trials that another one goes on from: all their checkpoints stay."""
    done: frozenset[int]
    """Trials whose `best` is the recorded one: one that FAILed may have written another that nobody heard of."""
    keeps_best: frozenset[int]
    """Trials that keep it."""
    protected: frozenset[str]
    """Digests that exports and child studies refer to."""


@dataclass(frozen=True)
class _File:
    path: Path
    inode: tuple[int, int]
    num_links: int
    disk_bytes: int

    @classmethod
    def at(cls, path: Path) -> "_File | None":
        """Return a file or link of that name, None for anything else."""
        try:
            found = path.lstat()
        except FileNotFoundError:  # its writer renamed or removed it just now
            return None
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
            return None
        return cls(path, (found.st_dev, found.st_ino), found.st_nlink, found.st_blocks * _BLOCK_BYTES)


@dataclass
class _Plan:
    """What goes and what stays; carried out by `remove`."""

    going: list[_File] = field(default_factory=list)
    staying: list[_File] = field(default_factory=list)
    given_up: list[CheckpointRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def remove(self) -> None:
        gone: list[_File] = []
        for file in self.going:
            try:
                file.path.unlink(missing_ok=True)
                gone.append(file)
            except OSError as error:
                self.problems.append(
                    f"{file.path}: could not be removed: {error.strerror}; check the permissions, then collect again"
                )
        self.going = gone

    def freed(self, study: str, root: Path) -> Freed:
        names: dict[tuple[int, int], int] = {}
        for file in self.going:
            names[file.inode] = names.get(file.inode, 0) + 1
        gone = {file.inode: file.disk_bytes for file in self.going if names[file.inode] >= file.num_links}
        kept = {file.inode: file.disk_bytes for file in self.staying}
        return Freed(
            study=study,
            removed=tuple(file.path.relative_to(root.resolve()).as_posix() for file in self.going),
            freed_bytes=sum(gone.values()),
            num_kept=len(self.staying),
            kept_bytes=sum(kept.values()),
            problems=tuple(self.problems),
        )


@dataclass
class _ObjectPlan:
    """What goes and what stays in an object store, whose checkpoints are named by their digests."""

    study: str
    going: dict[str, int] = field(default_factory=dict)
    """Bytes by name."""
    staying: dict[str, int] = field(default_factory=dict)
    given_up: list[CheckpointRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def decide(
        self,
        origin: ObjectStore,
        numbers: Iterable[int],
        records: Mapping[int, Sequence[CheckpointRow]],
        rules: _Rules,
    ) -> None:
        """Decide about the checkpoints of trials, after one look at what is there."""
        there = {
            name: facts.num_bytes for name, facts in origin.list(self.study).items() if name.endswith(".pt")
        }
        for number in numbers:
            folder = f"{trial_folder(self.study, number)}/"
            files = {name: size for name, size in there.items() if name.startswith(folder)}
            if number in rules.at_work or number in rules.needed:
                self.staying |= files
                continue
            rows = records.get(number, [])
            keeps_best = number in rules.keeps_best
            wanted = {row.sha256 for row in rows if keeps_best and row.kind == "best"} | rules.protected
            stays = {name: size for name, size in files.items() if Path(name).stem in wanted}
            self.staying |= stays
            self.going |= {name: size for name, size in files.items() if name not in stays}
            found = {Path(name).stem for name in stays}
            self.given_up += [
                row for row in rows if not (keeps_best and row.kind == "best") and row.sha256 not in found
            ]

    def remove(self, origin: ObjectStore, root: Path) -> None:
        """Remove what goes, and this machine's copies."""
        for name in list(self.going):
            try:
                origin.remove(name)
                (root / name).unlink(missing_ok=True)
            except (StorageError, OSError) as error:
                del self.going[name]
                self.problems.append(str(error))

    def freed(self) -> Freed:
        return Freed(
            study=self.study,
            removed=tuple(self.going),
            freed_bytes=sum(self.going.values()),
            num_kept=len(self.staying),
            kept_bytes=sum(self.staying.values()),
            problems=tuple(self.problems),
        )


def _plan_trial(
    plan: _Plan, rules: _Rules, root: Path, study: str, number: int, records: Sequence[CheckpointRow]
) -> None:
    """Decide about the files and records of one trial."""
    relative = trial_folder(study, number)
    try:
        folder = inside(root, relative)
        if folder != root.resolve() / relative:
            raise UserError(
                f"{root / relative}: must be a folder, got a link to {folder}; nothing there was removed"
            )
    except UserError as error:
        plan.problems.append(str(error))
        return
    if number in rules.at_work:
        plan.staying += _checkpoints(folder)
        return
    plan.going += _unfinished(folder)
    if number in rules.needed:
        plan.staying += _checkpoints(folder)
    else:
        _plan_finished(plan, rules, folder, number, records)


def _plan_finished(
    plan: _Plan, rules: _Rules, folder: Path, number: int, records: Sequence[CheckpointRow]
) -> None:
    """Decide about a trial that nothing goes on from. Reads only files that may go, and those only if it must."""
    keeps_best = number in rules.keeps_best
    wanted = set(rules.protected)
    for row in records:
        if (
            keeps_best
            and row.kind == "best"
            and not (number in rules.done and _has_size(folder / _BEST, row))
        ):
            wanted.add(row.sha256)  # its bytes may lie under another name
    staying: list[_File] = []
    found: set[str] = set()
    for file in _checkpoints(folder):
        stays = keeps_best and file.path.name == _BEST
        is_twin = any(file.inode == other.inode for other in staying)  # its bytes stay under another name
        if not stays and not is_twin and wanted:
            digest = _sha256(file.path)
            stays = digest is None or digest in wanted
            found |= {digest} & wanted if digest else set()
            if digest is None:
                plan.problems.append(f"{file.path}: must be readable to know whether it is needed; kept")
        (staying if stays else plan.going).append(file)
    plan.staying += staying
    plan.given_up += [
        row for row in records if not (keeps_best and row.kind == "best") and row.sha256 not in found
    ]


def _checkpoints(folder: Path) -> list[_File]:
    """Return the checkpoints that searcher wrote into a trial's folder, `best` first."""
    files = (_File.at(folder / name) for name in _CHECKPOINTS)
    return [file for file in files if file is not None]


def _unfinished(folder: Path) -> list[_File]:
    """Return what a writer that was killed left half-written."""
    files = (_File.at(path) for path in sorted(folder.glob("*.tmp")))
    return [file for file in files if file is not None]


def _has_size(path: Path, row: CheckpointRow) -> bool:
    try:
        return path.stat().st_size == row.num_bytes
    except OSError:
        return False


def _with_best(
    trials: Iterable[FrozenTrial],
    objective: Objective,
    keep_best: int | None,
    directions: Sequence[Direction],
) -> frozenset[int]:
    """Return the trials whose `best` stays.

    Of several objectives, the best compromises are among them; in a rerank, they are all runs of the best candidates.
    """
    if keep_best is None:
        return frozenset(trial.number for trial in trials)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.values]
    again = values_by_candidate((trial.params, trial.values[0]) for trial in complete)
    if again:
        winners = ranking(again, objective)[:keep_best]
        return frozenset(trial.number for trial in complete if trial.params.get(CANDIDATE) in winners)
    ranked = sorted((objective.cost(trial.values[0]), trial.number) for trial in complete)
    front: list[int] = []
    if keep_best and len(directions) > 1:
        front = [complete[n].number for n in pareto_front([t.values for t in complete], directions)]
    return frozenset([*(number for _, number in ranked[:keep_best]), *front])


def _records(database: Database, study_id: int) -> Mapping[int, list[CheckpointRow]]:
    """Return the records that count, by trial."""
    kept = (CheckpointRow.study_id == study_id, CheckpointRow.removed_at.is_(None))
    by_trial: dict[int, list[CheckpointRow]] = {}
    with database.read() as session:
        for row in session.scalars(sa.select(CheckpointRow).where(*kept)):
            by_trial.setdefault(row.trial, []).append(row)
    return by_trial


def _protected(database: Database, row: StudyRow) -> frozenset[str]:
    with database.read() as session:
        exported = sa.select(ExportRow.checkpoint_sha256).where(ExportRow.study_id == row.id)
        began_from = sa.select(
            StudyRow.parent_sha256
        )  # of any study: a rerank of a fine-tuned one begins there too
        digests = [*session.scalars(exported), *session.scalars(began_from)]
    return frozenset(digest for digest in digests if digest is not None)


def _mark_removed(database: Database, records: Sequence[CheckpointRow]) -> None:
    if not records:
        return
    now = utc_now()
    with database.write() as session:
        for row in records:  # by its digest too: a record that was written anew meanwhile is another one
            same = (CheckpointRow.id == row.id, CheckpointRow.sha256 == row.sha256)
            session.execute(sa.update(CheckpointRow).where(*same).values(removed_at=now))


def _sha256(path: Path) -> str | None:
    """Return a file's digest, None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
