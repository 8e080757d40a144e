"""The bytes of a data set's files, the same ones for the fingerprint and for the decoder."""

import hashlib
from pathlib import Path

from data_pipeline.exceptions import ChangedDataError, DataError

__all__ = ["Contents"]

_CHUNK_BYTES = 1 << 20


class Contents:
    """Reads files, and refuses one whose bytes are not those that its digest was last taken of.

    A file may change between the fingerprint and the decoding: a sync is still copying, somebody corrects a label.
    The decoder gets the bytes that `read` returns, and opens no file itself. Threads may share one.
    """

    def __init__(self) -> None:
        self._digests: dict[Path, bytes] = {}

    def digest(self, path: Path) -> bytes:
        """Return the SHA-256 of a file's bytes, 32 bytes, and remember it for `read`.

        Raises:
            DataError: The file cannot be read.
        """
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
        except OSError as error:
            raise _unreadable(path, error) from error
        self._digests[path] = digest.digest()
        return self._digests[path]

    def read(self, path: Path) -> bytes:
        """Return a file's bytes.

        Raises:
            ChangedDataError: They are not those that `digest` was taken of.
            DataError: The file cannot be read.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise _unreadable(path, error) from error
        expected = self._digests.get(path)
        if expected is not None and hashlib.sha256(content).digest() != expected:
            raise ChangedDataError(
                f"{path}: the file must stay the same while the data set is read, got other content than "
                "before; wait until whatever writes it has ended, and try again"
            )
        return content


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: the file must be readable, got {error.strerror}; restore it")
