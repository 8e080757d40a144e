"""One folder, one process: names that nobody else got, and locks that end with their process."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from searcher.claims import claimed, free_folder
from searcher.exceptions import UserError

HOLDER = """
import sys, time
from pathlib import Path
from searcher.claims import claimed
with claimed(Path(sys.argv[1]), "--out"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_processes_that_ask_for_one_name_get_folders_of_their_own(tmp_path: Path):
    wanted = tmp_path / "runs" / "train-20260101-000000"
    with multiprocessing.get_context("fork").Pool(4) as pool:
        folders = pool.map(free_folder, [wanted] * 40)
    assert sorted(folders) == sorted(
        [wanted, *(wanted.with_name(f"{wanted.name}-{n}") for n in range(2, 41))]
    )


def test_a_claimed_folder_is_refused_to_a_second_process_until_the_first_is_killed(tmp_path: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError) as refused, claimed(tmp_path, "--out x"):
        pass
    assert str(refused.value) == (
        f"--out x: must be written by one process at a time, got one that process {holder.pid} on "
        f"{os.uname().nodename} writes into; wait for its end, or choose another folder"
    )
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with claimed(tmp_path, "--out x"):
        pass
    assert [*tmp_path.iterdir()] == [], "a claim that ended leaves no file"


def test_the_claim_holds_within_one_process_too_and_ends_with_an_error(tmp_path: Path):
    def fail() -> None:
        with claimed(tmp_path, "--out"):
            with pytest.raises(UserError, match="one process at a time"), claimed(tmp_path, "--out"):
                pass
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with claimed(tmp_path, "--out"):
        pass
