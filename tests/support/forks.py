"""Processes of `searcher` and workers of Ray, forked from processes that have imported all that they need.

A launch imports for 7 s of a processor and a worker for 8 s, many times over. What is forked is a process of its own
with its own number, environment and end, which signals, kills and faults meet as any other's. Not forked, but started
as a user would: what runs under another clock, a Ray job's driver, and all that tests/packaging starts.

`fork_server.py` is what forks.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

if TYPE_CHECKING:
    import psutil
    import pytest

__all__ = ["FAULTS", "FORKS", "ForkedProcess", "Forks", "common_folder", "forked_instead", "receive", "send"]

FAULTS = Path(__file__).parents[1] / "chaos" / "faults"
"""Folder of the `sitecustomize` that follows a plan, and by which workers are forked."""
FORKS = "SEARCHER_CHAOS_FORKS"
"""Environment variable that names the socket from which workers and agents of Ray are forked."""

_SERVER = Path(__file__).with_name("fork_server.py")
_START_TIMEOUT_S = 120


def send(connection: socket.socket, message: Any, files: Sequence[int] = ()) -> None:
    """Send a message, and open files with it."""
    body = json.dumps(message).encode()
    head = len(body).to_bytes(4, "big")
    if files:
        socket.send_fds(connection, [head], [*files])
    else:
        connection.sendall(head)
    connection.sendall(body)


def receive(connection: socket.socket) -> tuple[Any, list[int]]:
    """Return the next message, None at the end of the connection, and the files that came with it."""
    head, files, *_ = socket.recv_fds(connection, 4, 4)
    if not head:
        return None, []
    body = b""
    while len(body) < int.from_bytes(head, "big"):
        body += connection.recv(int.from_bytes(head, "big") - len(body))
    return json.loads(body), files


def common_folder(tmp_path_factory: "pytest.TempPathFactory") -> Path:
    """Return a folder that all processes of pytest-xdist have."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


def forked_instead(process: "psutil.Process") -> "psutil.Process":
    """Return the process that has been forked in another one's place; itself if none has."""
    import psutil

    try:
        return psutil.Process(int(Path(f"{process.environ()[FORKS]}.{process.pid}").read_text()))
    except (psutil.Error, KeyError, OSError, ValueError):
        return process


class ForkedProcess:
    """What `subprocess.Popen` is to a process that was started."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.pid: int = receive(connection)[0]
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        with contextlib.suppress(TimeoutError, subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code.

        Raises:
            subprocess.TimeoutExpired: It runs still.
        """
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._connection, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired("searcher", timeout or 0.0)
            self.returncode = receive(self._connection)[0]
            assert self.returncode is not None, "what it was forked from has ended before it"
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ends in this moment
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, as `kill -9` does."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """The process that others descend from; held for as long as this object is not closed.

    Args:
        path: Its socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held = self._connect()
        send(self._held, {"run": "hold"})

    @classmethod
    @contextlib.contextmanager
    def shared(cls, folder: Path, modules: Sequence[str] = ()) -> Iterator["Forks"]:
        """Hold the one that is known in a folder; start it if nobody has, or all that held it are done.

        Args:
            folder: Where it is known.
            modules: Which modules it imports beside those of a launch, if it is started.
        """
        known = folder / "forks"
        with FileLock(folder / "forks.lock"):
            try:
                forks = cls(Path(known.read_text()))
            except OSError:
                forks = cls.start(modules)
                known.write_text(str(forks.path))
        try:
            yield forks
        finally:
            forks.close()

    @classmethod
    def start(cls, modules: Sequence[str] = ()) -> "Forks":
        """Start one that has further modules. It imports while its caller continues."""
        path = Path(tempfile.mkdtemp(prefix="forks-", dir="/tmp")) / "socket"
        with Path(path.parent / "log").open("wb") as log:
            subprocess.Popen(
                [sys.executable, str(_SERVER), str(path), *modules],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join([str(FAULTS), os.environ.get("PYTHONPATH", "")])},
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not path.with_name(f"{path.name}-workers").exists():
            assert time.monotonic() < deadline, (path.parent / "log").read_text()
            time.sleep(0.01)
        return cls(path)

    def searcher(
        self,
        words: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        output: int,
        host: str | None = None,
    ) -> ForkedProcess:
        """Run a verb.

        Args:
            words: The command line after `searcher`.
            cwd: Its present folder.
            environment: All its variables.
            output: The open file that takes what it prints, and what it complains of.
            host: The name of the machine that it takes itself to be on; that needs root. None for this one's.
        """
        connection = self._connect()
        request: dict[str, Any] = {
            "run": "searcher",
            "argv": [*words],
            "cwd": str(cwd),
            "environment": dict(environment),
        }
        if host is not None:
            request["host"] = host
        with Path(os.devnull).open("rb") as nothing:
            send(connection, request, [nothing.fileno(), output, output])
        return ForkedProcess(connection)

    @property
    def for_workers(self) -> str:
        """Where workers are forked from a process that was told no launch's environment."""
        return f"{self.path}-workers"

    def variables(self) -> dict[str, str]:
        """Return the variables with which a cluster has its workers and agents forked.

        It waits until they can be: a node has 30 s to come up, its agents included.
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.for_workers)
            send(connection, {"run": "answer"})
            receive(connection)
        path = os.pathsep.join([str(FAULTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {FORKS: self.for_workers, "PYTHONPATH": path}

    def close(self) -> None:
        """Let go of it."""
        self._held.close()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path))
        return connection
