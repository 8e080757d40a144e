"""The Ray cluster of a launch: one of its own on loopback, or an existing one."""

import errno
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import ray
from ray.exceptions import AuthenticationError

from searcher.child_environment import reduced_environment
from searcher.exceptions import UserError
from searcher.orchestration.cluster.leftovers import MARK, ended_with_this_process
from searcher.orchestration.cluster.scratch import short_scratch_folder
from searcher.orchestration.ray_internals import head_address, loopback_only, start_local, version_of_head
from searcher.orchestration.signals import signals_kept

__all__ = ["TOKEN_REMEDY", "check_reachable", "ray_cluster"]

logger = logging.getLogger(__name__)

_OBJECT_STORE_BYTES = 128 * 2**20
"""Trials exchange a few numbers; images never go through Ray's object store."""
_KNOCK_TIMEOUT_S = 10.0
_LONGEST = 200
"""Characters that are quoted of what Ray says."""
_OF_THE_MACHINE = (
    *(errno.EADDRINUSE, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS),
)
"""Errors that have nothing to do with Ray's token: ports, memory, handles or disk of this machine."""
TOKEN_REMEDY = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file with the cluster's token"
"""The remedy if a cluster rejects this process's token."""


@contextmanager
def ray_cluster(address: str | None = None) -> Iterator[None]:
    """Context manager that joins the Ray cluster at `address`, or starts one on this machine and stops it at the end.

    A cluster of our own listens on loopback only and has no dashboard. Its files are in a scratch folder, and it
    inherits no secret of this process. A joined cluster is left unchanged.

    Raises:
        UserError: There is no cluster at the address, or it refuses this process. Or our own cluster cannot write its
            files, or does not start.
    """
    if ray.is_initialized():  # a notebook's own; it would be shut down at the end
        raise UserError(
            "ray: must not be in use in this process, which a launch joins to its own cluster, got a session of "
            "ray.init; call ray.shutdown() first"
        )
    if address is not None:
        with _joined(address):
            yield
        return
    with _own_cluster():
        yield


@contextmanager
def _own_cluster() -> Iterator[None]:
    """Start a cluster, a second time in another folder if it does not come up at first; end all of it afterwards."""
    with ExitStack() as session:
        try:
            _start_in(session)
        except _NotUpError as first:
            session.close()
            logger.warning("Ray did not come up, trying once more: %s", first)
            try:
                _start_in(session)
            except _NotUpError as second:
                raise UserError(
                    f"a cluster on this machine: must come up, got twice: {second}; look for free memory, room in "
                    f"{tempfile.gettempdir()} and in /dev/shm, and free ports, then launch again"
                ) from second
        yield


def _start_in(session: ExitStack) -> None:
    """Start a cluster whose processes and files are gone when the session is closed."""
    try:
        scratch = session.enter_context(short_scratch_folder())
    except OSError as error:  # a disk without room for a folder, say
        raise _NotUpError(f"{error.filename}: {error.strerror or error}") from error
    session.enter_context(ended_with_this_process(scratch.parent))
    session.callback(ray.shutdown)
    try:
        with loopback_only(), signals_kept(), reduced_environment(), _marked(str(scratch.parent)):
            _start(scratch)
    except UserError:
        raise
    except Exception as error:  # Ray's are plain RuntimeErrors, TimeoutErrors, and Exceptions
        raise _NotUpError(_last_line(error, scratch)) from error


class _NotUpError(Exception):
    """Ray's processes did not come up."""


def _last_line(error: Exception, scratch: Path) -> str:
    """Return Ray's message and the fault in its logs: the check above a stack trace, otherwise the last line."""
    said = _short(str(error).replace(f"{scratch}/", "")) or type(error).__name__
    for name in ("gcs_server.err", "raylet.err"):
        for path in sorted(scratch.glob(f"session_2*/logs/{name}")):
            lines = path.read_text(errors="replace").strip().splitlines()
            if lines:
                failed = [line.partition("Check failed: ")[2] for line in lines if "Check failed: " in line]
                return f"{said} ({name}: {_why_it_ended((failed or lines[-1:])[0])})"
    return said


def _why_it_ended(line: str) -> str:
    if "Failed to start the grpc server" in line:  # it names port 0, which stands for any free one
        return "no port of this machine is free"
    return _short(line)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


