"""Processes of `searcher` and workers of Ray, forked from one process that has imported all that they need.

A launch imports for 5 s of a processor and a worker for 7 s, many times over. What is forked is a process of its own
with its own number, environment and end, which signals, kills and faults meet as any other's. Not forked, but started
as a user would: what runs under another clock or on another host, a Ray job's driver, whose environment or memory is
searched for secrets, and all that tests/docker, tests/cases and tests/packaging start.

    python forks.py SOCKET [MODULE...]

imports further modules too, answers one connection per process, and ends with the last connection that holds it.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

if TYPE_CHECKING:
    import pytest

__all__ = ["FAULTS", "FORKS", "ForkedProcess", "Forks", "common_folder"]

FAULTS = Path(__file__).parents[1] / "chaos" / "faults"
"""Folder of the `sitecustomize` that follows a plan, and by which workers are forked."""
FORKS = "SEARCHER_CHAOS_FORKS"
"""Environment variable that names the socket from which workers of Ray are forked."""

_MODULES = (
    "aiohttp",
    "alembic.command",
    "boto3",
    "fsspec",
    "google.protobuf",
    "grpc",
    "jsonschema",
    "mlflow",
    "optuna",
    "pandas",
    "psycopg",
    "pyarrow.fs",
    "pyarrow.parquet",
    "requests",
    "rich.progress",
    "tensorboardX",
    "torch",
    "torch._dynamo",
    "torch.onnx",
    "yaml",
    "searcher.cli.launch",
    "searcher.cli.terminal",
    "searcher.ledger.doctor",
    "searcher.ledger.migrations",
    "searcher.ledger.study_ledger",
    "searcher.lineage.imports",
    "searcher.lineage.resolve",
    "searcher.models.unet",
    "searcher.training.data_check",
    "searcher.training.trainer",
)
"""All but Ray, which reads the environment when it is imported, that of one worker not being another's."""
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
    head, files, *_ = socket.recv_fds(connection, 4, 3)
    if not head:
        return None, []
    body = b""
    while len(body) < int.from_bytes(head, "big"):
        body += connection.recv(1 << 20)
    return json.loads(body), files


