"""What a killed driver's session leaves is ended within seconds; other sessions' processes are not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from searcher.orchestration.cluster.leftovers import MARK, end_processes
from searcher.orchestration.cluster.scratch import scratch_folder

DRIVER = """
import os, signal, subprocess, sys, time
from pathlib import Path
from searcher.orchestration.cluster.leftovers import MARK, ended_with_this_process
folder = Path(sys.argv[1])
folder.mkdir()
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
with ended_with_this_process(folder):
    agent = subprocess.Popen([*sleeper, f"--session-dir={folder}/session"], start_new_session=True)
    worker = subprocess.Popen(sleeper, env=os.environ | {MARK: str(folder)}, start_new_session=True)
    os.kill(worker.pid, signal.SIGSTOP)
    print(agent.pid, worker.pid, flush=True)
    sys.stdin.read()
"""


def sleeper(*words: str, **variables: str) -> subprocess.Popen[bytes]:
    """Start a process of somebody with these words in its command line and these variables."""
    command = [sys.executable, "-c", "import time; time.sleep(600)", *words]
    return subprocess.Popen(command, env={**os.environ, **variables})


@pytest.mark.parametrize("how", ["SIGKILL", "its end"])
def test_agents_and_stopped_workers_end_with_their_driver(tmp_path: Path, how):
    folder = tmp_path / "searcher-1-2-3"
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PGPASSWORD": "s3cret-pw", "SEARCHER_DB": "postgresql://me:s3cret-pw@host/x"},
    )
    assert driver.stdout is not None
    assert driver.stdin is not None
    session = [psutil.Process(int(word)) for word in driver.stdout.readline().split()]
    give_up_at = time.monotonic() + 30
    while not (  # for an instant of its start a process has no command line
        found := [
            child
            for child in psutil.Process(driver.pid).children()
            if "leftovers.py" in " ".join(child.cmdline())
        ]
    ):
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
    [waiting] = found
    assert "s3cret-pw" not in str(waiting.environ())
    others = [sleeper(f"{folder}4/session"), sleeper(**{MARK: f"{folder}4"})]
    if how == "SIGKILL":
        driver.send_signal(signal.SIGKILL)
    driver.stdin.close()
    driver.wait()
    gone, alive = psutil.wait_procs(session, timeout=30)
    assert (len(gone), alive) == (2, [])
    give_up_at = time.monotonic() + 30
    while folder.exists():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    assert [other.poll() for other in others] == [None, None], "another session, whose name begins alike"
    for other in others:
        other.kill()
        other.wait()


def test_the_next_launch_ends_what_a_killed_one_left(tmp_path: Path):
    """Where the process that waits for the driver's end was killed too."""
    with scratch_folder(tmp_path) as folder:
        space = folder.name.split("-")[1]
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = tmp_path / f"searcher-{space}-{dead.pid}-abc"
    left.mkdir()
    agent = sleeper(f"--session-dir={left}/r/session")
    with scratch_folder(tmp_path):
        assert agent.wait(30) == -signal.SIGKILL
    assert not left.exists()
    assert end_processes(str(left)) == []
