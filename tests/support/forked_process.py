"""What a process that was forked makes of itself, so that it is like one that was started."""

import ctypes
import importlib
import os
import resource
import runpy
import signal
import socket
import sys
import tempfile
import types
from collections.abc import Callable
from typing import Any

__all__ = ["become"]

_CLONE_NEWUTS = 0x04000000


def become(request: dict[str, Any], files: list[int]) -> Callable[[], int]:
    """Make this process look as if it had just been started, and return what it does."""
    import sitecustomize  # the faults'

    os.setsid()  # Ray kills whole groups
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    _open_streams()
    for number in request.get("ignores", ()):
        signal.signal(number, signal.SIG_IGN)
    for kind, limits in request.get("limits", {}).items():
        resource.setrlimit(int(kind), limits)
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
    if request["run"] in {"searcher", "program"}:
        sys.argv = argv if request["run"] == "program" else ["searcher", *argv]
        sitecustomize.follow_plan()
        return lambda: importlib.import_module("searcher.cli.main").main(sys.argv[1:])
    sys.argv = argv
    if request["run"] == "python":
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        return lambda: exec(argv[1], module.__dict__) or 0
    if request["run"] == "worker":
        _follow_plan_in_trials(sitecustomize.follow_plan)
    else:
        _watch_the_parent_of(request["pid"])
    return lambda: _run_script(argv[0])


def _open_streams() -> None:
    """Have streams of this process's own: those of its parent know whether that one's files were pipes."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        old = getattr(sys, name)
        new = open(  # noqa: SIM115
            ("stdin", "stdout", "stderr").index(name),
            mode,
            buffering=1 if name == "stderr" else -1,
            encoding=old.encoding,
            errors=old.errors,
            closefd=False,
        )
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def _watch_the_parent_of(pid: int) -> None:
    """Let an agent end with the raylet: that is the parent of the process for which this one stands."""
    from ray._private import process_watcher

    process = process_watcher.psutil.Process(pid)
    process_watcher.psutil = types.SimpleNamespace(Process=lambda: process)


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


def _run_script(script: str) -> int:
    runpy.run_path(script, run_name="__main__")
    return 0
