"""Launching the tiny study as a process of its own, with faults, and being sure that nothing of it is left."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from chaos_facts import Facts, look
from forks import FAULTS, FORKS, ForkedProcess, Forks, forked_instead
from tiny_study import TINY

__all__ = ["PLAN", "Driver", "Study", "fault", "python_path", "study_text", "wait_until"]

PLAN = "SEARCHER_CHAOS_PLAN"
"""Environment variable that names the plan."""
_MARK = "SEARCHER_CHAOS_MARK"
"""Environment variable by which the processes of one driver are recognised, whoever their parent is by now."""


def python_path() -> str:
    """Return PYTHONPATH with the faults in front."""
    return os.pathsep.join([str(FAULTS), *filter(None, [os.environ.get("PYTHONPATH")])])


def fault(name: str, at: str, do: str = "kill", **how: Any) -> dict[str, Any]:
    """Return an entry of a plan; see `faults/sitecustomize.py`. `if_` stands for `if`."""
    return {"id": name, "at": at, "do": do} | {key.rstrip("_"): value for key, value in how.items()}


def study_text(**settings: Any) -> str:
    """Return the tiny study's file; `trials=3`, `epochs=8` and the like replace what it says there."""
    lines = TINY.splitlines()
    for key, value in settings.items():
        [index] = [i for i, line in enumerate(lines) if line.startswith(f"{key} = ")]
        lines[index] = f"{key} = {json.dumps(value)}"
    return "\n".join(lines) + "\n"


def wait_until(
    what: str, holds: Callable[[], Any], *, driver: "Driver | None" = None, timeout_s: float = 300
) -> Any:
    """Return what `holds` returns once it is true. A driver that ends meanwhile is an error."""
    deadline = time.monotonic() + timeout_s
    while (began := time.monotonic()) < deadline:
        ended = driver is not None and driver.process.poll() is not None
        result = holds()
        if result:
            return result
        assert not ended, f"the driver ended before {what}:\n{driver.output}"
        # A look into a database takes a processor from the driver: a fifth of the time at most.
        time.sleep(min(max(0.05, 4 * (time.monotonic() - began)), 1.0))
    raise AssertionError(f"{what} did not happen in {timeout_s:.0f} s:\n{driver.output if driver else ''}")