def common_folder(tmp_path_factory: "pytest.TempPathFactory") -> Path:
    """Return a folder that all processes of pytest-xdist have."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


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
    """The process that others are forked from; held for as long as this object is not closed.

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
        """Start one that has further modules. It imports while its caller goes on."""
        path = Path(tempfile.mkdtemp(prefix="forks-", dir="/tmp")) / "socket"
        with Path(path.parent / "log").open("wb") as log:
            subprocess.Popen(
                [sys.executable, __file__, str(path), *modules],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join([str(FAULTS), os.environ.get("PYTHONPATH", "")])},
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not path.exists():
            assert time.monotonic() < deadline, (path.parent / "log").read_text()
            time.sleep(0.01)
        return cls(path)

    def searcher(
        self, words: Sequence[str], *, cwd: Path, environment: Mapping[str, str], output: int
    ) -> ForkedProcess:
        """Run a verb.

        Args:
            words: The command line after `searcher`.
            cwd: Its present folder.
            environment: All its variables.
            output: The open file that takes what it prints, and what it complains of.
        """
        connection = self._connect()
        request = {"run": "searcher", "argv": [*words], "cwd": str(cwd), "environment": dict(environment)}
        with Path(os.devnull).open("rb") as nothing:
            send(connection, request, [nothing.fileno(), output, output])
        return ForkedProcess(connection)

    def variables(self) -> dict[str, str]:
        """Return the variables with which a cluster has its workers forked."""
        path = os.pathsep.join([str(FAULTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {FORKS: str(self.path), "PYTHONPATH": path}

    def close(self) -> None:
        """Let go of it."""
        self._held.close()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path))
        return connection


@dataclass
class _Child:
    connection: socket.socket
    ends_with_connection: bool


class _Server:
    """Forks, and tells who asked how each process ended."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._ended, woken = socket.socketpair()
        for end in (self._ended, woken):
            end.setblocking(False)
        self._woken = woken
        self._selector.register(self._ended, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(woken.fileno())
        self._holders: set[socket.socket] = set()
        self._children: dict[int, _Child] = {}

    def serve(self) -> Callable[[], int] | None:
        """Serve until nobody holds it any more. In a child: return what it has to do."""
        was_held = False
        while self._holders or not was_held:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    connection, _ = self._listener.accept()
                    todo = self._take(connection)
                    if todo is not None:
                        return todo
                    was_held = was_held or bool(self._holders)
                elif key.fileobj is self._ended:
                    self._ended.recv(4096)
                    self._reap()
                elif key.fileobj in self._selector.get_map():  # else its process has ended in this moment
                    self._hung_up(key.fileobj)
        return None

    def _take(self, connection: socket.socket) -> Callable[[], int] | None:
        request, files = receive(connection)
        if request is None:
            connection.close()
            return None
        if request["run"] == "hold":
            self._holders.add(connection)
            self._selector.register(connection, selectors.EVENT_READ)
            return None
        pid = os.fork()
        if pid == 0:
            self._forget()
            connection.close()
            return _become(request, files)
        for file in files:
            os.close(file)
        is_worker = request["run"] in {"worker", "python"}
        self._children[pid] = _Child(connection, is_worker)
        if is_worker:  # whose other end is the process that Ray or pytest started: they may kill that one
            self._selector.register(connection, selectors.EVENT_READ)
        with contextlib.suppress(OSError):
            send(connection, pid)
        return None

    def _forget(self) -> None:
        """Close what a child has no use for, and what others would wait for the end of."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._selector.close()
        for end in (self._listener, self._ended, self._woken, *self._holders):
            end.close()
        for child in self._children.values():
            child.connection.close()

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            child = self._children.pop(pid)
            if child.ends_with_connection:
                self._selector.unregister(child.connection)
            with contextlib.suppress(OSError):
                send(child.connection, os.waitstatus_to_exitcode(status))
            child.connection.close()

    def _hung_up(self, connection: Any) -> None:
        self._selector.unregister(connection)
        if connection in self._holders:
            self._holders.remove(connection)
            connection.close()
            return
        for pid, child in self._children.items():
            if child.connection is connection:
                child.ends_with_connection = False
                os.kill(pid, signal.SIGKILL)


def _become(request: dict[str, Any], files: list[int]) -> Callable[[], int]:
    """Make this process look as if it had just been started, and return what it does."""
    import sitecustomize  # the faults'

    os.setsid()  # Ray kills whole groups
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    argv = request["argv"]
    if request["run"] == "searcher":
        sys.argv = ["searcher", *argv]
        sitecustomize.follow_plan()
        return lambda: importlib.import_module("searcher.cli.main").main(argv)
    sys.argv = argv
    if request["run"] == "python":
        for name, mode, number in (
            ("stdin", "r", 0),
            ("stdout", "w", 1),
            ("stderr", "w", 2),
        ):  # pipes, not files
            setattr(sys, name, os.fdopen(number, mode, buffering=1, closefd=False))
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        return lambda: exec(argv[1], module.__dict__) or 0
    _follow_plan_in_trials(sitecustomize.follow_plan)
    return lambda: _be_worker(argv[0])


def _follow_plan_in_trials(follow: Callable[[], None]) -> None:
    """Let a worker read the plan with its first trial: Ray may have started it before there was one."""
    from searcher.orchestration.trials.trainable import TrialTrainable

    setup = TrialTrainable.setup

    def following(self: Any, config: dict[str, Any]) -> None:
        TrialTrainable.setup = setup
        follow()
        setup(self, config)

    TrialTrainable.setup = following


def _be_worker(script: str) -> int:
    import runpy

    runpy.run_path(script, run_name="__main__")
    return 0


def _main(path: Path, modules: Sequence[str]) -> Callable[[], int] | None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path.with_name("new")))
        listener.listen(64)
        path.with_name("new").rename(path)  # from here on it answers
        for name in (*_MODULES, *modules):
            importlib.import_module(name)
        gc.collect()
        gc.freeze()  # else each child copies what its garbage collector looks at
        todo = _Server(listener).serve()
    if todo is None:
        shutil.rmtree(path.parent, ignore_errors=True)
    return todo


def _end(code: int) -> None:
    """End as an interpreter does, but for what its modules say of themselves: Triton lists what it leaks."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    found = _main(Path(sys.argv[1]), sys.argv[2:])
    try:
        result = 0 if found is None else found()
    except SystemExit as exit_:
        result = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    _end(result)
