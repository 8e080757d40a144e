"""The folder of an export, which appears complete under its name or not at all."""

import contextlib
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from searcher.atomic_files import exchange, sha256_of, sync_folder, write_atomically
from searcher.bundle.load import is_bundle
from searcher.bundle.manifest import FileFacts
from searcher.exceptions import UserError

__all__ = ["EXPORT", "check_target", "facts_of", "files_of", "new_folder", "write_file"]

EXPORT = "export.json"
"""Names the files of an export without a bundle."""
_PARTIAL = ".partial"
"""What the name of a folder ends in while it is written."""


def check_target(target: Path, *, force: bool) -> None:
    """Check that an export can be written to a folder, before the work for it begins.

    Args:
        target: The folder of the export.
        force: Whether an existing export may be replaced.

    Raises:
        UserError: The path exists and may not be replaced, or its parent folder is missing or not writable.
    """
    parent = target.absolute().parent
    if not parent.is_dir():
        raise UserError(f"--to {target}: its folder must exist, got none; create {parent}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"--to {target}: {parent} must be writable, got no permission; choose another path")
    if not os.path.lexists(target):
        return
    is_empty_folder = target.is_dir() and not target.is_symlink() and not any(target.iterdir())
    if is_empty_folder:
        return
    if target.is_symlink() or not _is_export(target):
        raise UserError(
            f"--to {target}: must be a new folder or a bundle to replace, got something else; choose another path"
        )
    if not force:
        raise UserError(
            f"--to {target}: must not exist, got a bundle that is already there; add --force to replace it, or "
            "choose another path"
        )


def files_of(folder: Path) -> list[str]:
    """Return the names of all entries in a folder, sorted."""
    return sorted(each.name for each in folder.iterdir())


def _is_export(target: Path) -> bool:
    return is_bundle(target) or (target / EXPORT).is_file()


def write_file(path: Path, content: bytes) -> FileFacts:
    """Write a file, flush it to disk, and return its SHA-256 and its size in bytes."""
    written = write_atomically(path, lambda writer: writer.write(content))
    return FileFacts(sha256=written.sha256, num_bytes=written.num_bytes)


def facts_of(path: Path) -> FileFacts:
    """Return the SHA-256 and the size in bytes of a file that was just written, after flushing it to disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        sha256, num_bytes = sha256_of(file)
    return FileFacts(sha256=sha256, num_bytes=num_bytes)


@contextlib.contextmanager
def new_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """Yield a new empty folder that replaces `target` when the `with` block succeeds, and is deleted otherwise.

    Args:
        target: The final path.
        force: Whether an existing export may be replaced.
    """
    parent = target.absolute().parent
    _remove_leftovers(parent, target.name)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_PARTIAL, dir=parent))
    held = _locked(folder)  # until the end of this process, whatever it dies of
    try:
        folder.chmod(0o777 & ~_umask())
        yield folder
        check_target(target, force=force)  # something may have come there meanwhile
        if force and target.is_dir():
            exchange(folder, target)
        else:
            folder.rename(target)  # also over an empty folder, which POSIX allows
        sync_folder(parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # the old bundle by now, if there was one
        if held is not None:
            os.close(held)


def _remove_leftovers(parent: Path, name: str) -> None:
    """Remove what exports to this target left that were killed; an export that is at work holds its folder locked."""
    for folder in parent.glob(f".{glob.escape(name)}.*{_PARTIAL}"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        held = _locked(folder)
        if held is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)


def _locked(folder: Path) -> int | None:
    """Return the descriptor of a folder that is locked by it, None if another process holds it, or nobody can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
