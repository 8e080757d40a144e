"""A pytest plugin: the table of faults, what held, and how long it took.

A test carries `@pytest.mark.fault(FAULT, holds=WHAT)`, once for each fault that it injects, and may add facts through
the `fact` fixture.
"""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

__all__ = ["fact", "pytest_addoption", "pytest_runtest_makereport", "pytest_terminal_summary"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fault-table", metavar="FILE", type=Path, help="write the table of faults, in Markdown"
    )


@pytest.fixture
def fact(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that adds a fact to the test's row of the table."""
    return lambda text: request.node.user_properties.append(("fact", text))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "setup":
        marks = reversed(list(item.iter_markers("fault")))
        item.user_properties += [("fault", (mark.args[0], mark.kwargs["holds"])) for mark in marks]
        report.user_properties = list(item.user_properties)
    return report


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    table = _table(terminalreporter.stats)
    if not table:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(table)
    path = config.getoption("--fault-table", default=None)
    if path is not None and not hasattr(config, "workerinput"):  # not a half of pytest-xdist's
        path.write_text(table + "\n")


def _table(stats: dict[str, list]) -> str:
    tests: dict[str, _Row] = {}
    for result in ("passed", "failed", "error", "skipped"):
        for report in stats.get(result, []):
            properties = getattr(report, "user_properties", [])
            faults = [value for name, value in properties if name == "fault"]
            if not faults:
                continue
            row = tests.setdefault(report.nodeid, _Row(faults))
            row.facts = [value for name, value in properties if name == "fact"] or row.facts
            row.seconds += report.duration
            row.result = row.result if result == "passed" else result
    if not tests:
        return ""
    lines = ["| fault | what held | seen | seconds | result |", "|---|---|---|---|---|"]
    lines += [line for row in tests.values() for line in row.lines()]
    total = sum(row.seconds for row in tests.values())
    made = f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return "\n".join(
        [*lines, "", f"{len(tests)} tests, {total:.0f} s in all, {os.cpu_count()} CPUs; {made}."]
    )


@dataclass
class _Row:
    faults: list[tuple[str, str]]
    facts: list[str] = field(default_factory=list)
    seconds: float = 0.0
    result: str = "passed"

    def lines(self) -> list[str]:
        """Return one line per fault; the further ones of the same test do not repeat what it took."""
        (first, held), *more = self.faults
        lines = [f"| {first} | {held} | {'; '.join(self.facts)} | {self.seconds:.0f} | {self.result} |"]
        return lines + [f"| {fault} | {held} | in the same study | | {self.result} |" for fault, held in more]
