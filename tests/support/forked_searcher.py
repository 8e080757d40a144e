"""`searcher` as a program whose process is forked from one that has imported what a verb does.

    python -IS forked_searcher.py SOCKET PROGRAM [WORDS...]

asks `fork_server.py`, which answers at SOCKET, for a process that runs the words with this one's streams, folder and
environment. It passes signals on, and ends as that process does. If a stream is closed, which cannot be handed over, it
becomes PROGRAM instead. It imports little, not even pathlib: cases call it often.
"""
# ruff: noqa: PTH109

import json
import os
import signal
import socket
import sys


def _streams_are_open() -> bool:
    try:
        for number in range(3):
            os.fstat(number)
    except OSError:
        return False
    return True


def _answer(connection: socket.socket) -> int:
    length = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
    return int(connection.recv(length, socket.MSG_WAITALL) or 1)


def _run(path: str, words: list[str]) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        request = {"run": "command", "argv": words, "cwd": os.getcwd(), "environment": {**os.environ}}
        body = json.dumps(request).encode()
        socket.send_fds(connection, [len(body).to_bytes(4, "big")], [0, 1, 2])
        connection.sendall(body)
        pid = _answer(connection)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, _: os.kill(pid, number))
        return _answer(connection)


if __name__ == "__main__":
    _path, _program, *_words = sys.argv[1:]
    if not _streams_are_open():
        os.execv(_program, [_program, *_words])
    _code = _run(_path, _words)
    if _code < 0:
        signal.signal(-_code, signal.SIG_DFL)
        os.kill(os.getpid(), -_code)
    os._exit(_code)
