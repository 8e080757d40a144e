"""A storage root that is a folder, on this machine's disk or on one that the nodes of a cluster share."""

import os
import shutil
from pathlib import Path
from typing import ClassVar

from searcher.atomic_files import write_atomically
from searcher.exceptions import StorageError
from searcher.storage.protocol import ObjectFacts

__all__ = ["FolderStorage"]


class FolderStorage:
    """A storage root that is a folder; a `Storage`.

    Args:
        root: The folder; it need not exist.
        option: The option that named the folder, for messages.
    """

    is_remote: ClassVar[bool] = False
    same_for_nodes: ClassVar[tuple[str, str]] = (
        "must be the same folder on every node",
        "mount the shared folder there",
    )

    def __init__(self, root: Path, *, option: str = "--storage") -> None:
        self.root = root
        self.option = option
        self.retry_for_s = 0.0  # a folder that is away is an error of the system
        self._was_there = root.exists()

    @property
    def text(self) -> str:
        """Path of the folder."""
        return str(self.root)

    def check_use(self) -> None:
        """Check that the folder is writable, or can be created.

        Raises:
            StorageError: It is not writable and cannot be created.
        """
        existing = next(place for place in [self.root, *self.root.parents] if place.exists())
        if not existing.is_dir():
            raise StorageError(
                f"{self.option} {self.root}: must be a folder, got the file {existing}; choose another path"
            )
        if not os.access(existing, os.W_OK | os.X_OK):
            raise StorageError(
                f"{self.option} {self.root}: must be writable, got {existing} without permission; choose another path"
            )

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None if there is no readable file."""
        try:
            return (self.root / name).read_bytes()
        except OSError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Create or replace a file, atomically, and create missing folders.

        Raises:
            OSError: The file could not be written; an existing file is unchanged.
        """
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda writer: writer.write(content))

    def list(self, folder: str = "") -> dict[str, ObjectFacts]:
        """Return size and time of all files in and below a folder, by name relative to the root."""
        found = {}
        for parent, _, names in os.walk(
            self.root / folder, followlinks=True
        ):  # a trial's may lie on another disk
            for name in names:
                path = Path(parent, name)
                try:
                    facts = path.stat()
                except OSError:  # its writer renamed or removed it just now, or a link to nowhere
                    continue
                found[path.relative_to(self.root).as_posix()] = ObjectFacts(facts.st_size, facts.st_mtime_ns)
        return found

    def remove(self, name: str) -> None:
        """Delete a file; a missing file is no error."""
        (self.root / name).unlink(missing_ok=True)

    def discard(self, folder: str) -> None:
        """Delete a folder; and the root, if it is empty and did not exist when this object was created."""
        shutil.rmtree(self.root / folder, ignore_errors=True)
        if not self._was_there:
            try:
                self.root.rmdir()
            except OSError:  # in use by now, or never made
                return
