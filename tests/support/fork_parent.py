"""A process that has imported what others need, forks them, and tells who asked for them how they ended."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fork_loop import Loop, ended_children
from forked_process import become
from forks import receive, send

__all__ = ["Parent"]


@dataclass
class _Child:
    connection: socket.socket
    ends_with_connection: bool


class Parent:
    """Forks, and tells who asked how each process ended."""

    def __init__(self, requests: socket.socket) -> None:
        self._loop = Loop()
        self._requests = requests
        self._loop.watch(requests)
        self._children: dict[int, _Child] = {}

    def serve(self) -> Callable[[], int]:
        """Serve until no more requests can come and all children have ended. In a child: return what it has to do."""
        is_open = True
        while is_open or self._children:
            for connection in self._loop.ready():
                if connection is self._requests:
                    request, files = receive(connection)
                    if request is None:
                        is_open = False
                        self._loop.selector.unregister(connection)
                        continue
                    todo = self._fork(request, files)
                    if todo is not None:
                        return todo
                elif connection in self._loop.selector.get_map():  # else its process has ended in this moment
                    self._hung_up(connection)
            self._reap()
        return lambda: 0

    def _fork(self, request: dict[str, Any], files: list[int]) -> Callable[[], int] | None:
        *files, last = files
        connection = socket.socket(fileno=last)
        pid = os.fork()
        if pid == 0:
            self._loop.close()
            for end in (self._requests, connection, *(child.connection for child in self._children.values())):
                end.close()
            return become(request, files)
        for file in files:
            os.close(file)
        stands_for_another = request["run"] != "searcher"
        self._children[pid] = _Child(connection, stands_for_another)
        if stands_for_another:  # the process that Ray, pytest or a shell started: they may kill that one
            self._loop.watch(connection)
        with contextlib.suppress(OSError):
            send(connection, pid)
        return None

    def _reap(self) -> None:
        for pid, code in ended_children():
            child = self._children.pop(pid)
            if child.ends_with_connection:
                self._loop.selector.unregister(child.connection)
            with contextlib.suppress(OSError):
                send(child.connection, code)
            child.connection.close()

    def _hung_up(self, connection: socket.socket) -> None:
        self._loop.selector.unregister(connection)
        for pid, child in self._children.items():
            if child.connection is connection:
                child.ends_with_connection = False
                os.kill(pid, signal.SIGKILL)
