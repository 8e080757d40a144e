"""Faults for the chaos tests, put into a process from outside: the product has no hook for them.

Python imports a module of this name at its start if one lies on PYTHONPATH. It follows a plan, the JSON file that
SEARCHER_CHAOS_PLAN names, which is read when a module that it speaks of is imported. An entry of the plan:

    id       name of the fault; `PLAN.fired-ID` is made when it happens
    at       "module:Class.function" or "module:function"
    do       kill         SIGKILL this process
             kill-driver  SIGKILL the process whose number is in `PLAN.driver`, then never go on
             hang         wait until the file `PLAN.go-ID` exists; `PLAN.hangs-ID-PID` says so
             raise        raise an exception
             exhaust      ask torch for a petabyte: its allocator refuses for real
    when     "before" (the default) or "after" the function
    call     at which call of this process; 1 by default
    times    how often in all processes together; 1 by default, 0 for no end
    if       {argument: [values]}: count only calls with one of them; of an enumeration its name counts
    larger   a number: count only calls whose `batch` has more images

A process of Ray's or of `searcher` hands itself over before it imports more, if SEARCHER_CHAOS_FORKS is set: see
`hand_over.py`.
"""

# ruff: noqa: E402
import os
import sys

_FORKED = (
    "/ray/_private/workers/default_worker.py",
    "/ray/_private/runtime_env/agent/main.py",
    "/ray/_private/log_monitor.py",
    "/ray/autoscaler/_private/monitor.py",
    "/ray/dashboard/agent.py",
    "/bin/searcher",
)
"""Scripts whose processes are forked."""

# A job's driver is what Ray started and stops; agents that take jobs start too, for SEARCHER_CHAOS_AGENTS_START.
if "SEARCHER_CHAOS_FORKS" in os.environ and "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
    _argv = [word for word in sys.orig_argv[1:] if word != "-u"]
    # With a page to show, Ray's dashboard starts further processes, by what it was itself started with.
    _shows_nothing = "/ray/dashboard/dashboard.py" in "".join(_argv[:1]) and "--disable-frontend" in _argv
    _forked = _FORKED[:1] if "SEARCHER_CHAOS_AGENTS_START" in os.environ else _FORKED
    if _shows_nothing or "".join(_argv[:1]).endswith(_forked):
        from hand_over import hand_over

        hand_over(_argv)

import functools
import importlib.abc
import importlib.machinery
import inspect
import json
import signal
import time
from pathlib import Path

__all__ = ["follow_plan"]

_PACKAGES = ("searcher", "optuna")


class ChaosError(Exception):
    """A mistake in somebody's model."""


def _fire(plan: Path, entry: dict) -> bool:
    """Leave a mark that the fault happens now; return False if it has happened often enough."""
    for time_ in range(entry.get("times", 1) or 10**6):
        try:
            mark = os.open(f"{plan}.fired-{entry['id']}" + f"-{time_}" * bool(time_), os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            continue
        os.close(mark)
        return True
    return False


def _kill(plan: Path, name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(3600)


def _kill_driver(plan: Path, name: str) -> None:
    os.kill(int(Path(f"{plan}.driver").read_text()), signal.SIGKILL)
    time.sleep(3600)


def _hang(plan: Path, name: str) -> None:
    Path(f"{plan}.hangs-{name}-{os.getpid()}").touch()
    while not Path(f"{plan}.go-{name}").exists():
        time.sleep(0.01)


def _raise(plan: Path, name: str) -> None:
    raise ChaosError("the model's own mistake")


def _exhaust(plan: Path, name: str) -> None:
    import torch

    torch.empty(2**50, dtype=torch.uint8)


_ACTS = {"kill": _kill, "kill-driver": _kill_driver, "hang": _hang, "raise": _raise, "exhaust": _exhaust}


def _counts(function, entry: dict, args: tuple, kwargs: dict) -> bool:
    """Return whether a call is one of those that the entry counts."""
    if "if" not in entry and "larger" not in entry:
        return True
    given = inspect.signature(function).bind(*args, **kwargs)
    given.apply_defaults()
    values = given.arguments
    if "larger" in entry and len(values["batch"].images) <= entry["larger"]:
        return False
    return all(
        getattr(values[name], "name", values[name]) in wanted for name, wanted in entry.get("if", {}).items()
    )


def _wrapped(function, plan: Path, entry: dict):
    calls = [0]

    @functools.wraps(function)
    def faulty(*args, **kwargs):
        act = False
        if _counts(function, entry, args, kwargs):
            calls[0] += 1
            act = calls[0] >= entry.get("call", 1)
        before = entry.get("when", "before") == "before"
        if act and before and _fire(plan, entry):
            _ACTS[entry["do"]](plan, entry["id"])
        result = function(*args, **kwargs)
        if act and not before and _fire(plan, entry):
            _ACTS[entry["do"]](plan, entry["id"])
        return result

    return faulty


def _patch(module, plan: Path, entry: dict) -> None:
    owner, names = module, entry["at"].partition(":")[2].split(".")
    for name in names[:-1]:
        owner = getattr(owner, name)
    raw = inspect.getattr_static(owner, names[-1])
    if isinstance(raw, classmethod | staticmethod):
        faulty = type(raw)(_wrapped(raw.__func__, plan, entry))
    else:
        faulty = _wrapped(raw, plan, entry)
    setattr(owner, names[-1], faulty)
    if owner is module:  # those who have imported it by its name have it too
        for other in [m for name, m in sys.modules.items() if name.partition(".")[0] in _PACKAGES]:
            for name in [name for name, value in vars(other).items() if value is raw]:
                setattr(other, name, faulty)


class _Loader(importlib.abc.Loader):
    """Loads a module as its own loader would, then puts the faults in."""

    def __init__(self, loader, plan: Path, entries: list) -> None:
        self._loader, self._plan, self._entries = loader, plan, entries

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module) -> None:
        self._loader.exec_module(module)
        for entry in self._entries:
            _patch(module, self._plan, entry)

    def __getattr__(self, name: str):
        return getattr(self._loader, name)


def _entries(plan: Path) -> list:
    return json.loads(plan.read_text()) if plan.exists() else []


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that the plan speaks of."""

    def __init__(self, plan: Path) -> None:
        self._plan = plan

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] not in _PACKAGES:
            return None
        entries = [e for e in _entries(self._plan) if e["at"].partition(":")[0] == fullname]
        if not entries:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._plan, entries)
        return spec


def follow_plan() -> None:
    """Follow the plan that the environment names, in modules that are imported already and in those to come."""
    if "SEARCHER_CHAOS_PLAN" not in os.environ:
        return
    plan = Path(os.environ["SEARCHER_CHAOS_PLAN"])
    sys.meta_path.insert(0, _Finder(plan))
    for entry in _entries(plan):
        module = sys.modules.get(entry["at"].partition(":")[0])
        if module is not None:
            _patch(module, plan, entry)


follow_plan()
