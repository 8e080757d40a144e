"""Chromium without a window, driven over its debugging pipe: the DevTools protocol, JSON between NUL bytes.

https://chromedevtools.github.io/devtools-protocol/; a pipe needs neither a port nor a websocket library.
"""

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Browser", "find_chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """Return the path of a Chromium; `make chromium` installs Debian's."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Browser:
    """One page in a headless browser. Use as a context manager.

    Args:
        chromium: Its program.
        profile: An empty folder for what it keeps.
    """

    def __init__(self, chromium: str, profile: Path, *, width: int = 1280, height: int = 900) -> None:
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.events: list[dict[str, Any]] = []
        """What happened in the page, as the protocol says it."""
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        command = [
            chromium, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run",
            "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
            "--disable-component-update", "--hide-scrollbars", f"--window-size={width},{height}", "about:blank",
        ]  # fmt: skip

        def give_pipes() -> None:  # the browser reads from 3 and writes to 4
            reading, writing = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_browser, from_browser))
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self._process = subprocess.Popen(
            command,
            preexec_fn=give_pipes,
            close_fds=False,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session: str | None = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self._call("Browser.close", timeout_s=5)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def open(self, url: str) -> None:
        """Go to an address."""
        self.call("Page.navigate", {"url": url})

    def evaluate(self, expression: str) -> Any:
        """Return what an expression of JavaScript gives in the page; promises are waited for."""
        about = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", about)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str, *, timeout_s: float = 60) -> Any:
        """Return what an expression gives, once that is true."""
        give_up_at = time.monotonic() + timeout_s
        while not (value := self._try(expression)):
            assert time.monotonic() < give_up_at, f"never true: {expression}\npage: {self.text()[:2000]}"
            time.sleep(0.1)
        return value

    def text(self) -> str:
        """Return what a person reads in the page."""
        return str(self._try("document.body.innerText"))

    def screenshot(self, path: Path) -> None:
        """Write what a person sees as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", {"format": "png"})["data"]))

    def call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the page answers to a command."""
        return self._call(method, params, session=self._session)

    def _try(self, expression: str) -> Any:
        """Evaluate; None while the page is being replaced by another."""
        try:
            return self.evaluate(expression)
        except AssertionError:
            return None

    def _call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        session: str | None = None,
        timeout_s: float = 60,
    ) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params or {}}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        for answer in self._messages(timeout_s):
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)
        raise AssertionError(f"no answer to {method}")

    def _messages(self, timeout_s: float) -> Iterator[dict[str, Any]]:
        give_up_at = time.monotonic() + timeout_s
        while True:
            while b"\0" in self._buffer:
                text, _, self._buffer = self._buffer.partition(b"\0")
                yield json.loads(text)
            ready, _, _ = select.select([self._from], [], [], max(0, give_up_at - time.monotonic()))
            assert ready, "the browser is silent"
            received = os.read(self._from, 1 << 16)
            assert received, "the browser has ended"
            self._buffer += received
