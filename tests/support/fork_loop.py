"""What the processes of `fork_server.py` wait for: connections, and children that end."""

import contextlib
import os
import selectors
import signal
import socket
from typing import Any

__all__ = ["Loop", "ended_children"]


class Loop:
    """Waits for connections, and for children that end."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self._ended, self._woken = socket.socketpair()
        for end in (self._ended, self._woken):
            end.setblocking(False)
        self.selector.register(self._ended, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._woken.fileno())

    def watch(self, connection: socket.socket) -> None:
        """Say when there is something to read."""
        self.selector.register(connection, selectors.EVENT_READ)

    def ready(self) -> list[Any]:
        """Return the connections with something to read; those whose watch ended meanwhile are not among them."""
        keys = [key.fileobj for key, _ in self.selector.select()]
        if self._ended in keys:
            self._ended.recv(4096)
        return [each for each in keys if each is not self._ended]

    def close(self) -> None:
        """Be as a new process is."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.selector.close()
        for end in (self._ended, self._woken):
            end.close()


def ended_children() -> list[tuple[int, int]]:
    """Return numbers and exit codes of the children that have ended."""
    found = []
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
            found.append((ended[0], os.waitstatus_to_exitcode(ended[1])))
    return found