class Driver:
    """One `searcher launch`. `close` ends it and all that it started."""

    def __init__(
        self, process: "subprocess.Popen[bytes] | ForkedProcess", log: Path, plan: Path, mark: str
    ) -> None:
        self.process = process
        self._log, self._plan, self._mark = log, plan, mark

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self._log.read_text(errors="replace")

    def wait(self, timeout_s: float = 300) -> int:
        """Return its exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the driver does not end:\n{self.output}") from None

    def ends_with(self, code: int, timeout_s: float = 300) -> str:
        """Wait for its end, check the exit code and that it showed no traceback; return its output."""
        assert self.wait(timeout_s) == code, self.output
        assert "Traceback" not in self.output, self.output
        return self.output

    def kill(self) -> None:
        """Kill the driver alone, as `kill -9` does."""
        self.process.kill()
        self.process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def fired(self, name: str) -> bool:
        """Whether a fault of its plan has happened."""
        return Path(f"{self._plan}.fired-{name}").exists()

    def hanging(self, name: str) -> int:
        """Return how many processes wait, or have waited, in a `hang`."""
        return len(list(self._plan.parent.glob(f"{self._plan.name}.hangs-{name}-*")))

    def let_go(self, name: str) -> None:
        """Let what waits in a `hang` go on."""
        Path(f"{self._plan}.go-{name}").touch()

    def family(self) -> list[psutil.Process]:
        """Return the processes that it started, theirs too, also where the parent is gone."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != self.process.pid and process.environ().get(_MARK) == self._mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def assert_on_loopback(self) -> None:
        """Check that what it started listens on loopback only, and listens at all."""
        listening: set[tuple[str, str]] = set()
        started = self.family()
        for process in {*started, *map(forked_instead, started)}:
            with contextlib.suppress(psutil.NoSuchProcess):  # ended meanwhile
                name = " ".join(process.cmdline())[:80]
                connections = process.net_connections("inet")
                listening |= {(name, c.laddr.ip) for c in connections if c.status == psutil.CONN_LISTEN}
        assert listening
        assert {ip for _, ip in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, listening

    def assert_nothing_left(self, timeout_s: float = 30) -> None:
        """Check that all that it started has ended by itself."""
        _, alive = psutil.wait_procs(self.family(), timeout=timeout_s)
        alive = [
            process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        ]
        assert not alive, [process.cmdline() for process in alive]

    def close(self) -> None:
        """End it and all that it started. Safe to call again."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in self.family():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


@dataclass
class Study:
    """A study file in a folder, and the launches of it."""

    folder: Path
    cache: Path
    text: str
    address: str | None
    """A running cluster; None: each launch has its own."""
    cluster_plan: Path | None = None
    """Plan that the workers of that cluster follow."""
    database: str | None = None
    """URL for SEARCHER_DB; None: an SQLite file in the folder."""
    storage: Path | None = None
    forks: Forks | None = None
    """What launches and their workers are forked from."""
    drivers: list[Driver] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.file = self.folder / "tiny.toml"
        self.file.write_text(self.text)
        self.runs = self.storage or self.folder / "runs"

    @property
    def url(self) -> str:
        """The database, for `look`."""
        return self.database or str(self.folder / "searcher.db")

    def facts(self) -> Facts:
        """Return what the database says now."""
        return look(self.url)

    def start(
        self,
        *options: str,
        faults: Sequence[Mapping[str, Any]] = (),
        environment: Mapping[str, str] | None = None,
        own_cluster: bool = False,
        keeps_plan: bool = False,
        host: str | None = None,
    ) -> Driver:
        """Start a launch.

        Args:
            options: More options.
            faults: Entries of the plan that the driver and its workers follow.
            environment: More variables; an empty value removes one.
            own_cluster: Start a cluster for this launch even if there is an address.
            keeps_plan: Follow the plan of the driver that is running, for a second one beside it.
            host: The name of the machine that the driver takes itself to be on, None for this one's.
        """
        number = len(self.drivers)
        joins = self.address is not None and not own_cluster
        plan = self.folder / f"plan-{number}.json"
        if joins and self.cluster_plan is not None:
            plan = self.cluster_plan
        if not keeps_plan:
            for leftover in plan.parent.glob(f"{plan.name}*"):
                leftover.unlink()
            plan.write_text(json.dumps(list(faults)))
        mark = secrets.token_hex(8)
        words = ["launch", "--study", str(self.file), "--storage", str(self.runs), *options]
        if joins:
            words += ["--address", str(self.address)]
        more = dict(environment or {})
        if self.forks is not None and not joins:
            more |= {FORKS: self.forks.for_workers}
        log = self.folder / f"driver-{number}.log"
        variables = self._environment(plan, mark, joins=joins, more=more)
        with log.open("wb") as output:
            process: subprocess.Popen[bytes] | ForkedProcess
            if self.forks is not None and "LD_PRELOAD" not in more:
                process = self.forks.searcher(
                    words, cwd=self.folder, environment=variables, output=output.fileno(), host=host
                )
            else:
                process = subprocess.Popen(
                    [sys.executable, "-m", "searcher.cli.main", *words],
                    cwd=self.folder,
                    env=variables,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
        if not keeps_plan:
            Path(f"{plan}.driver").write_text(str(process.pid))
        driver = Driver(process, log, plan, mark)
        self.drivers.append(driver)
        return driver

    def finish(self, *options: str, timeout_s: float = 300, **how: Any) -> str:
        """Launch undisturbed to the end and return what the driver said."""
        return self.start(*options, **how).ends_with(0, timeout_s)

    def run(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run another verb of searcher on the study."""
        words = [verb, "--study", "tiny", *options]
        environment = self._environment(None, "", joins=True, more={})
        assert self.forks is not None
        with (self.folder / "said").open("w+b") as output:
            process = self.forks.searcher(
                words, cwd=self.folder, environment=environment, output=output.fileno()
            )
            code = process.wait(100)
        said = (self.folder / "said").read_text()
        return subprocess.CompletedProcess(words, code, stdout=said, stderr=said)

    def _environment(
        self, plan: Path | None, mark: str, *, joins: bool, more: Mapping[str, str]
    ) -> dict[str, str]:
        environment = os.environ | {
            "SEARCHER_CACHE": str(self.cache),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        if plan is not None:
            environment |= {PLAN: str(plan), _MARK: mark, "PYTHONPATH": python_path()}
        if not joins:  # the launch must see to it itself that its cluster stays on loopback
            environment.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)
        environment.pop("SEARCHER_DB", None)
        if self.database is not None:
            environment["SEARCHER_DB"] = self.database
        environment |= more
        return {name: value for name, value in environment.items() if value != ""}

    def wait_for_epochs(self, count: int, driver: Driver) -> Facts:
        """Wait until the database holds as many epochs that were trained, of all trials together."""
        return wait_until(
            f"epoch {count}", lambda: (facts := self.facts()).num_trained >= count and facts, driver=driver
        )

    def close(self) -> None:
        """End all that was started."""
        for driver in self.drivers:
            driver.close()
