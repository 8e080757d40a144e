"""Ray's random identifiers differ between processes that the tests fork, as between those that are started."""

import os
import socket
from pathlib import Path

from forks import Forks, receive, send

WORKER = """
import sys
assert "ray.tune" in sys.modules, "else nothing is shown"
import ray
print(ray.NodeID.from_random().hex(), ray.WorkerID.from_random().hex(), flush=True)
"""


def drawn(forks: Forks, script: Path) -> list[str]:
    """Return what a worker draws that is forked as Ray's are."""
    output = script.with_name("output")
    with (
        socket.socket(socket.AF_UNIX) as connection,
        output.open("wb") as file,
        Path(os.devnull).open() as nothing,
    ):
        connection.connect(forks.for_workers)
        request = {
            "run": "worker",
            "argv": [str(script)],
            "cwd": str(script.parent),
            "environment": {**os.environ},
        }
        send(connection, request, [nothing.fileno(), file.fileno(), file.fileno()])
        receive(connection)  # its number
        assert receive(connection)[0] == 0, output.read_text()
    return output.read_text().split()


def test_forked_workers_do_not_draw_the_same_identifiers(forks: Forks, tmp_path: Path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    first, second = drawn(forks, script), drawn(forks, script)
    assert [len(first), len(second)] == [2, 2]
    assert not set(first) & set(second)
