"""Decides which checkpoints of a study are removed: in a folder by name and link, in an object store by digest."""

import hashlib
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from searcher.exceptions import StorageError, UserError
from searcher.ledger.tables import CheckpointRow
from searcher.storage.protocol import Storage
from searcher.study.layout import inside, trial_folder

__all__ = ["FolderPlan", "Freed", "ObjectPlan", "Rules"]

_BEST = "best.pt"
_CHECKPOINTS = (_BEST, "last.pt", "previous.pt", "previous-best.pt")
_BLOCK_BYTES = 512  # of `st_blocks`, on every POSIX system


@dataclass(frozen=True, kw_only=True)
class Freed:
    """The result of deleting checkpoints of a study: which files were deleted, and how many stay."""

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


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The trials and files of a study whose checkpoints must be kept."""

    at_work: frozenset[int]
    """Trials that may be writing: nothing of theirs is touched."""
    needed: frozenset[int]
    """Trials that another one resumes from: all their checkpoints stay."""
    done: frozenset[int]
    """Trials whose `best` is the recorded one. A trial that FAILed may have written a newer one without reporting
    it."""
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
        """Return the file or link at a path; None for anything else."""
        try:
            found = path.lstat()
        except FileNotFoundError:  # its writer renamed or removed it just now
            return None
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
            return None
        return cls(path, (found.st_dev, found.st_ino), found.st_nlink, found.st_blocks * _BLOCK_BYTES)


@dataclass
class FolderPlan:
    """Plan for a study's checkpoint files in a folder: `decide` sorts them, `remove` deletes those in `going`."""

    study: str
    root: Path
    going: list[_File] = field(default_factory=list)
    staying: list[_File] = field(default_factory=list)
    given_up: list[CheckpointRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def decide(
        self, numbers: Iterable[int], records: Mapping[int, Sequence[CheckpointRow]], rules: Rules
    ) -> None:
        """Decide which checkpoint files and records of some trials are deleted.

        Args:
            numbers: Numbers of the trials.
            records: Rows of the trials' checkpoints that are not deleted yet, by trial.
            rules: The trials and files to keep.
        """
        for number in numbers:
            _plan_trial(self, rules, self.root, self.study, number, records.get(number, []))

    def remove(self) -> None:
        """Delete the files in `going`."""
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

    def freed(self) -> Freed:
        """Return which files were deleted and which are still there."""
        names: dict[tuple[int, int], int] = {}
        for file in self.going:
            names[file.inode] = names.get(file.inode, 0) + 1
        gone = {file.inode: file.disk_bytes for file in self.going if names[file.inode] >= file.num_links}
        kept = {file.inode: file.disk_bytes for file in self.staying}
        return Freed(
            study=self.study,
            removed=tuple(file.path.relative_to(self.root.resolve()).as_posix() for file in self.going),
            freed_bytes=sum(gone.values()),
            num_kept=len(self.staying),
            kept_bytes=sum(kept.values()),
            problems=tuple(self.problems),
        )


@dataclass
class ObjectPlan:
    """Plan for a study's checkpoints in an object store: `decide` sorts them, `remove` deletes those in `going`.

    In an object store, checkpoints are named by their digests.
    """

    study: str
    root: Path
    """The mirror."""
    storage: Storage
    going: dict[str, int] = field(default_factory=dict)
    """Bytes by name."""
    staying: dict[str, int] = field(default_factory=dict)
    given_up: list[CheckpointRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def decide(
        self, numbers: Iterable[int], records: Mapping[int, Sequence[CheckpointRow]], rules: Rules
    ) -> None:
        """Decide which checkpoints of some trials are deleted, after listing the object store once.

        Args:
            numbers: Numbers of the trials.
            records: Rows of the trials' checkpoints that are not deleted yet, by trial.
            rules: The trials and files to keep.
        """
        try:
            found = self.storage.list(self.study)
        except StorageError as error:
            self.problems.append(str(error))
            return
        there = {name: facts.num_bytes for name, facts in found.items() if name.endswith(".pt")}
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
            digests = {Path(name).stem for name in stays}
            self.given_up += [
                row for row in rows if not (keeps_best and row.kind == "best") and row.sha256 not in digests
            ]

    def remove(self) -> None:
        """Delete the objects in `going`, and this machine's copies of them."""
        for name in list(self.going):
            try:
                self.storage.remove(name)
                (self.root / name).unlink(missing_ok=True)
            except (StorageError, OSError) as error:
                del self.going[name]
                self.problems.append(str(error))

    def freed(self) -> Freed:
        """Return which objects were deleted and which are still there."""
        return Freed(
            study=self.study,
            removed=tuple(self.going),
            freed_bytes=sum(self.going.values()),
            num_kept=len(self.staying),
            kept_bytes=sum(self.staying.values()),
            problems=tuple(self.problems),
        )


def _plan_trial(
    plan: FolderPlan, rules: Rules, root: Path, study: str, number: int, records: Sequence[CheckpointRow]
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
    plan: FolderPlan, rules: Rules, folder: Path, number: int, records: Sequence[CheckpointRow]
) -> None:
    """Decide about a trial that nothing resumes from. Reads only files that may go, and those only if it must."""
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
    """Return the half-written files of a killed writer."""
    files = (_File.at(path) for path in sorted(folder.glob("*.tmp")))
    return [file for file in files if file is not None]


def _has_size(path: Path, row: CheckpointRow) -> bool:
    try:
        return path.stat().st_size == row.num_bytes
    except OSError:
        return False


def _sha256(path: Path) -> str | None:
    """Return a file's digest, None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
