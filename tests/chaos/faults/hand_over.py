"""Lets a process that is forked be the one that this one was started as, and ends as it does.

SEARCHER_CHAOS_FORKS names the socket of `tests/support/fork_server.py` that is for Ray's processes; `searcher` is
forked by the one beside it. The file SOCKET.PID has the number of the other process. Few modules are imported here, not
even pathlib: Ray starts many workers.
"""
# ruff: noqa: PTH108, PTH109, PTH123

import contextlib
import json
import os
import resource
import signal
import socket

__all__ = ["hand_over"]

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)


def hand_over(argv: list[str]) -> None:
    """Do not return, unless a standard stream is closed, which cannot be handed over.

    Args:
        argv: The script, and its words.
    """
    if not all(map(_is_open, range(3))):
        return
    is_searcher = argv[0].endswith("/searcher")
    server = os.environ["SEARCHER_CHAOS_FORKS"]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(server.removesuffix("-workers") if is_searcher else server)
        code = _wait(connection, server, _request(argv, is_searcher), passes_on=is_searcher)
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no other
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _request(argv: list[str], is_searcher: bool) -> dict:
    return {
        "run": "program" if is_searcher else "worker" if "default_worker" in argv[0] else "part",
        "argv": argv,
        "cwd": os.getcwd(),
        "environment": {**os.environ},
        "pid": os.getpid(),
        "ignores": [number for number in _PASSED_ON if signal.getsignal(number) == signal.SIG_IGN],
        "limits": {number: resource.getrlimit(number) for number in _LIMITS},
    }


def _wait(connection: socket.socket, server: str, request: dict, *, passes_on: bool) -> int:
    """Ask for the process; return its exit code."""
    body = json.dumps(request).encode()
    socket.send_fds(connection, [len(body).to_bytes(4, "big")], [0, 1, 2])
    connection.sendall(body)
    pid = _answer(connection)
    if passes_on:
        for number in _PASSED_ON:
            if number not in request["ignores"]:
                signal.signal(number, lambda number, _: os.kill(int(pid), number))
    known = f"{server}.{os.getpid()}"
    with open(known, "wb") as file:
        file.write(pid)
    code = int(_answer(connection) or 1)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(known)
    return code


def _answer(connection: socket.socket) -> bytes:
    length = connection.recv(4, socket.MSG_WAITALL)
    return connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL) if length else b""
