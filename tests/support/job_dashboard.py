"""The dashboard of a Ray cluster as its job client meets it: Ray's HTTP API on loopback, for one job of a test."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import ray

__all__ = ["JobDashboard", "job_dashboard"]


@dataclass
class JobDashboard:
    """What the job is, and how the dashboard answers."""

    url: str = ""
    log: str = ""
    status: str = "RUNNING"
    on_submit: Callable[[str], None] = lambda job: None
    """Called with the job's name."""
    on_log: Callable[[], None] = lambda: None
    """Called before a log is handed out."""
    failures: list[int] = field(default_factory=list)
    """How the next questions for a log are answered: by this HTTP status, or for 0 by hanging up."""

    def answer(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/api/version":
            return {"version": "4", "ray_version": ray.__version__, "ray_commit": ""}
        if method == "POST":
            self.on_submit(body["submission_id"])
            return {"job_id": body["submission_id"], "submission_id": body["submission_id"]}
        if path.endswith("/logs"):
            self.on_log()
            return {"logs": self.log}
        return {
            "type": "SUBMISSION",
            "entrypoint": "searcher",
            "status": self.status,
            "driver_exit_code": None,
        }


@contextmanager
def job_dashboard() -> Iterator[JobDashboard]:
    dashboard = JobDashboard()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            failure = (
                dashboard.failures.pop(0) if self.path.endswith("/logs") and dashboard.failures else None
            )
            if failure == 0:
                self.close_connection = True
                return
            content = json.dumps(dashboard.answer(self.command, self.path, json.loads(body or b"{}")))
            self.send_response(failure or 200)
            self.end_headers()
            self.wfile.write(content.encode())

        do_GET = do_POST = _answer  # noqa: N815  http.server's names

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    dashboard.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield dashboard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
