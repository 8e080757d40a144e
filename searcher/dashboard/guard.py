"""The guard of Optuna dashboard, whose API can delete studies and has no users."""

import json
import logging
from collections.abc import Callable, Iterable
from html import escape
from typing import Any
from urllib.parse import parse_qs, urlsplit

from searcher.dashboard.access import Access

__all__ = ["RequestGuard", "WsgiApp"]

logger = logging.getLogger(__name__)

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_READING = ("GET", "HEAD")
"""In Optuna dashboard 0.21 nothing else is needed to look at a study, and no GET changes anything."""
_MAX_FORM_BYTES = 4096
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>searcher dashboard</title>{head}
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:15vh auto;padding:0 1rem}}</style>
<h1>searcher dashboard</h1>{body}</html>"""
_FORM = """{problem}<form method="post" action="/login"><label>Token <input name="token" type="password" required
autofocus autocomplete="current-password"></label> <button>Log in</button></form>
<p>The terminal in which <code>searcher dashboard</code> was started says where it comes from.</p>"""
_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Referrer-Policy", "no-referrer"),
)


class RequestGuard:
    """A WSGI application in front of Optuna dashboard that refuses requests which are not allowed.

    It checks, in this order: the request names an allowed host (against DNS rebinding), has the token or a session, and
    only reads, unless writing is allowed. A request that writes must come from the dashboard's own pages or from no
    page.

    Args:
        app: Optuna dashboard's WSGI application.
        writable: Whether requests may write.
        access: The token; None to allow everybody who can reach the port.
        hosts: Allowed values of the header `Host`, without port; None for any, if a token is required.
        port: Port of the server, for the cookie's name, because cookies do not distinguish ports.
    """

    def __init__(
        self,
        app: WsgiApp,
        *,
        writable: bool,
        access: Access | None,
        hosts: frozenset[str] | None,
        port: int,
    ) -> None:
        assert access is not None or hosts is not None
        self._app = app
        self._writable = writable
        self._access = access
        self._hosts = hosts
        self._cookie_name = f"searcher-{port}"

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, or let the dashboard do so."""

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            # Pictures are sent "for everybody": any page in the same browser could then read them.
            kept = [(name, value) for name, value in headers if name.lower() != "access-control-allow-origin"]
            names = {name.lower() for name, _ in kept}
            kept += [(name, value) for name, value in _HEADERS if name.lower() not in names]
            if str(environ.get("PATH_INFO", "")).startswith("/artifacts/"):
                kept.append(("Content-Security-Policy", "sandbox"))  # an uploaded page runs nothing here
            return start_response(status, kept, *more)

        refused = self._refusal(environ, start)
        return self._app(environ, start) if refused is None else refused

    def _refusal(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes] | None:
        """Answer a request that must not reach the dashboard; None lets it pass."""
        method, path = str(environ["REQUEST_METHOD"]), str(environ.get("PATH_INFO", ""))
        answer = _Answer(environ, start_response)
        if self._hosts is not None and _host_name(environ.get("HTTP_HOST", "")) not in self._hosts:
            return answer.refuse(
                "403 Forbidden",
                f"the address must name this machine as {' or '.join(sorted(self._hosts))}; open it as it was printed",
            )
        if self._access is not None:
            if path == "/login" or path.startswith("/login/"):
                return self._login(self._access, environ, answer)
            if not self._access.admits(
                authorization=environ.get("HTTP_AUTHORIZATION", ""),
                cookies=environ.get("HTTP_COOKIE", ""),
                cookie_name=self._cookie_name,
            ):
                if method == "GET" and "text/html" in environ.get("HTTP_ACCEPT", ""):
                    return answer.send("303 See Other", "", ("Location", "/login"))
                return answer.refuse(
                    "401 Unauthorized",
                    "needs the token, as `Authorization: Bearer TOKEN` or by logging in at /login",
                    ("WWW-Authenticate", "Bearer"),
                )
        if method in _READING:
            return None
        if not self._writable:
            return answer.refuse(
                "403 Forbidden",
                "this dashboard is read-only; to change or delete studies, start it with searcher dashboard --writable",
            )
        if not _is_own_page(environ):
            return answer.refuse("403 Forbidden", "another site's page must not write here")
        return None

    def _login(self, access: Access, environ: dict[str, Any], answer: "_Answer") -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], str(environ["PATH_INFO"])
        problem = ""
        if method == "POST" and path == "/login":
            if access.is_token(_form_token(environ)):
                return self._welcome(access, answer)
            problem = "<p><strong>That is not the token.</strong></p>"
        elif method == "GET" and path != "/login":
            if access.use_login_code(path.removeprefix("/login/")):
                return self._welcome(access, answer)
            problem = "<p><strong>This link was used before; show the token itself.</strong></p>"
        elif method not in _READING:
            return answer.refuse("405 Method Not Allowed", "to log in, send the form")
        status = "403 Forbidden" if problem else "200 OK"
        return answer.send(status, _PAGE.format(head="", body=_FORM.format(problem=problem)))

    def _welcome(self, access: Access, answer: "_Answer") -> Iterable[bytes]:
        """Give the browser its session and send it on.

        It answers with a page and not with a redirection. With a redirection, a link in another page would lose the
        cookie.
        """
        cookie = f"{self._cookie_name}={access.begin_session()}; HttpOnly; SameSite=Strict; Path=/"
        head = '<meta http-equiv="refresh" content="0; url=/dashboard">'
        body = '<p>Logged in: <a href="/dashboard">to the studies</a>.</p>'
        return answer.send("200 OK", _PAGE.format(head=head, body=body), ("Set-Cookie", cookie))


class _Answer:
    """Writes an answer of the guard's own."""

    def __init__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> None:
        self._environ = environ
        self._start_response = start_response

    def send(
        self, status: str, text: str, *headers: tuple[str, str], kind: str = "text/html; charset=utf-8"
    ) -> list[bytes]:
        body = text.encode()
        policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"
        self._start_response(
            status,
            [
                ("Content-Type", kind),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                ("Content-Security-Policy", policy),
                *headers,
            ],
        )
        return [] if self._environ["REQUEST_METHOD"] == "HEAD" else [body]

    def refuse(self, status: str, why: str, *headers: tuple[str, str]) -> list[bytes]:
        """Refuse the request with a reason: for a program as JSON like the dashboard's API, otherwise as a page."""
        path = str(self._environ.get("PATH_INFO", ""))
        logger.info("refused: %s %r: %s", self._environ["REQUEST_METHOD"], path, why)
        if path.startswith("/api/"):
            return self.send(status, json.dumps({"reason": why}), *headers, kind="application/json")
        return self.send(status, _PAGE.format(head="", body=f"<p>{escape(why)}</p>"), *headers)


def _host_name(host: str) -> str:
    """Return the host of a header `Host`, without port, in lower case; empty if it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_own_page(environ: dict[str, Any]) -> bool:
    """Return whether a request comes from a page of this server, or from a program that is no browser."""
    site = environ.get("HTTP_SEC_FETCH_SITE", "none")
    origin = environ.get("HTTP_ORIGIN")
    own = environ.get("HTTP_HOST", "")
    return site in ("same-origin", "none") and (origin is None or urlsplit(origin).netloc == own)


def _form_token(environ: dict[str, Any]) -> str:
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return ""
    if not 0 < length <= _MAX_FORM_BYTES:
        return ""
    form = parse_qs(environ["wsgi.input"].read(length).decode(errors="replace"))
    return str(form.get("token", [""])[0])
