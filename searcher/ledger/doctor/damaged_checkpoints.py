"""Checkpoints whose bytes are not those that the database recorded."""

import contextlib
import functools
import hashlib
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from searcher.data_pipeline.datasets.synthetic import is_synthetic
from searcher.exceptions import UserError
from searcher.ledger.checkpoint_files import damage_of, find_checkpoint, listed_damage
from searcher.ledger.database import checkpoint_record
from searcher.ledger.doctor.examined_study import ExaminedStudy
from searcher.ledger.doctor.finding import Finding
from searcher.ledger.retention import needed_to_go_on
from searcher.ledger.tables import CheckpointRow, utc_now
from searcher.storage.mirror import storage_at
from searcher.storage.protocol import ObjectFacts
from searcher.study.layout import inside
from searcher.study.reader import setting_words

__all__ = ["checkpoints"]


def checkpoints(
    examined: ExaminedStudy, progress: Callable[[int, int], None] | None = None
) -> Iterator[Finding]:
    """Yield a finding for each recorded checkpoint whose bytes differ from the record.

    All checkpoints of the study are read; in an object store, only their listing is.

    Args:
        examined: The study.
        progress: Called with (checkpoints done, checkpoints in all).
    """
    if examined.trials is None or not examined.records:
        return
    folder = examined.root / examined.name
    storage = storage_at(examined.row.storage_root)
    listing = storage.list(examined.name) if storage.is_remote else None
    if listing is None and not folder.is_dir():
        yield Finding(
            kind="checkpoint",
            study=examined.name,
            where=str(folder),
            what=f"no such folder on this machine, where {len(examined.records)} checkpoints are recorded",
            why="trials can neither go on nor be used without them",
            remedy="run the doctor where they lie; if they were moved, launch with --storage FOLDER",
        )
        return
    needed = needed_to_go_on(list(examined.trials.values()))
    for done, row in enumerate(examined.records):
        if progress is not None:
            progress(done, len(examined.records))
        state = examined.state_of(row.trial)
        is_being_written = examined.driver is not None and state in ("RUNNING", "WAITING")
        if state is not None and not is_being_written:
            yield from _compare(examined, row, state, listing, is_needed=row.trial in needed)


def _compare(
    examined: ExaminedStudy,
    row: CheckpointRow,
    state: str,
    listing: Mapping[str, ObjectFacts] | None,
    *,
    is_needed: bool,
) -> Iterator[Finding]:
    record = checkpoint_record(row)
    finding = functools.partial(Finding, kind="checkpoint", study=examined.name, where=row.uri)
    try:
        named = inside(examined.root, row.uri)
        if listing is not None:  # sizes alone: a checkpoint is named there by the digest that was sent
            problem = listed_damage(listing, record)
            found = named if problem is None else None
        else:
            found = find_checkpoint(examined.root, record)
            problem = None if found is not None else damage_of(examined.root, record)
    except UserError as error:
        yield finding(
            what=str(error),
            why="a file outside the storage root is never opened",
            remedy="set the row right, or restore the database from a backup",
        )
        return
    is_ended = state in ("COMPLETE", "PRUNED")
    if found is None and problem is not None:
        if not _is_overtaken(examined, row) and _is_current(examined, row):
            yield _damaged(examined, row, problem, state, is_needed=is_needed)
    elif found is not None and found != named and row.kind == "best" and is_ended:
        yield finding(
            what=f"not the recorded bytes, which lie in {found.name}",
            why=f"`searcher best` and everything that takes trial {row.trial}'s weights open this name",
            remedy=f"--fix puts {found.name} in its place",
            fix=lambda: _put_back(examined, row, found, named),
        )
    elif row.problem is not None:
        yield finding(
            what=f"recorded as damaged ({row.problem}), but whole",
            why="somebody has put it back",
            remedy="--fix clears the record",
            fix=lambda: _write(examined, row, "cleared", problem=None),
        )


