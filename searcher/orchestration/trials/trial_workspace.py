"""Where a worker trains a trial, and how what it writes there comes to where the study's files are kept."""

import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.atomic_files import sha256_of
from searcher.exceptions import CheckpointError, StorageError
from searcher.ledger.checkpoint_files import find_checkpoint
from searcher.ledger.records import CheckpointRecord
from searcher.orchestration.cluster.scratch import scratch_folder
from searcher.orchestration.trials.messages import TrialJob
from searcher.storage.mirror import fetch_folder, local_root, storage_of
from searcher.storage.object_store import ObjectStore

if TYPE_CHECKING:
    from searcher.training.checkpoints import CheckpointFile

__all__ = ["AWAY_LIMIT_S", "TrialWorkspace", "trial_workspace"]

logger = logging.getLogger(__name__)

AWAY_LIMIT_S = 300.0
"""How long a worker, or a driver, waits for an object store that is away."""
_SCRATCH = "scratch"
_TO_GO_ON = (".pt", ".jsonl")
"""Of an earlier trial's files: its checkpoints, the best one among them, and its history."""


def trial_workspace(job: TrialJob) -> "TrialWorkspace":
    """Return the workspace of a job's trial on this node."""
    root = local_root(job.storage_root, Path(job.data.cache_dir))
    storage = storage_of(root)
    if not storage.is_remote:
        return TrialWorkspace(job, root)
    assert isinstance(storage, ObjectStore)
    storage.retry_for_s = AWAY_LIMIT_S
    return _ObjectPlace(job, root, storage)


class TrialWorkspace:
    """The folder in which a worker trains a trial. Here it is the trial's own folder in the storage root.

    Args:
        job: The trial's job.
        root: Folder of the storage root on this machine.
    """

    def __init__(self, job: TrialJob, root: Path) -> None:
        self.job = job
        self.root = root
        self.run_dir = root / job.run_dir
        """Folder to train in."""

    def find(self, record: CheckpointRecord) -> Path:
        """Return the file with a recorded checkpoint's bytes on this machine.

        Raises:
            CheckpointError: The file is missing or has changed.
        """
        path = find_checkpoint(self.root, record)
        if path is None:
            raise CheckpointError(
                f"{record.uri}: must be the checkpoint of epoch {record.epoch} with sha256 {record.sha256[:12]}, "
                "got none with it; it was there before"
            )
        return path

    def find_to_go_on(self, record: CheckpointRecord) -> Path:
        """Return the file like `find`, after making the trial's other files available in the same folder.

        Raises:
            CheckpointError: The file is missing or has changed.
        """
        return self.find(record)

    def kept(self, files: Mapping[str, "CheckpointFile"]) -> tuple[CheckpointRecord, ...]:
        """Return the records of checkpoints, by kind, after storing the files in the storage root.

        Raises:
            StorageError: The files could not be stored.
        """
        return tuple(self._record(kind, file, self._name(file)) for kind, file in files.items())

    def _name(self, file: "CheckpointFile") -> str:
        return file.path.relative_to(self.root).as_posix()

    def _record(self, kind: str, file: "CheckpointFile", uri: str) -> CheckpointRecord:
        return CheckpointRecord(
            kind=kind,
            epoch=file.epoch,
            uri=uri,
            sha256=file.sha256,
            num_bytes=file.num_bytes,
            value=file.value,
        )

    def close(self) -> None:
        """Leave the workspace. May be called again."""


class _ObjectPlace(TrialWorkspace):
    """A scratch folder on this node, whose files are put into an object store before an epoch is reported.

    Checkpoints are named there by their SHA-256. So none is ever overwritten, and an incomplete file is never mistaken
    for a complete one. A checkpoint that the folder dropped stays for one more epoch, because the driver may not have
    received the newest.
    """

    def __init__(self, job: TrialJob, root: Path, origin: ObjectStore) -> None:
        super().__init__(job, root)
        self._origin = origin
        self._resources = ExitStack()
        # By machine: where the cache is shared, a process that is gone here may be another one's there.
        scratch = Path(job.data.cache_dir) / _SCRATCH / os.uname().nodename
        self.run_dir = self._resources.enter_context(scratch_folder(scratch)) / Path(job.run_dir).name
        self._sent: dict[str, tuple[int, int]] = {}  # size and age of each file, as it was put there
        self._digests: dict[tuple[int, int, int], str] = {}  # by inode, size and age: a link is the same file
        self._there: set[str] = set()  # digests of checkpoints
        self._superseded: set[str] = set()

    def find_to_go_on(self, record: CheckpointRecord) -> Path:
        fetch_folder(self.root, str(Path(record.uri).parent), _TO_GO_ON)
        return self.find(record)

    def kept(self, files: Mapping[str, "CheckpointFile"]) -> tuple[CheckpointRecord, ...]:
        self._send_others()  # the history is there before the checkpoint that it leads to
        here = {self._digest(path): path for path in sorted(self.run_dir.glob("*.pt"))}
        for digest in here.keys() - self._there:
            sent = self._origin.upload(here[digest], self._object(digest))
            if sent.sha256 != digest:
                raise CheckpointError(
                    f"{here[digest]}: must stay as it was written, got other bytes a moment later; look at this disk"
                )
            self._there.add(digest)
        for digest in self._superseded - here.keys():
            self._origin.remove(self._object(digest))
            self._there.discard(digest)
        self._superseded = self._there - here.keys()
        return super().kept(files)

    def close(self) -> None:
        try:
            if self.run_dir.is_dir():
                self._origin.retry_for_s = 0.0
                self._send_others()  # the log's last lines, the reason of a failure among them
        except (StorageError, OSError) as error:
            logger.warning("the trial's last lines could not be kept: %s", error)
        finally:
            self._resources.close()

    def _send_others(self) -> None:
        for path in sorted(self.run_dir.iterdir()):
            if path.suffix in (".pt", ".tmp") or not path.is_file():
                continue
            facts = path.stat()
            version = (facts.st_size, facts.st_mtime_ns)
            if self._sent.get(path.name) != version:
                self._origin.upload(path, f"{self.job.run_dir}/{path.name}")
                self._sent[path.name] = version

    def _digest(self, path: Path) -> str:
        facts = path.stat()
        version = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
        if version not in self._digests:
            with path.open("rb") as file:
                self._digests[version] = sha256_of(file)[0]
        return self._digests[version]

    def _name(self, file: "CheckpointFile") -> str:
        return self._object(file.sha256)

    def _object(self, digest: str) -> str:
        return f"{self.job.run_dir}/{digest}.pt"
