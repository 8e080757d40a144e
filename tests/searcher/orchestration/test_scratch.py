"""Scratch folders: gone at the end, also those of a process that was killed."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from searcher.exceptions import UserError
from searcher.orchestration.cluster.scratch import scratch_folder, short_scratch_folder, temporary_folder


def test_a_scratch_folder_is_private_and_gone_afterwards():
    with scratch_folder() as folder:
        assert folder.is_dir()
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "file").touch()
    assert not folder.exists()


@pytest.mark.parametrize("length", [4, 8, 10, 13, 15, 17, 20, 60])
def test_rays_longest_socket_fits_whatever_the_length_of_tmpdir(monkeypatch, length):
    """The socket is bound for real: the system refuses a path of 108 bytes."""
    parent = Path(f"/tmp/{'t' * (length - 5)}") if length > 5 else Path("/tmp")
    parent.mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(parent))
    with short_scratch_folder() as folder, socket.socket(socket.AF_UNIX) as listening:
        sockets = folder / f"session_2026-11-28_02-38-17_123456_{os.getpid()}" / "sockets"
        sockets.mkdir(parents=True)
        listening.bind(str(sockets / "plasma_store"))
        assert folder.parent.parent == (parent if length < 14 else Path("/tmp")) or 14 <= length <= 17
    assert not folder.parent.exists()
    if length > 5:
        parent.rmdir()


def test_no_short_folder_that_can_be_written_is_said_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with (
        pytest.raises(UserError, match=r"TMPDIR: must be .* too long for Ray's sockets and /tmp, which"),
        short_scratch_folder(),
    ):
        pass


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to run as a user without an entry in /etc/passwd")
def test_a_user_without_a_home_gets_one_that_is_gone_afterwards():
    code = """
import os
from pathlib import Path
from searcher.exceptions import UserError
from searcher.orchestration.cluster.scratch import give_home, homeless
from searcher.storage.mirror import cache_dir
assert not homeless()
os.setgid(54321)
os.setuid(54321)  # only now: another user may not be able to read this Python
for name in ("HOME", "USER", "SEARCHER_CACHE", "XDG_CACHE_HOME"):
    os.environ.pop(name, None)
try:
    cache_dir()
except UserError as error:
    print(error)
assert homeless()
give_home()
print(Path.home(), Path.home().stat().st_mode & 0o777 == 0o700, os.environ["USER"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    refused, home = done.stdout.splitlines()
    assert refused.startswith(
        "SEARCHER_CACHE: must be set where user 54321 has no home, got neither HOME nor "
    )
    folder, *about = home.split()
    assert about == ["True", "54321"]
    assert not Path(folder).exists()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to run as another user")
def test_another_user_cannot_enter_what_ray_opens_to_everybody():
    with short_scratch_folder() as folder:
        folder.chmod(0o777)  # as Ray does
        done = subprocess.run(
            ["touch", str(folder / "by-nobody")], user=65534, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert "Permission denied" in done.stderr
        assert not [*folder.iterdir()]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_uses_is_not():
    code = """
import os, signal, sys
from searcher.orchestration.cluster.scratch import scratch_folder
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


def test_a_machine_without_any_folder_for_temporary_files_is_one_line(monkeypatch):
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setenv("TMPDIR", "/nowhere")
    with pytest.raises(UserError, match="TMPDIR: must be a folder that can be written, got /nowhere"):
        temporary_folder()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="mounts a file system")
def test_a_file_system_without_room_is_passed_over_and_where_both_have_none_that_is_said():
    """Two real file systems of 64 KiB, the second in place of /tmp, which no other process sees."""
    code = """
import subprocess, tempfile
from searcher.exceptions import UserError
from searcher.orchestration.cluster.scratch import short_scratch_folder
for place in ("/mnt", "/tmp"):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=True)
    tempfile.tempdir = "/mnt"
    try:
        with short_scratch_folder() as folder:
            print(folder)
    except UserError as error:
        print(error)
"""
    command = ["unshare", "--mount", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    passed_over, said = done.stdout.splitlines()
    assert passed_over.startswith("/tmp/searcher-")
    assert said == (
        "TMPDIR: must be a folder with a short path and room that can be written, got /mnt, which has 64 KiB free and "
        "/tmp, which has 64 KiB free; set TMPDIR to one"
    )
