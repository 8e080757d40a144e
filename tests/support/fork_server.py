"""The process that `forks.py` asks for others.

    python fork_server.py SOCKET [MODULE...]

imports all that a launch imports but Ray, and further modules. It answers one connection per process, and ends with the
last connection that holds it. A second one answers beside it, at SOCKET-workers. It is for workers alone, so no secret
of a launch is ever told to it.

Ray reads the environment while it is imported. So there is one more process for each set of Ray's variables, forked
when the first request with it comes: it imports Ray under them, and forks the processes that were asked for.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forks import receive, send
from random_ids import keep_generator_unused

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
"""All but Ray."""
_RAYS_MODULES = (
    "ray.tune",
    "pydantic.v1",
    "searcher.api.launching",
    "searcher.cli.launch_view",
    "searcher.orchestration.driver",
    "searcher.orchestration.trials.trainable",
)
_READ_LATER = frozenset({"RAY_ADDRESS"})
"""Variables of Ray that differ from process to process, and that it does not read when it is imported."""
_MAX_PARENTS = 8
"""How many processes that have imported Ray are kept: each job's workers need one of their own."""
_CLONE_NEWUTS = 0x04000000


class _Loop:
    """Waits for connections, and for children that end."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self._ended, self._woken = socket.socketpair()
        for end in (self._ended, self._woken):
            end.setblocking(False)
        self.selector.register(self._ended, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._woken.fileno())

    def watch(self, connection: socket.socket) -> None:
        """Say when there is something to read."""
        self.selector.register(connection, selectors.EVENT_READ)

    def ready(self) -> list[Any]:
        """Return the connections with something to read; those whose watch ended meanwhile are not among them."""
        keys = [key.fileobj for key, _ in self.selector.select()]
        if self._ended in keys:
            self._ended.recv(4096)
        return [each for each in keys if each is not self._ended]

    def close(self) -> None:
        """Be as a new process is."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.selector.close()
        for end in (self._ended, self._woken):
            end.close()


def _ended_children() -> list[tuple[int, int]]:
    """Return numbers and exit codes of the children that have ended."""
    found = []
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
            found.append((ended[0], os.waitstatus_to_exitcode(ended[1])))
    return found


class _Server:
    """Hands each request over to the process that has imported Ray under its variables.

    Args:
        listener: Where they come.
        holder: A connection that holds it.
        held: A connection that holds another one.
    """

    def __init__(
        self, listener: socket.socket, holder: socket.socket | None = None, held: socket.socket | None = None
    ) -> None:
        self._loop = _Loop()
        self._listener = listener
        self._holders = set() if holder is None else {holder}
        self._held = held
        self._parents: dict[str, socket.socket] = {}
        for connection in (listener, *self._holders):
            self._loop.watch(connection)

    def serve(self) -> Callable[[], int] | None:
        """Serve until nobody holds it any more. In a descendant: return what it has to do."""
        was_held = bool(self._holders)
        while self._holders or not was_held:
            for connection in self._loop.ready():
                if connection in self._holders:
                    self._loop.selector.unregister(connection)
                    self._holders.remove(connection)
                    connection.close()
                elif connection is self._listener:
                    todo = self._take(self._listener.accept()[0])
                    if todo is not None:
                        return todo
                    was_held = was_held or bool(self._holders)
            _ended_children()
        return None

    def _take(self, connection: socket.socket) -> Callable[[], int] | None:
        request, files = receive(connection)
        if request is not None and request["run"] == "hold":
            self._holders.add(connection)
            self._loop.watch(connection)
            return None
        if request is not None:
            variables = _rays_variables(request["environment"])
            modules = () if request["run"] == "python" else _RAYS_MODULES
            name = json.dumps([*sorted(variables.items()), modules])
            if name not in self._parents:
                if len(self._parents) == _MAX_PARENTS:
                    self._parents.pop(next(iter(self._parents))).close()
                todo = self._begin_parent(name, variables, modules, [connection.fileno(), *files])
                if todo is not None:
                    return todo
            send(self._parents[name], request, [*files, connection.fileno()])
        for file in files:
            os.close(file)
        connection.close()
        return None

    def _begin_parent(
        self, name: str, variables: Mapping[str, str], modules: Sequence[str], others: list[int]
    ) -> Callable[[], int] | None:
        """Fork one; in a descendant return what it has to do.

        Args:
            name: By which it is known.
            variables: Ray's.
            modules: What it imports under them.
            others: Open files that it has no use for.
        """
        ours, theirs = socket.socketpair()
        if os.fork() != 0:
            theirs.close()
            self._parents[name] = ours
            return None
        self._loop.close()
        for end in (ours, self._listener, *self._holders, *self._parents.values(), self._held):
            if end is not None:
                end.close()
        for file in others:
            with contextlib.suppress(OSError):
                os.close(file)
        for variable in _rays_variables(os.environ):
            del os.environ[variable]
        os.environ.update(variables)
        keep_generator_unused()
        for module in modules:
            importlib.import_module(module)
        gc.collect()
        gc.freeze()
        return _Parent(theirs).serve()


