"""One prefix of an object store: whole objects in, whole objects out, and errors of one line without secrets."""

import contextlib
import hashlib
import logging
import os
import re
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from searcher.atomic_files import WrittenFile, sync_folder
from searcher.exceptions import StorageError
from searcher.storage.protocol import ObjectFacts

__all__ = ["ObjectStore", "below", "is_object_uri", "normal_uri"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_CHUNK_BYTES = 8 << 20
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0

_GOOGLE = ("gs://", "gcs://")
_GOOGLE_LIMIT_S = 10
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRET_KEY = re.compile(r"secret|password|passwd|token|key|credential|signature|^sig$|^sas", re.IGNORECASE)
_SECRET_VARIABLE = re.compile(r"^(AWS|GOOGLE|GCS|AZURE)_.*(KEY|SECRET|TOKEN|PASSWORD)", re.IGNORECASE)
_KIND = re.compile(r"AWS Error ([A-Z_]+)")
_REFUSED = {
    "NO_SUCH_BUCKET": ("no bucket of that name", "check the name"),
    **dict.fromkeys(
        (
            "ACCESS_DENIED",
            "INVALID_ACCESS_KEY_ID",
            "INVALID_CLIENT_TOKEN_ID",
            "INCOMPLETE_SIGNATURE",
            "MISSING_AUTHENTICATION_TOKEN",
            "SIGNATURE_DOES_NOT_MATCH",
            "UNRECOGNIZED_CLIENT",
        ),
        ("access denied", "check the credentials in this machine's environment, and their rights"),
    ),
}
"""What waiting does not change, by what S3 calls it."""


def is_object_uri(text: str) -> bool:
    """Return whether a text is the URI of an object store rather than a folder."""
    return _URI.match(text) is not None


def below(root: str, name: str) -> str:
    """Return the path or URI of a file below a storage root.

    Args:
        root: Folder or object store's URI.
        name: Path of the file, relative to the root.
    """
    if not is_object_uri(root):
        return f"{root}/{name}"
    path, mark, query = root.partition("?")
    return f"{path}/{name}{mark}{query}"


def normal_uri(option: str, text: str) -> str:
    """Return the URI of a folder in an object store in a normal form, without parts that make no difference.

    Args:
        option: The option that named it, for messages.
        text: The URI, as the user wrote it.

    Raises:
        StorageError: The URI contains a secret, which the process list and the database would show; or pyarrow does not
            support it. The message shows no secret.
    """
    try:
        parts = urllib.parse.urlsplit(text)
    except ValueError:  # its text would show the URI
        raise StorageError(
            f"{option}: must be a URI as s3://BUCKET/FOLDER, got one that is none; check it"
        ) from None
    if _holds_key(parts):
        raise StorageError(
            f"{option} {parts.scheme}: must not hold a key, which process list and database would show; put it into "
            "the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, say) of every node"
        )
    for name, _ in urllib.parse.parse_qsl(parts.query, keep_blank_values=True):
        if _SECRET_KEY.search(name):
            raise StorageError(
                f"{option} {parts.scheme}://{parts.netloc}{parts.path}: must not hold a secret, got the parameter "
                f"{name}; put it into the environment of every node"
            )
    if parts.scheme == "file":
        raise StorageError(
            f"{option} {text}: must be a folder or an object store, got a file URI; give the path"
        )
    if not parts.netloc:
        raise StorageError(f"{option} {text}: must name a bucket, got none; e.g. s3://BUCKET/FOLDER")
    uri = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}" + (
        f"?{parts.query}" if parts.query else ""
    )
    ObjectStore(uri, option=option).check_uri()
    return uri


def _holds_key(parts: urllib.parse.SplitResult) -> bool:
    """Return whether a URI's authority is more than a bucket, a container at an account, or a host with its port."""
    user, at, _ = parts.netloc.rpartition("@")
    if ":" in user:
        return True
    is_bucket = parts.scheme in ("s3", "gs", "gcs")
    return is_bucket and (":" in parts.netloc or (bool(at) and user != "anonymous"))


