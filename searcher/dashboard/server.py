"""Serving the dashboard: the standard library's server, a thread per connection, as Optuna dashboard's own command."""

import errno
import ipaddress
import logging
import socket
import sys
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from optuna_dashboard import wsgi

from searcher.dashboard.access import Access
from searcher.dashboard.artifacts import StudyArtifacts
from searcher.dashboard.guard import RequestGuard, WsgiApp
from searcher.dashboard.pages import ReadOnlyPages
from searcher.exceptions import UserError
from searcher.ledger.database import Database

__all__ = ["DashboardServer", "is_loopback"]

logger = logging.getLogger(__name__)

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_IDLE_LIMIT_S = 30.0
"""How long a connection may stay silent before its thread ends."""


def is_loopback(host: str) -> bool:
    """Return whether a server on this address can only be reached from this machine.

    For a name, only `localhost` counts.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class DashboardServer:
    """The dashboard's web server, which listens as soon as it is created. Use it as a context manager.

    Args:
        database: The study database; opened read-only unless `writable`.
        host: Address or name to listen on.
        port: Port to listen on; 0 for a free one.
        writable: Whether studies can be changed and deleted.
        access: The token that requests need; None, on loopback only, for no token.

    Raises:
        UserError: The server cannot listen on the address.
    """

    def __init__(
        self, database: Database, *, host: str, port: int, writable: bool, access: Access | None
    ) -> None:
        try:
            self._server = _Server(host, port)
        except OSError as error:
            raise _cannot_listen(host, port, error) from None
        self._host = host
        self.port = int(self._server.server_address[1])
        """Where it listens."""
        local = _LOOPBACK_NAMES | {host.lower()} if is_loopback(host) else None
        app: WsgiApp = wsgi(database.optuna_storage, artifact_store=StudyArtifacts(database))
        if not writable:
            app = ReadOnlyPages(app)
        self._server.set_app(RequestGuard(app, writable=writable, access=access, hosts=local, port=self.port))

    @property
    def url(self) -> str:
        """URL to open in a browser."""
        unspecified = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}
        host = unspecified.get(self._host, self._host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def serve(self) -> None:
        """Answer requests until the thread is interrupted."""
        self._server.serve_forever(poll_interval=0.1)

    def stop(self) -> None:
        """End `serve`, which runs in another thread."""
        self._server.shutdown()

    def __enter__(self) -> "DashboardServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind to the address without a name server query, which `HTTPServer` would make."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log an error of a connection, unless the browser closed the connection."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            logger.error("%s: %s", client_address, error)


class _Handler(WSGIRequestHandler):
    timeout = _IDLE_LIMIT_S

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request at debug level; never the URL of a login, which is secret until it was opened."""
        if not str(getattr(self, "path", "")).startswith("/login/"):
            logger.debug(format, *args)


def _cannot_listen(host: str, port: int, error: OSError) -> UserError:
    if error.errno == errno.EADDRINUSE:
        return UserError(
            f"--port {port}: must be free, got one that another program listens on; "
            "choose another, or 0 for any that is free"
        )
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return UserError(
            f"--host {host}: must be an address of this machine, got another ({error.strerror}); "
            "0.0.0.0 listens on all of them"
        )
    return UserError(f"--host {host} --port {port}: must be free to listen on: {error.strerror or error}")