def _rays_variables(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(("RAY_", "TUNE_")) and name not in _READ_LATER
    }


@dataclass
class _Child:
    connection: socket.socket
    ends_with_connection: bool


class _Parent:
    """Forks, and tells who asked how each process ended."""

    def __init__(self, requests: socket.socket) -> None:
        self._loop = _Loop()
        self._requests = requests
        self._loop.watch(requests)
        self._children: dict[int, _Child] = {}

    def serve(self) -> Callable[[], int]:
        """Serve until no more requests can come and all children have ended. In a child: return what it has to do."""
        is_open = True
        while is_open or self._children:
            for connection in self._loop.ready():
                if connection is self._requests:
                    request, files = receive(connection)
                    if request is None:
                        is_open = False
                        self._loop.selector.unregister(connection)
                        continue
                    todo = self._fork(request, files)
                    if todo is not None:
                        return todo
                elif connection in self._loop.selector.get_map():  # else its process has ended in this moment
                    self._hung_up(connection)
            self._reap()
        return lambda: 0

    def _fork(self, request: dict[str, Any], files: list[int]) -> Callable[[], int] | None:
        *files, last = files
        connection = socket.socket(fileno=last)
        pid = os.fork()
        if pid == 0:
            self._loop.close()
            for end in (self._requests, connection, *(child.connection for child in self._children.values())):
                end.close()
            return _become(request, files)
        for file in files:
            os.close(file)
        stands_for_another = request["run"] in {"worker", "python"}
        self._children[pid] = _Child(connection, stands_for_another)
        if stands_for_another:  # the process that Ray or pytest started: they may kill that one
            self._loop.watch(connection)
        with contextlib.suppress(OSError):
            send(connection, pid)
        return None

    def _reap(self) -> None:
        for pid, code in _ended_children():
            child = self._children.pop(pid)
            if child.ends_with_connection:
                self._loop.selector.unregister(child.connection)
            with contextlib.suppress(OSError):
                send(child.connection, code)
            child.connection.close()

    def _hung_up(self, connection: socket.socket) -> None:
        self._loop.selector.unregister(connection)
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
    if "host" in request:
        _move_to(request["host"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    if "searcher.orchestration" in sys.modules:
        importlib.reload(
            sys.modules["searcher.orchestration"]
        )  # sets variables, as it does when it is imported
    argv = request["argv"]
    if request["run"] == "searcher":
        sys.argv = ["searcher", *argv]
        sitecustomize.follow_plan()
        return lambda: importlib.import_module("searcher.cli.main").main(argv)
    sys.argv = argv
    if request["run"] == "python":
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        return lambda: exec(argv[1], module.__dict__) or 0
    _follow_plan_in_trials(sitecustomize.follow_plan)
    return lambda: _be_worker(argv[0])


def _move_to(host: str) -> None:
    """Let this process be on a machine of another name, as `unshare --uts` does."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUTS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    socket.sethostname(host)


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
    listener, for_workers = (_listener(path.with_name(f"{path.name}{end}")) for end in ("", "-workers"))
    for name in (*_MODULES, *modules):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else each child copies what its garbage collector looks at
    held, holder = socket.socketpair()
    if os.fork() == 0:
        held.close()
        listener.close()
        return _Server(for_workers, holder=holder).serve() or (lambda: 0)
    holder.close()
    for_workers.close()
    todo = _Server(listener, held=held).serve()
    if todo is None:
        shutil.rmtree(path.parent, ignore_errors=True)
    return todo


def _listener(path: Path) -> socket.socket:
    """Return a socket that takes connections from the moment when its path is there."""
    found = socket.socket(socket.AF_UNIX)
    found.bind(str(path.with_name("new")))
    found.listen(64)
    path.with_name("new").rename(path)
    return found


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
