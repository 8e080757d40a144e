"""What a storage root must do, whether it is a folder or lies in an object store."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

__all__ = ["ObjectFacts", "Storage"]


@dataclass(frozen=True)
class ObjectFacts:
    """What a listing says of a file."""

    num_bytes: int
    modified_ns: int
    """Nanoseconds since 1970; 0 where the store does not say."""


class Storage(Protocol):
    """Files by their names relative to a root, `STUDY/trial-0007/best.pt` say. Threads may share one.

    A file is complete or missing at any moment.

    Raises:
        StorageError: Any method: the store cannot be reached or used.
        OSError: Any method of a folder: the system refuses.
    """

    is_remote: ClassVar[bool]
    """Whether it may be away for a while, and its files are worked on in a mirror on this machine."""
    same_for_nodes: ClassVar[tuple[str, str]]
    """What every node of a cluster must fulfil to use it, and what to do where one does not."""
    retry_for_s: float
    """Seconds to try again where it is away; a refusal is final at once."""

    @property
    def text(self) -> str:
        """The root as the database has it: a folder's path or an object store's URI."""

    def check_use(self) -> None:
        """Check that files can be written, or that the folder can be made."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content, None if there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a file, and the folders that it lies in."""

    def list(self, folder: str = "") -> dict[str, ObjectFacts]:
        """Return all files below a folder, by name relative to the root; none where there is no such folder."""

    def remove(self, name: str) -> None:
        """Remove a file. One that is gone already is fine."""

    def discard(self, folder: str) -> None:
        """Remove a folder that this process made, and the root if that was made for it; says nothing if it cannot."""
