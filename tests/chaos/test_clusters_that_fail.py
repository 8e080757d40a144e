"""A Ray cluster that does not come up is started a second time; then it is one line, never a traceback."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

UP = """
from searcher.exceptions import UserError
from searcher.orchestration.cluster.ray_cluster import ray_cluster
try:
    with ray_cluster():
        print("UP")
except UserError as error:
    print(error)
"""
ALL_PORTS_TAKEN = """
import fcntl, socket, struct
any_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14s", b"lo", 1 | 64, bytes(14)))  # SIOCSIFFLAGS: loopback is up
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
    file.write("50000 50003")
held = [socket.create_server(("", port)) for port in range(50000, 50004)]
"""


def kill_of(child: psutil.Process, name: str) -> list[int]:
    """Kill the first process of that name below a child as soon as it is there; return it, and at the child's end."""
    killed: list[int] = []
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        for process in [] if killed else child.children(recursive=True):
            try:
                if Path(process.cmdline()[0]).name == name:
                    process.kill()
                    killed.append(process.pid)
            except (psutil.Error, IndexError):
                continue
    return killed


@pytest.mark.fault(
    "kill -9 of a process of Ray while the cluster of a launch comes up",
    holds="said in one line; the cluster is started once more, and comes up",
)
def test_a_cluster_whose_process_dies_while_it_starts_is_started_again(tmp_path, fact: Callable[[str], None]):
    child = subprocess.Popen(
        [sys.executable, "-c", UP], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    killed = kill_of(psutil.Process(child.pid), "gcs_server")
    output, error = child.communicate()
    assert killed
    assert output == "UP\n", output + error
    [line] = [line for line in error.splitlines() if "searcher" in line or "once more" in line]
    assert line.startswith("Ray did not come up, trying once more: ")
    assert "Traceback" not in error
    fact(line[:120])


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs a network of its own")
@pytest.mark.fault(
    "every port of the machine is taken when a launch begins",
    holds="tried twice, then one line that says so, with the remedy; no traceback, no folder left",
)
def test_no_free_port_is_one_line_after_the_second_try(tmp_path, fact: Callable[[str], None]):
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", ALL_PORTS_TAKEN + UP],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    assert line.startswith("a cluster on this machine: must come up, got twice: ")
    assert "(gcs_server.err: no port of this machine is free); look for free memory, room in" in line
    assert line.endswith("and free ports, then launch again")
    assert done.stderr.count("trying once more") == 1
    assert "Traceback" not in done.stderr
    fact(line[:160])
