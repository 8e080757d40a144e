"""Launches that are Ray jobs, from another terminal. The cluster is its dashboard's HTTP alone; a real one is in the
chaos suite."""

import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from job_dashboard import JobDashboard, job_dashboard

from searcher.api import stopping
from searcher.cli import detach, logs
from searcher.cli.main import main
from searcher.ledger import lease as leases
from searcher.ledger.lease import Lease

CHILD = """
[study]
name = "s-narrow"
objective = "object_dice"
trials = 9
[parent]
study = "s.toml"
how = "refine"
"""
JOB = "searcher-s-narrow-0123abcd"


@pytest.fixture
def dashboard(monkeypatch) -> Iterator[JobDashboard]:
    monkeypatch.setattr(logs, "_POLL_DATABASE_S", 0.02)
    monkeypatch.setattr(stopping, "_POLL_S", 0.02)
    monkeypatch.setattr(detach, "_POLL_S", 0.02)
    monkeypatch.setattr(leases, "LOOK_EVERY_S", 0.02)
    with job_dashboard() as dashboard:
        yield dashboard


@pytest.fixture
def hold(stored_study) -> Iterator[Callable[[str], Lease]]:
    """Begin the launch of `s` by a job, as its driver does."""
    with ExitStack() as stack:
        yield lambda job: stack.enter_context(Lease.acquire(stored_study.database, "s", job=job))


def launched(lines: list[str]) -> list[list[str]]:
    """Return the arguments of the commands that a launch has printed."""
    return [line.split()[1:] for line in lines if line.startswith("  searcher ")]


