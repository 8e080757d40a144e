"""An S3 server on loopback, of the sort that an object store's client cannot tell from a real one."""

import logging
import urllib.request
from dataclasses import dataclass
from typing import Any, Self


@dataclass
class S3Server:
    """Moto's server in a thread of this process; what it holds outlives `stop` and `start_again`."""

    server: Any
    port: int

    @classmethod
    def start(cls) -> Self:
        server = _server(0)
        return cls(server, server.get_host_and_port()[1])

    def stop(self) -> None:
        self.server.stop()

    def start_again(self) -> None:
        self.server = _server(self.port)

    def uri(self, place: str) -> str:
        """Return the URI of BUCKET/FOLDER."""
        return f"s3://{place}?endpoint_override=127.0.0.1:{self.port}&scheme=http"

    def make_bucket(self, name: str) -> None:
        self._ask(f"/{name}", "PUT")

    def check_keys(self, check: bool) -> None:
        """Refuse keys that nobody was given, or take any, as at the beginning."""
        self._ask("/moto-api/reset-auth", "POST", b"0" if check else b"inf")

    def _ask(self, path: str, method: str, body: bytes | None = None) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=body,
            method=method,
            headers={"Content-Type": "text/plain"},
        )
        with urllib.request.urlopen(request) as answer:
            answer.read()


def _server(port: int) -> Any:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    return server
