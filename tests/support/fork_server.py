"""The process that `forks.py` asks for others.

    python fork_server.py SOCKET [MODULE...]

imports all that a launch imports but Ray, and further modules. It answers one connection per process, and ends with the
last connection that holds it. A second one answers beside it, at SOCKET-workers. It is for Ray's processes alone, so no
secret of a launch is ever told to it.

Ray reads the environment while it is imported. So there is one more process for each set of Ray's variables, forked
when the first request with it comes: it imports Ray under them, and forks the processes that were asked for.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fork_loop import Loop, ended_children
from fork_parent import Parent
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
    "colorful",
    "msgpack",
    "pandas",
    "pdb",
    "psycopg",
    "pyarrow.fs",
    "pyarrow.parquet",
    "pydantic.deprecated.class_validators",
    "pydantic.v1",
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
    "searcher.ledger.registration",
    "searcher.ledger.study_ledger",
    "searcher.lineage.imports",
    "searcher.lineage.resolve",
    "searcher.models.unet",
    "searcher.training.data_check",
    "searcher.training.memory_probe",
    "searcher.training.trainer",
)
"""All but Ray."""
_RAYS_MODULES = (
    "ray.tune",
    "searcher.api.launching",
    "searcher.cli.launch_view",
    "searcher.orchestration.driver",
    "searcher.orchestration.trials.trainable",
)
_PARTS_MODULES = (
    "ray._private.log_monitor",
    "ray.autoscaler._private.monitor",
    "ray.dashboard.agent",
    "ray.dashboard.dashboard",
    "ray.dashboard.http_server_agent",
    *(f"ray.dashboard.modules.{name}" for name in ("aggregator.aggregator_agent", "event.event_agent")),
    *(
        f"ray.dashboard.modules.{name}"
        for name in ("job.job_agent", "log.log_agent", "usage_stats.usage_stats_head")
    ),
    *(f"ray.dashboard.modules.reporter.{name}" for name in ("healthz_agent", "reporter_agent")),
)
"""What Ray's agents, its monitor and its log monitor are made of."""
_MODULES_FOR = {"part": _PARTS_MODULES, "python": ()}
"""What is imported under Ray's variables for a request, if not what launches and workers need."""
_READ_LATER = frozenset({"RAY_ADDRESS", "RAY_NODE_ID"})
"""Variables of Ray that differ from process to process, and that it does not read when it is imported."""
_OF_WORKERS = frozenset({"RAY_JOB_ID", "RAY_RAYLET_PID"})
"""Variables that only a worker's Ray reads when it is imported: those of a node and job have their own parent."""
_MAX_PARENTS = 8
"""How many processes that have imported Ray are kept."""


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
        self._loop = Loop()
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
            ended_children()
        return None

    def _take(self, connection: socket.socket) -> Callable[[], int] | None:
        request, files = receive(connection)
        if request is not None and request["run"] == "hold":
            self._holders.add(connection)
            self._loop.watch(connection)
            return None
        if request is not None and request["run"] == "answer":
            send(connection, "here")
        elif request is not None:
            variables = _rays_variables(request["environment"], request["run"])
            modules = _MODULES_FOR.get(request["run"], _RAYS_MODULES)
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
        for variable in _rays_variables(os.environ, "worker"):
            del os.environ[variable]
        os.environ.update(variables)
        keep_generator_unused()
        for module in modules:
            importlib.import_module(module)
        gc.collect()
        gc.freeze()
        return Parent(theirs).serve()


def _rays_variables(environment: Mapping[str, str], run: str) -> dict[str, str]:
    later = _READ_LATER if run == "worker" else _READ_LATER | _OF_WORKERS
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(("RAY_", "TUNE_")) and name not in later
    }


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
