"""docker/slurm.sh, run for real on three machines of a Slurm that only writes down what it is asked for."""

import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pretend_slurm import MACHINES, PretendSlurm

_TOKEN = "5eaf00d5" * 8
_URL = "postgresql://searcher:hunter2@192.0.2.9/searcher"


def _start(slurm: PretendSlurm, folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """Start the script as a job of Slurm's is."""
    return subprocess.Popen(
        [folder / "slurm.sh", *arguments],
        env=slurm.environment | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def slurm(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PretendSlurm:
    """A job whose launch has ended by itself; its database in a file, and for all of the job in the environment."""
    room = tmp_path_factory.mktemp("slurm")
    (room / "database_url").write_text(f"{_URL}\n")
    slurm = PretendSlurm(room / "job", folder, token=_TOKEN)
    arguments = ("--study", "unet-demo", "--db", f"@{room / 'database_url'}")
    job = _start(slurm, folder, *arguments, SEARCHER_DB=_URL)
    output, errors = job.communicate(timeout=120)
    assert (job.returncode, output, errors) == (7, "", "")  # the launch's own
    return slurm


def test_a_worker_on_each_machine_has_the_cpus_that_it_promises_ray(slurm: PretendSlurm) -> None:
    workers = slurm.noted("worker")
    assert sorted(worker["node"] for worker in workers) == list(MACHINES)
    assert [(worker["cpus"], worker["options"]["--num-cpus"]) for worker in workers] == [("8", "8")] * 3


def test_the_head_is_on_the_first_machine_and_takes_no_trials(slurm: PretendSlurm) -> None:
    (head,) = slurm.noted("head")
    assert (head["node"], head["options"]["--num-cpus"], head["options"]["--num-gpus"]) == ("n1", "0", "0")
    address = f"192.0.2.1:{head['options']['--port']}"
    (launch,) = slurm.noted("launch")
    assert {worker["options"]["--address"] for worker in slurm.noted("worker")} == {address}
    assert launch["arguments"][1:4] == ["launch", "--address", address]


def test_the_launch_begins_when_every_worker_is_up(slurm: PretendSlurm) -> None:
    """It would refuse a study that none of the machines that it sees can take."""
    (launch,) = slurm.noted("launch")
    assert launch["up"] == ["n1", "n1", "n2", "n3"]  # the first machine's head, too


def _arguments(slurm: PretendSlurm) -> str:
    return "".join(str(note.get("arguments", "")) + str(note.get("options", "")) for note in slurm.notes)


def test_no_argument_holds_the_databases_address_and_ray_does_not_know_it(slurm: PretendSlurm) -> None:
    assert "hunter2" not in _arguments(slurm)
    assert [node["database"] for node in slurm.noted("head") + slurm.noted("worker")] == [None] * 4
    (launch,) = slurm.noted("launch")
    assert launch["database"] == _URL


def test_ray_demands_the_token_which_is_in_a_file_of_the_owners_alone(slurm: PretendSlurm) -> None:
    assert _TOKEN not in _arguments(slurm)
    nodes = slurm.noted("head") + slurm.noted("worker")
    assert {(node["mode"], node["token"]) for node in nodes} == {("token", _TOKEN)}
    assert {node["scratch"] for node in nodes} == {0o700}
    assert stat.S_IMODE(slurm.token.stat().st_mode) == 0o600


def _assert_nothing_is_left(slurm: PretendSlurm, ended: list[str]) -> None:
    """The launch ends first, the workers next, the head last; no process and no file stays."""
    assert [note["what"] for note in slurm.notes if note["what"].endswith("stopped")] == ended
    assert not [note for note in slurm.notes if psutil.pid_exists(note["pid"])]
    assert [list((slurm.disks / machine).iterdir()) for machine in MACHINES] == [[], [], []]


def test_everything_is_stopped_at_the_end(slurm: PretendSlurm) -> None:
    _assert_nothing_is_left(slurm, ["worker stopped"] * 3 + ["head stopped"])


def _wait_for(slurm: PretendSlurm, what: str, job: subprocess.Popen[Any]) -> None:
    while not slurm.noted(what):
        assert job.poll() is None
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("when", "launch"), [("worker", []), ("launch", ["launch stopped"])], ids=["workers start", "trials run"]
)
def test_out_of_time_the_launch_is_ended_in_order_and_then_its_cluster(
    folder: Path, tmp_path: Path, when: str, launch: list[str]
) -> None:
    slurm = PretendSlurm(tmp_path / "job", folder, token=_TOKEN)
    job = _start(slurm, folder, "--study", "unet-demo", PRETEND_LONG="1")
    _wait_for(slurm, when, job)
    if when == "worker":
        while (
            len(list((tmp_path / "job" / "up").iterdir())) < 3
        ):  # two of them can be told to stop; the last sleeps
            time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 143
    ended = ["worker stopped"] * len(slurm.noted("worker stopped"))
    _assert_nothing_is_left(slurm, [*launch, *ended, "head stopped"])


def test_a_token_that_others_can_read_is_refused(folder: Path, tmp_path: Path) -> None:
    slurm = PretendSlurm(tmp_path / "job", folder, token=_TOKEN)
    slurm.token.chmod(0o640)
    job = _start(slurm, folder, "--study", "unet-demo")
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 2
    assert errors == (
        "RAY_AUTH_TOKEN_PATH: must be its owner's alone, others use these machines too, "
        f"got mode 640 of {slurm.token}; chmod 600 it\n"
    )
    assert slurm.notes == []


@pytest.mark.parametrize(("role", "words"), [("head", "the head"), ("worker", "the workers")])
def test_a_cluster_that_does_not_start_ends_the_job_at_once(
    folder: Path, tmp_path: Path, role: str, words: str
) -> None:
    slurm = PretendSlurm(tmp_path / "job", folder, token=_TOKEN)
    job = _start(slurm, folder, "--study", "unet-demo", PRETEND_BROKEN=role)
    _, errors = job.communicate(timeout=120)
    assert (job.returncode, errors) == (1, f"{words} of the Ray cluster did not start\n")
    assert slurm.noted("launch") == []
    _assert_nothing_is_left(slurm, ["head stopped"] if role == "worker" else [])
