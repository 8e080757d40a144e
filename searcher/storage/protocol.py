"""What a storage root must do, whether it is a folder or lies in an object store."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

__all__ = ["ObjectFacts", "Storage"]


@dataclass(frozen=True)
class ObjectFacts:
    """Size and time of a file in a listing."""

    num_bytes: int
    modified_ns: int
    """Nanoseconds since 1970; 0 where the store does not say."""


class Storage(Protocol):
    """The files of a storage root, by names relative to it such as `STUDY/trial-0007/best.pt`. Threads may share one.

    At any moment a file is complete or missing.

    Raises:
        StorageError: Any method: the store cannot be reached or used.
        OSError: Any method of a folder: the operating system refuses.
    """

    is_remote: ClassVar[bool]
    """Whether it may be away for a while, and its files are worked on in a mirror on this machine."""
    same_for_nodes: ClassVar[tuple[str, str]]
    """What every node of a cluster must fulfil to use it, and what to do where one does not."""
    retry_for_s: float
    """Seconds to try again where it is away; a refusal is final at once."""

    @property
    def text(self) -> str:
        """The root as stored in the database: a folder or an object store's URI."""

    def check_use(self) -> None:
        """Check that files can be written, or that the folder can be created."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None if there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Create or replace a file, and create missing folders."""

    def list(self, folder: str = "") -> dict[str, ObjectFacts]:
        """Return size and time of all files in and below a folder, by name relative to the root; empty if there are
        none.
        """

    def remove(self, name: str) -> None:
        """Delete a file; a missing file is no error."""

    def discard(self, folder: str) -> None:
        """Delete a folder that this process created, and the root if that was created for it; a failure is ignored."""
