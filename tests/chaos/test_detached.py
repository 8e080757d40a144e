"""A study on a cluster of three nodes in token mode: who may join, and a driver that is a Ray job, on PostgreSQL."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from chaos_facts import assert_finished, look
from chaos_harness import wait_until
from cluster_process import MachineRoom, machine_room
from forks import ForkedProcess, Forks
from tiny_study import TINY

PASSWORD = "s3cret-pw"
DONE = 2


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[MachineRoom]:
    cache = tmp_path_factory.getbasetemp() / "stores"
    variables = {"SEARCHER_CACHE": str(cache), "OMP_NUM_THREADS": "1"} | forks.variables()
    variables |= {"SEARCHER_CHAOS_AGENTS_START": "1"}  # they take the jobs
    with machine_room(variables) as room:
        yield room


class Shell:
    """Runs `searcher` in a folder, knowing the token or not."""

    def __init__(self, folder: Path, cache: Path, outputs: Path, forks: Forks) -> None:
        self.folder = folder
        self._outputs, self._forks = outputs, forks
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAY_AUTH", "SEARCHER"))
        } | {"HOME": str(folder), "SEARCHER_CACHE": str(cache), "COLUMNS": "200"}

    def start(self, *words: str, before: str = "", **environment: str) -> "Running":
        """Start a command, `before` which Python's own words are carried out."""
        variables = self._environment | environment
        path = self._outputs / str(len(list(self._outputs.iterdir())))
        with path.open("wb") as output:
            process: subprocess.Popen[bytes] | ForkedProcess
            if before:
                code = f"{before}\nimport sys\nfrom searcher.cli.main import main\nsys.exit(main({list(words)!r}))"
                process = subprocess.Popen(
                    [sys.executable, "-c", code],
                    cwd=self.folder,
                    env=variables,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            else:
                process = self._forks.searcher(
                    words, cwd=self.folder, environment=variables, output=output.fileno()
                )
        return Running(process, path)

    def run(self, *words: str, **environment: str) -> str:
        """Return the output of a command that succeeds."""
        return self.start(*words, **environment).ends_with(0)


@dataclass(frozen=True)
class Running:
    """A command that runs, and the file that takes what it says."""

    process: subprocess.Popen[bytes] | ForkedProcess
    path: Path

    def ends_with(self, code: int) -> str:
        """Wait for its end; return its output."""
        found = self.process.wait(200)
        output = self.path.read_text()
        assert found == code, output
        return output


@pytest.fixture
def shell(tmp_path: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Shell:
    (tmp_path / "tiny.toml").write_text(TINY.replace("trials = 4", f"trials = {DONE}"))
    return Shell(tmp_path, cache_dir, tmp_path_factory.mktemp("outputs"), forks)


@pytest.mark.fault(
    "a driver with no token, with a wrong one, of another Ray version",
    holds="refused in one line; no database, no file",
)
def test_who_is_not_welcome_is_told_so_in_one_line(room: MachineRoom, shell: Shell):
    launch = ["launch", "--study", "tiny.toml"]
    wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}
    stranger = "the cluster must know this process's token, got another or none; set RAY_AUTH_MODE=token and"
    at_dashboard = room.dashboard.removeprefix("http://")
    refused = {
        f"--address {room.address}: {stranger}": [
            shell.start(*launch, "--address", room.address),
            shell.start(*launch, RAY_ADDRESS=room.address, **wrong),
        ],
        f"--address {room.dashboard}: {stranger}": [
            shell.start(*launch, "--address", room.dashboard, "--detach"),
            shell.start(*launch, "--address", room.dashboard, "--detach", **wrong),
        ],
        f"--address {at_dashboard}: must be a running Ray cluster: that is a web server, the dashboard perhaps": [
            shell.start(*launch, "--address", at_dashboard, **room.known)
        ],
        f"--address {room.address}: must run the same Ray as this process, got ": [
            shell.start(
                *launch,
                "--address",
                room.address,
                before="import searcher.orchestration, ray; ray.__version__ = '2.54.0'",
                **room.known,
            )
        ],
        f"--address {room.address}: must be a Ray cluster that takes this process; got Ray: ": [
            shell.start(
                *launch,
                "--address",
                room.address,
                before="import searcher.orchestration, ray._private.utils as utils\n"
                "utils.compute_version_info = lambda: (utils.ray.__version__, '3.12.1')",
                **room.known,
            )
        ],
        "--detach: must have a cluster to run on; give --address": [shell.start(*launch, "--detach")],
        "SEARCHER_DB: must not hold a password where a Ray job is to use it": [
            shell.start(
                *[*launch, "--detach", "--address", room.address],
                SEARCHER_DB=f"postgresql://u:{PASSWORD}@127.0.0.1/x",
                **room.known,
            )
        ],
    }
    for said, processes in refused.items():
        for process in processes:
            output = process.ends_with(2)
            assert output.startswith(said), output
            assert output.count("\n") == 1, output
            assert PASSWORD not in output
    assert [path.name for path in shell.folder.iterdir()] == ["tiny.toml"]


@pytest.mark.fault(
    "a driver that is a Ray job, the database's URL with its password in the file of `--db @FILE`",
    holds="followed and shown from other processes, with and without the storage folder; the password is in no job",
)
def test_a_detached_study_is_followed_from_anywhere(
    room: MachineRoom, shell: Shell, fresh_postgres_url: str, tmp_path: Path
):
    assert PASSWORD in fresh_postgres_url
    (tmp_path / "database").write_text(fresh_postgres_url)
    database = ["--db", "@database"]
    launch = ["launch", "--study", "tiny.toml", *database, "--storage", "runs"]
    submitted = shell.run(*launch, "--detach", "--address", room.address, **room.known)
    [job] = [word for word in submitted.split() if word.startswith("searcher-tiny-")][:1]
    assert submitted.startswith(
        f"tiny: submitted as Ray job {job} to {room.dashboard}; waiting for its driver\n"
    )

    followed = shell.run("logs", "--study", "tiny", *database, "--follow")
    assert followed.endswith("Z finished\n"), followed
    [study] = json.loads(shell.run("status", *database, "--json"))
    assert (study["num_done"], study["last_launch"]["outcome"]) == (DONE, "finished")
    assert study["last_launch"]["job"] == job
    assert (tmp_path / "runs" / "tiny" / "storage.mark").is_file(), (
        "the driver has joined as one of several nodes"
    )

    (tmp_path / "runs").rename(tmp_path / "out of reach")
    logs = ["logs", "--study", "tiny", *database, "--follow"]
    from_job = shell.run(*logs, "--address", room.dashboard, **room.known)
    assert f"tiny: all {DONE} trials done" in from_job
    without = shell.start(*logs).ends_with(2)
    assert f"its driver is Ray job {job}: give the cluster with --address" in without

    bearer = {"Authorization": f"Bearer {room.token}"}
    about_jobs = requests.get(f"{room.dashboard}/api/jobs/", headers=bearer, timeout=30).text
    assert job in about_jobs
    for shown in (about_jobs, submitted, followed, from_job):
        assert PASSWORD not in shown
    assert requests.get(f"{room.dashboard}/api/jobs/", timeout=30).status_code == 401


@pytest.mark.fault(
    "`searcher stop` of a Ray job; then the next job killed by Ray (`ray job stop`), then its driver by kill -9",
    holds="the next launch resumes; exact budget, nothing RUNNING, every epoch once",
)
def test_a_job_that_ends_early_leaves_a_study_that_goes_on(
    room: MachineRoom, shell: Shell, fresh_postgres_url: str, tmp_path: Path, fact: Callable[[str], None]
):
    (tmp_path / "database").write_text(fresh_postgres_url)
    about = ["--study", "tiny", "--db", "@database"]
    launch = ["launch", "--study", "tiny.toml", "--db", "@database", "--detach", "--address", room.address]
    launch += ["--epochs", "40", "--set", "pruner.name=none"]
    bearer = {"Authorization": f"Bearer {room.token}"}

    def submit() -> dict[str, Any]:
        shell.run(*launch, **room.known)
        return json.loads(shell.run("status", *about, "--json"))[0]["last_launch"]

    def wait_for_two_epochs() -> None:
        before = look(fresh_postgres_url).num_trained
        wait_until("two more epochs", lambda: look(fresh_postgres_url).num_trained >= before + 2)

    submit()
    wait_for_two_epochs()
    assert "tiny: interrupted after " in shell.run("stop", *about)
    job = submit()["job"]
    wait_for_two_epochs()
    requests.post(f"{room.dashboard}/api/jobs/{job}/stop", headers=bearer, timeout=60).raise_for_status()
    wait_until(
        "Ray has ended the job",
        lambda: (
            requests.get(f"{room.dashboard}/api/jobs/{job}", headers=bearer, timeout=60).json()["status"]
            == "STOPPED"
        ),
    )
    driver = submit()
    wait_for_two_epochs()
    psutil.Process(driver["pid"]).kill()
    submit()
    assert shell.run("logs", *about, "--follow").endswith("Z finished\n")
    facts = look(fresh_postgres_url)
    assert_finished(facts, tmp_path / "runs", budget=DONE, epochs=40)
    fact(facts.summary())
