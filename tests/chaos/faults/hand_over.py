"""Lets a process that is forked be the worker that this one was started for, and ends as it does.

SEARCHER_CHAOS_FORKS names the socket of `tests/support/fork_server.py`, which has imported all that a worker would. The
file SOCKET.PID has the number of the other process. Few modules are imported here, not even pathlib: Ray starts many
workers.
"""
# ruff: noqa: PTH108, PTH109, PTH123

import contextlib
import json
import os
import socket
import sys


def _answer(connection: socket.socket) -> bytes:
    length = connection.recv(4, socket.MSG_WAITALL)
    return connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL) if length else b""


def _hand_over(server: str) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(server)
        request = {
            "run": "worker",
            "argv": sys.orig_argv[1:],
            "cwd": os.getcwd(),
            "environment": {**os.environ},
        }
        body = json.dumps(request).encode()
        socket.send_fds(connection, [len(body).to_bytes(4, "big")], [0, 1, 2])
        connection.sendall(body)
        known = f"{server}.{os.getpid()}"
        with open(known, "wb") as file:
            file.write(_answer(connection))
        code = int(_answer(connection) or 1)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(known)
    return code


_code = _hand_over(os.environ["SEARCHER_CHAOS_FORKS"])
if _code < 0:
    os.kill(os.getpid(), -_code)
os._exit(_code)