class ObjectStore:
    """The objects below a URI in an object store, by names relative to it; a `Storage`.

    At any moment an object is complete or missing. Credentials come from the environment, as for the store's own tools.
    A pickle contains only the URI.

    Args:
        uri: The URI, from `normal_uri`.
        option: The option that named it, for messages.
        retry_for_s: Seconds to repeat requests while the store cannot be reached; a refusal is never repeated.
    """

    is_remote: ClassVar[bool] = True
    same_for_nodes: ClassVar[tuple[str, str]] = (
        "must be the same on every node",
        "give Ray there the environment that the store's tools need",
    )

    def __init__(self, uri: str, *, option: str = "--storage", retry_for_s: float = 0.0) -> None:
        self.uri = uri
        self.option = option
        self.retry_for_s = retry_for_s

    def __repr__(self) -> str:
        return f"ObjectStore({self.uri!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (ObjectStore, (self.uri,))  # not the connection, which knows the keys

    @property
    def text(self) -> str:
        """The URI."""
        return self.uri

    def check_uri(self) -> None:
        """Check that pyarrow supports the URI. No server is contacted, except for the region of an S3 bucket.

        Raises:
            StorageError: pyarrow does not support the URI.
        """
        with self._said():
            _ = self._place

    def check_use(self) -> None:
        """Check the store by writing, reading and deleting an object.

        Raises:
            StorageError: The store cannot be reached or used.
        """
        name = f".probe-{os.urandom(8).hex()}"
        self.write(name, name.encode())
        if self.read(name) != name.encode():
            raise StorageError(
                f"{self._where}: must return what was written, got something else; choose another one"
            )
        self.remove(name)

    def read(self, name: str) -> bytes | None:
        """Return an object's content; None if there is none.

        Raises:
            StorageError: The store cannot be reached or used. All methods below raise it, too.
        """

        def act() -> bytes | None:
            filesystem, base = self._place
            try:
                with filesystem.open_input_stream(f"{base}/{name}") as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

        return self._try(act)

    def write(self, name: str, content: bytes) -> None:
        """Create or replace an object."""

        def act() -> None:
            filesystem, base = self._place
            with filesystem.open_output_stream(f"{base}/{name}") as stream:
                stream.write(content)

        self._try(act)

    def upload(self, path: Path, name: str) -> WrittenFile:
        """Create or replace an object by a file's content, and return the digest and size of what was sent.

        Raises:
            OSError: The file cannot be read; then there is no object of that name.
        """
        return self._try(lambda: self._upload(path, name))

    def _upload(self, path: Path, name: str) -> WrittenFile:
        filesystem, base = self._place
        digest, num_bytes, problem = hashlib.sha256(), 0, None
        with path.open("rb") as file, filesystem.open_output_stream(f"{base}/{name}") as stream:
            while True:
                try:
                    chunk = file.read(_CHUNK_BYTES)
                except (
                    OSError
                ) as error:  # pyarrow completes what it is given: half a file is taken away again
                    problem = error
                    break
                if not chunk:
                    break
                stream.write(chunk)
                digest.update(chunk)
                num_bytes += len(chunk)
        if problem is not None:
            filesystem.delete_file(f"{base}/{name}")
            raise _LocalError(problem) from problem
        return WrittenFile(path=path, sha256=digest.hexdigest(), num_bytes=num_bytes)

    def download(self, name: str, path: Path, *, sha256: str | None = None) -> WrittenFile | None:
        """Replace a file atomically by an object, and return the file's facts; None if there is no such object.

        Args:
            name: Name of the object, relative to the URI.
            path: The file to replace.
            sha256: Digest that the content must have, 64 hexadecimal digits; with another digest the result is None.
                None for any.

        Raises:
            OSError: The file cannot be written; an existing file is unchanged.
        """
        return self._try(lambda: self._download(name, path, sha256))

    def _download(self, name: str, path: Path, sha256: str | None) -> WrittenFile | None:
        filesystem, base = self._place
        digest, num_bytes = hashlib.sha256(), 0
        with contextlib.ExitStack() as stack:
            try:
                stream = stack.enter_context(filesystem.open_input_stream(f"{base}/{name}"))
            except FileNotFoundError:
                return None
            with _local():
                path.parent.mkdir(parents=True, exist_ok=True)
                # A name of its own: other processes of this machine may fetch the same object.
                file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=".fetched-", delete=False)  # noqa: SIM115
            temporary = Path(file.name)
            stack.callback(temporary.unlink, missing_ok=True)
            with file:
                while chunk := stream.read(_CHUNK_BYTES):
                    with _local():
                        file.write(chunk)
                    digest.update(chunk)
                    num_bytes += len(chunk)
                with _local():
                    file.flush()
                    os.fsync(file.fileno())
            if sha256 is not None and digest.hexdigest() != sha256:
                return None
            with _local():
                temporary.chmod(0o644)
                temporary.replace(path)
                sync_folder(path.parent)
        return WrittenFile(path=path, sha256=digest.hexdigest(), num_bytes=num_bytes)

    def list(self, folder: str = "") -> dict[str, ObjectFacts]:
        """Return size and time of all objects below a folder, by name relative to the URI; empty if there are none."""

        def act() -> dict[str, ObjectFacts]:
            from pyarrow.fs import FileSelector, FileType

            filesystem, base = self._place
            below = f"{base}/{folder}" if folder else base
            found = filesystem.get_file_info(FileSelector(below, recursive=True, allow_not_found=True))
            return {
                each.path[len(base) + 1 :]: ObjectFacts(each.size, each.mtime_ns or 0)
                for each in found
                if each.type == FileType.File
            }

        return self._try(act)

    def remove(self, name: str) -> None:
        """Delete an object; a missing object is no error."""

        def act() -> None:
            filesystem, base = self._place
            with contextlib.suppress(FileNotFoundError):
                filesystem.delete_file(f"{base}/{name}")

        self._try(act)

    def discard(self, folder: str) -> None:
        """Delete all objects below a folder that this process created; a failure is ignored."""
        with contextlib.suppress(StorageError):
            for name in self.list(folder):
                self.remove(name)

    # ---- talking to it -----------------------------------------------------------------------------------

    @cached_property
    def _place(self) -> tuple[Any, str]:
        from pyarrow.fs import FileSystem

        uri = self.uri
        if uri.startswith(_GOOGLE) and "retry_limit_seconds" not in uri:  # else 15 minutes without a word
            uri += f"{'&' if '?' in uri else '?'}retry_limit_seconds={_GOOGLE_LIMIT_S}"
        filesystem, base = FileSystem.from_uri(uri)
        return filesystem, base.rstrip("/")

    @property
    def _where(self) -> str:
        return f"{self.option} {self.uri}"

    def _try(self, act: Callable[[], _T]) -> _T:
        """Return what `act` returns; call it again while the store is away, for `retry_for_s` seconds."""
        give_up_at = time.monotonic() + self.retry_for_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                with self._said():
                    return act()
            except StorageError as error:
                if error.is_final or time.monotonic() + pause_s > give_up_at:
                    raise
                logger.warning("%s; trying again in %.1f s", error, pause_s)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Turn what pyarrow says into one line of ours. Errors of this machine's files pass."""
        try:
            yield
        except _LocalError as error:
            raise error.cause from None
        except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's own are among these
            raise self._error(
                str(error), is_bad_uri=isinstance(error, ValueError | NotImplementedError)
            ) from None

    def _error(self, text: str, *, is_bad_uri: bool) -> StorageError:
        kind = _KIND.search(text)
        refusal = _REFUSED.get(kind[1]) if kind else None
        if refusal is None and "HTTP status 403" in text:
            refusal = _REFUSED["ACCESS_DENIED"]
        if refusal is not None:
            got, remedy = refusal
        else:
            got = _without_secrets(" ".join(text.split()))
            remedy = (
                "check the URI" if is_bad_uri else "check that the store is up and can be reached from here"
            )
        error = StorageError(f"{self._where}: must be an object store that can be used, got {got}; {remedy}")
        error.is_final = refusal is not None or is_bad_uri
        return error


class _LocalError(Exception):
    """Carries an error of this machine's files past the store's."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextlib.contextmanager
def _local() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _LocalError(error) from error


def _without_secrets(text: str) -> str:
    for name, value in os.environ.items():
        if value and _SECRET_VARIABLE.search(name):
            text = text.replace(value, "***")
    text = re.sub(r"\s*\(Request ID: [^)]*\)", "", text).partition("; Details:")[0]
    return text if len(text) <= 300 else f"{text[:300]}…"
