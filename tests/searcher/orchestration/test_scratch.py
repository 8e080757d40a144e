"""Scratch folders: gone at the end, also those of a process that was killed."""

import subprocess
import sys
from pathlib import Path

from searcher.orchestration.scratch import scratch_folder


def test_a_scratch_folder_is_short_private_and_gone_afterwards():
    with scratch_folder() as folder:
        assert folder.is_dir()
        assert len(str(folder)) <= 40
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "file").touch()
    assert not folder.exists()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_uses_is_not():
    code = """
import os, signal, sys
from searcher.orchestration.scratch import scratch_folder
with scratch_folder() as folder:
    print(folder, flush=True)
    if sys.argv[1] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""

    def start(fate: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", code, fate], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    with start("dies") as dead, start("lives") as alive:
        left, used = (Path(process.stdout.readline().strip()) for process in (dead, alive))
        dead.wait()
        assert left.is_dir()
        with scratch_folder():
            assert not left.exists()
            assert used.is_dir()
        alive.stdin.close()
