"""Files in the storage root that should not be there."""

import re
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from searcher.ledger.database import Database
from searcher.ledger.doctor.examined_study import ExaminedStudy
from searcher.ledger.doctor.finding import Finding
from searcher.ledger.tables import StudyRow

__all__ = ["foreign_studies", "half_written", "unknown_trials"]

_TRIAL = re.compile(r"trial-(\d{4,})")


def unknown_trials(examined: ExaminedStudy) -> Iterator[Finding]:
    """Yield a finding for each folder of a trial that the study in the database does not have."""
    if examined.trials is None:
        return
    for path in _trial_folders(examined.root / examined.name):
        number = int(path.name.removeprefix("trial-"))
        if not examined.knows_by_now(number):
            yield Finding(
                kind="folder",
                study=examined.name,
                where=str(path),
                what="holds a trial that the database does not know",
                why=f"trial {number}, when it comes, cannot begin in a folder that is in use",
                remedy="name the database that it belongs to with --db, or move the folder away",
            )


def half_written(examined: ExaminedStudy) -> Iterator[Finding]:
    """Yield a finding if there are unfinished files that a killed process left."""
    if examined.driver is not None:
        return
    files = [
        file
        for folder in _trial_folders(examined.root / examined.name)
        for file in sorted(folder.glob("*.tmp"))
        if file.is_file()
    ]
    if files:
        yield Finding(
            kind="leftover",
            study=examined.name,
            where=str(files[0].relative_to(examined.root))
            + (f" and {len(files) - 1} more" if files[1:] else ""),
            what=f"half-written when its writer was killed, {sum(file.lstat().st_size for file in files):,} bytes",
            why="it takes room and nothing reads it",
            remedy="--fix removes it",
            fix=lambda: _remove(files),
        )


def foreign_studies(database: Database) -> Iterator[Finding]:
    """Yield a finding for each study in the storage roots that the database lacks; it may be of another database."""
    with database.read() as session:
        rows = session.execute(sa.select(StudyRow.name, StudyRow.storage_root)).all()
    names = {name for name, _ in rows}
    for root in sorted({Path(root) for _, root in rows}):
        folders = sorted(root.iterdir()) if root.is_dir() else []
        for folder in folders:
            if folder.name not in names and _trial_folders(folder):
                yield Finding(
                    kind="folder",
                    study=None,
                    where=str(folder),
                    what=f"{len(_trial_folders(folder))} trials of a study that this database does not know",
                    why="a study of that name cannot be launched with this database and storage",
                    remedy="none needed if another database knows it; else it may be moved away",
                    state="noted",
                )


def _trial_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        p for p in folder.iterdir() if _TRIAL.fullmatch(p.name) and p.is_dir() and not p.is_symlink()
    )


def _remove(files: list[Path]) -> str:
    for file in files:
        file.unlink(missing_ok=True)
    return "removed"
