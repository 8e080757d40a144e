"""A process of pytest-xdist that is forked instead of started, so that it need not import torch and its like again.

    python forked_python.py SOCKET [options of python] -c CODE

hands its streams to the process of `forks.py` that answers at SOCKET, and ends as the forked process does.
"""

import contextlib
import os
import socket
import sys
from pathlib import Path

from forks import receive, send


def _main(path: str, code: str) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        request = {"run": "python", "argv": ["-c", code], "cwd": str(Path.cwd())}
        send(connection, request | {"environment": {**os.environ}}, [0, 1, 2])
        for stream in (
            0,
            1,
        ):  # what reads from it or writes to it would else not see that the other has ended
            os.close(stream)
        receive(connection)  # its number
        with contextlib.suppress(OSError):
            return abs(receive(connection)[0] or 0)
    return 1


if __name__ == "__main__":
    os._exit(_main(sys.argv[1], sys.argv[-1]))