def test_what_a_detached_launch_prints_works_while_its_parent_runs(
    dashboard, stored_study, hold, tmp_path, capsys
):
    (tmp_path / "s-narrow.toml").write_text(CHILD)
    (stored_study.root / "s").mkdir(parents=True)
    (stored_study.root / "s" / "launch.log").write_text("trial 0 began\n")

    def begin(job: str) -> None:
        """Begin the parent's launch; end it when it is asked to."""
        lease = hold(job)
        lease.ends_as("interrupted")
        lease.on_stop(lambda: threading.Thread(target=lease.release).start())

    dashboard.on_submit = begin
    arguments = ["--study", "s-narrow.toml", "--with-parents", "--detach", "--address", dashboard.url]
    assert main(["launch", *arguments]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "s-narrow: its driver is at work on s, which it comes from" in said
    status, follow, end = launched(said)
    about = "s-narrow: its driver is at work on s first, which this is about\n"

    assert main([*status, "--json"]) == 0
    output = capsys.readouterr()
    assert ('"study": "s"' in output.out or '"name": "s"' in output.out, output.err) == (True, about)
    assert main([word for word in follow if word != "--follow"]) == 0
    assert capsys.readouterr() == ("trial 0 began\n", about)
    assert main(end) == 0
    output = capsys.readouterr()
    assert ("s: interrupted after " in output.out, output.err) == (True, about)
    assert main(end) == 2
    assert "--study s-narrow: must be a study of" in capsys.readouterr().err


def test_a_driver_that_has_not_begun_yet_can_be_looked_at_and_stopped(
    dashboard, stored_study, capsys, monkeypatch
):
    """The study need not be in the database then: only Ray knows of the job."""
    monkeypatch.setattr(detach, "_BEGINS_WITHIN_S", 0.1)
    assert main(["launch", "--study", "s.toml", "--detach", "--address", dashboard.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    [job] = [line.split()[5] for line in lines if line.startswith("s: submitted as Ray job ")]
    at = next(number for number, line in enumerate(lines) if "has not begun the study within" in line)
    assert lines[at + 1 : at + 4] == [
        f"  ray job logs {job} --follow --address {dashboard.url}",
        f"  ray job stop {job} --address {dashboard.url}",
        "when it has:",
    ]
    assert [line.split()[1] for line in lines[at + 4 :]] == ["status", "logs", "stop"]


def test_the_printed_commands_name_the_database_of_the_environment(
    dashboard, stored_study, tmp_path, capsys, monkeypatch
):
    """Beside it lies a database of the default name."""
    monkeypatch.setenv("SEARCHER_DB", "lab.db")
    monkeypatch.setattr(detach, "_BEGINS_WITHIN_S", 0.1)
    assert main(["launch", "--study", "s.toml", "--detach", "--address", dashboard.url]) == 0
    commands = launched(capsys.readouterr().out.splitlines())
    place = str(tmp_path / "lab.db")
    assert [words[words.index("--db") + 1] for words in commands] == [place] * 3


def test_detached_launches_are_listed(stored_study, hold, capsys):
    assert main(["jobs"]) == 0
    assert capsys.readouterr().out == "no detached launch; searcher launch --detach begins one\n"
    first = hold("searcher-s-00000001")
    first.ends_as("interrupted")
    first.release()
    hold("searcher-s-00000002")
    assert main(["jobs", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(each["job"], each["study"], each["outcome"]) for each in listed] == [
        ("searcher-s-00000002", "s", None),
        ("searcher-s-00000001", "s", "interrupted"),
    ]
    assert main(["jobs"]) == 0
    shown = capsys.readouterr().out
    assert "searcher-s-00000002   s       running" in shown


def test_that_a_detached_driver_does_not_get_mlflows_settings_is_said(
    dashboard, stored_study, capsys, monkeypatch
):
    dashboard.status = "FAILED"
    for uri in ("", "http://user:s3cret-pw@127.0.0.1:9"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert main(["launch", "--study", "s.toml", "--detach", "--address", dashboard.url]) == 1
        said = capsys.readouterr().out
        about = [
            line for line in said.splitlines() if line.startswith("MLFLOW_TRACKING_URI: is set here, but ")
        ]
        assert len(about) == bool(uri)
        assert "s3cret" not in said


def test_a_driver_that_is_at_work_for_another_study_is_nobody_elses(dashboard, stored_study, hold, capsys):
    hold("searcher-s-narrow-again-0123abcd")
    assert main(["stop", "--study", "s-narrow"]) == 2
    assert "--study s-narrow: must be a study of" in capsys.readouterr().err


def follow_job(dashboard: JobDashboard, study: str = "s") -> int:
    return main(["logs", "--study", study, "--follow", "--address", dashboard.url])


@pytest.mark.parametrize("failures", [[0], [0, 0, 503]])
def test_a_dashboard_that_is_away_for_a_moment_does_not_end_the_following(
    dashboard, stored_study, hold, capsys, failures
):
    hold("searcher-s-0123abcd")
    shutil.rmtree(stored_study.root, ignore_errors=True)  # its storage folder is elsewhere
    dashboard.log = "begun\n"
    asked = 0

    def on_log() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            dashboard.failures = list(failures)
        elif not dashboard.failures:
            dashboard.log, dashboard.status = "begun\nall trials done\n", "SUCCEEDED"

    dashboard.on_log = on_log
    assert follow_job(dashboard) == 0
    assert capsys.readouterr() == ("begun\nall trials done\n", "")


def test_a_dashboard_that_stays_away_ends_it(dashboard, stored_study, hold, capsys, monkeypatch):
    monkeypatch.setattr(logs, "_CLUSTER_AWAY_S", 0.2)
    hold("searcher-s-0123abcd")
    dashboard.on_log = lambda: dashboard.failures.extend([0] * 10_000)
    assert follow_job(dashboard) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"--address {dashboard.url}: must be the dashboard of a running Ray cluster, got no answer"
    )


def let_go(dashboard: JobDashboard, lease: Lease, outcome: str, *, last_log: str, at_question: int) -> None:
    """Have the driver end its launch when its log is asked for again, and its job later, with this log."""
    questions = itertools.count(1)

    def on_log() -> None:
        question = next(questions)
        if question == 2:
            lease.ends_as(outcome)
            lease.release()
        elif question == at_question:
            dashboard.log, dashboard.status = last_log, "SUCCEEDED"

    dashboard.on_log = on_log


def test_what_a_driver_prints_after_its_launch_is_shown(dashboard, stored_study, hold, capsys):
    lease = hold("searcher-s-0123abcd")
    dashboard.log = "begun\n"
    let_go(dashboard, lease, "finished", last_log="begun\nall trials done\n", at_question=6)
    assert follow_job(dashboard) == 0
    assert capsys.readouterr() == ("begun\nall trials done\n", "")


@pytest.mark.parametrize(("outcome", "is_over"), [("interrupted", True), ("finished", False)])
def test_a_job_that_never_ends_is_followed_only_while_another_launch_is_to_come(
    dashboard, stored_study, hold, capsys, monkeypatch, outcome, is_over
):
    """The cluster may have lost the job; one that is done with a parent goes on to the study itself."""
    monkeypatch.setattr(logs, "_COMPLETE_WITHIN_S", 0.05)
    lease = hold(JOB)
    let_go(dashboard, lease, outcome, last_log="s-narrow: begun\n", at_question=60)
    assert follow_job(dashboard, "s-narrow") == 0
    assert ("s-narrow: begun" in capsys.readouterr().out) == (not is_over)