def _damaged(
    examined: ExaminedStudy, row: CheckpointRow, problem: str, state: str, *, is_needed: bool
) -> Finding:
    finding = functools.partial(Finding, kind="checkpoint", study=examined.name, where=row.uri, what=problem)
    is_noted = row.problem == problem
    if row.kind == "best" and state in ("COMPLETE", "PRUNED"):
        return finding(
            why=f"trial {row.trial} is {state} and its values stay true, but its weights are lost",
            remedy="restore the file from a backup, or train its parameters again"
            + (" by the command below" if examined.row.spec_source else " with `searcher train`"),
            command=_train_again(examined, row.trial),
            fix=None if is_noted else lambda: _write(examined, row, "noted", problem=problem),
            is_cured=False,
        )
    if is_needed or state == "RUNNING":
        return finding(
            why=f"what tries trial {row.trial} again goes on from the one before, or from the start",
            remedy="written down; nothing more to do"
            if is_noted
            else "--fix writes it down; so does the retry",
            fix=None if is_noted else lambda: _write(examined, row, "written down", problem=problem),
            state="noted",
        )
    return finding(
        why=f"trial {row.trial} is {state} and nothing goes on from it, so nothing is lost",
        remedy="--fix writes the record off",
        fix=lambda: _write(examined, row, "written off", removed_at=utc_now()),
    )


def _is_overtaken(examined: ExaminedStudy, row: CheckpointRow) -> bool:
    """Return whether a `previous` record is gone because its worker wrote one more checkpoint than it reported.

    That is how every interruption may leave a trial: the recorded last is the one before by then, and whole.
    """
    if row.kind != "previous":
        return False
    for other in examined.records:
        if other.trial == row.trial and other.kind == "last":
            with contextlib.suppress(UserError):  # which is a finding of its own
                found = find_checkpoint(examined.root, checkpoint_record(other))
                return found is not None and found != inside(examined.root, other.uri)
    return False


def _is_current(examined: ExaminedStudy, row: CheckpointRow) -> bool:
    """Return whether the record is still what it was: a driver or a collector may have changed it meanwhile."""
    with examined.database.read() as session:
        return session.scalar(sa.select(CheckpointRow.id).where(*_same(row))) is not None


def _write(examined: ExaminedStudy, row: CheckpointRow, done: str, **values: str | datetime | None) -> str:
    with examined.database.write() as session:
        session.execute(sa.update(CheckpointRow).where(*_same(row)).values(**values))
    return done


def _same(row: CheckpointRow) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        CheckpointRow.id == row.id,
        CheckpointRow.sha256 == row.sha256,
        CheckpointRow.removed_at.is_(None),
    )


def _put_back(examined: ExaminedStudy, row: CheckpointRow, source: Path, path: Path) -> str:
    """Give the recorded bytes their name back: by a hard link where the file system has them, otherwise by a copy."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        with temporary.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != row.sha256:
                raise UserError(
                    f"{source}: must have the recorded sha256, got other bytes by now; look again"
                )
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:  # renaming one of two links of the same file over the other keeps both names
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return _write(examined, row, f"{source.name} put in its place", problem=None)


def _train_again(examined: ExaminedStudy, number: int) -> str | None:
    """Return the command that trains a trial's parameters once more, None where no file is known to say the rest."""
    row = examined.row
    if row.spec_source is None or row.parent_study is not None:  # a child's file leaves much to its parent
        return None
    assert examined.trials is not None
    settings = {**(row.overrides or {}), **examined.trials[number].params}
    words = ["searcher", "train", "--study", row.spec_source]
    if not storage_at(row.storage_root).is_remote:  # a single trial is kept in a folder
        words += ["--storage", row.storage_root]
    if not is_synthetic(row.data_source):
        words += ["--data", row.data_source]
    return shlex.join([*words, *setting_words(settings)])