@contextmanager
def _marked(folder: str) -> Iterator[None]:
    """Let the processes that are started meanwhile be known for this session's."""
    os.environ[MARK] = folder
    try:
        yield
    finally:
        del os.environ[MARK]


@contextmanager
def _joined(address: str) -> Iterator[None]:
    check_reachable(address)
    try:
        with signals_kept(), reduced_environment():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, AuthenticationError) as error:
        raise UserError(
            f"--address {address}: must be a Ray cluster that takes this process; {_why(error)}"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()  # leaves the cluster; only what `ray.init` started would be stopped


def _why(error: Exception) -> str:
    """Return in one line why Ray could not join, and what to do."""
    text = " ".join(str(error).split())
    if text.startswith("Version mismatch"):
        there, _, here = text.partition(" This process")
        there, here = there.partition("with: ")[2], here.partition("with: ")[2]
        return f"got {there} there and {here} here; install the cluster's versions here"
    return (
        f"got {text[:200]}; a driver must run on one of the cluster's nodes: submit it from elsewhere with "
        "searcher launch --detach"
    )


def _start(scratch: Path) -> None:
    affinity = hasattr(os, "sched_getaffinity")
    try:
        start_local(
            scratch,
            num_cpus=len(os.sched_getaffinity(0)) if affinity else os.cpu_count(),
            object_store_bytes=_OBJECT_STORE_BYTES,
            logging_level=logging.ERROR,
        )
    except AuthenticationError as error:
        raise _no_token(error) from error
    except OSError as error:  # it makes ~/.ray/auth_token where there is no token
        if isinstance(error, TimeoutError | ConnectionError) or error.errno in _OF_THE_MACHINE:
            raise
        raise _no_token(error) from error


def _no_token(error: Exception) -> UserError:
    return UserError(
        "a cluster on this machine: must be able to find or write Ray's token, and to write its files, "
        f"got {_first_sentence(error)}; "
        "set HOME to a folder that can be written, or RAY_AUTH_TOKEN_PATH to a file with a token"
    )


def check_reachable(address: str | None) -> None:
    """Check that a cluster's head can be reached and has our version of Ray, with a single call.

    With a wrong token, or another server at the address, Ray itself would try for 20 to 80 s, write its attempts to the
    terminal, and perhaps end the process (2.60).

    Raises:
        UserError: Nothing answers, the address is not that of a cluster's head, or the head requires another token or
            version.
    """
    if address is None:
        return
    where = f"--address {address}"
    if "://" in address:
        raise UserError(
            f"{where}: must be the head's HOST:PORT, got a client address; the driver must run on a node of the "
            "cluster, so that no connection to the database travels; from elsewhere submit it with "
            "searcher launch --detach"
        )
    try:
        canonical = head_address(address)
    except (ConnectionError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where}: must be HOST:PORT of a running Ray cluster: {reason}") from error
    version = _knock(where, canonical)
    if version != ray.__version__:
        raise UserError(
            f"{where}: must run the same Ray as this process, got {version} there and {ray.__version__} here; install "
            f"ray=={version} here, or start the cluster with {ray.__version__}"
        )


def _knock(where: str, address: str) -> str:
    """Return the version of the cluster whose head listens at HOST:PORT."""
    try:
        return version_of_head(address, timeout_s=_KNOCK_TIMEOUT_S)
    except (AuthenticationError, RuntimeError, OSError) as error:  # what the environment names is not there
        raise UserError(
            f"{where}: must have the token and the certificates that Ray's variables name, got "
            f"{_first_sentence(error)}; check RAY_AUTH_TOKEN_PATH and RAY_TLS_*"
        ) from None
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise UserError(
                f"{where}: the cluster must know this process's token, got another or none; {TOKEN_REMEDY}"
            ) from None
        raise UserError(
            f"{where}: must be a running Ray cluster: {_reason(error)}; start one with `ray start --head`, or leave "
            "the option out"
        ) from None


def _first_sentence(error: Exception) -> str:
    return " ".join(str(error).split()).partition(". ")[0].rstrip(".")


def _reason(error: grpc.RpcError) -> str:
    text = " ".join(str(error.details() or "").split())
    if "http1.x" in text:
        return "that is a web server, the dashboard perhaps; give the port of the head itself, mostly 6379"
    return text.rpartition(": ")[2].rstrip("]") or error.code().name.lower()
