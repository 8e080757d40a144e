"""Optuna dashboard's pages without what changes a study."""

from collections.abc import Callable, Iterable
from typing import Any

from searcher.dashboard.guard import WsgiApp

__all__ = ["ReadOnlyPages"]

_WRITING = ("AddBoxIcon", "DriveFileRenameOutlineIcon", "DeleteIcon", "EditIcon")
"""Icons of the buttons that create, rename, delete and edit in Optuna dashboard 0.21."""
_BUTTONS = ", ".join(f'[data-testid="{icon}"]' for icon in _WRITING)
_STYLE = (
    f'<style>button:has({_BUTTONS}), .MuiCard-root:has([data-testid="UploadFileIcon"]) '
    "{ display: none !important; }</style></head>"
).encode()


class ReadOnlyPages:
    """A WSGI application that hides the buttons of Optuna dashboard that change a study.

    It only changes the pages' style; requests that change a study are refused by the guard.

    Args:
        app: The application of Optuna dashboard.
    """

    def __init__(self, app: WsgiApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request; a page of the dashboard gets an additional style, other answers are unchanged."""
        if not str(environ.get("PATH_INFO", "")).startswith("/dashboard"):
            return self._app(environ, start_response)
        # A browser must not keep the page of a dashboard that could write, nor this one for it.
        asked = {name: value for name, value in environ.items() if not name.startswith("HTTP_IF_")}
        begun: list[tuple[str, list[tuple[str, str]]]] = []
        parts = self._app(asked, lambda status, headers, *_: begun.append((status, headers)))
        try:
            page = b"".join(parts).replace(b"</head>", _STYLE, 1)
        finally:
            getattr(parts, "close", lambda: None)()
        status, headers = begun[0]
        replaced = {"content-length", "cache-control", "etag", "last-modified"}
        kept = [(name, value) for name, value in headers if name.lower() not in replaced]
        if environ["REQUEST_METHOD"] != "HEAD":
            kept.append(("Content-Length", str(len(page))))
        start_response(status, [*kept, ("Cache-Control", "no-store")])
        return [page]
