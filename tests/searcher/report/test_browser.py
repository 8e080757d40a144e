"""Both pages in a real browser: no complaint in the console, and nothing is asked of the network."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pictured_study import SEVERAL

from searcher.report.html import render
from searcher.report.study_page import study_page

_BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_ITS_OWN = re.compile(r"(^|\.)(google|googleapis|gvt1|gstatic)\.com$")
"""Where the browser itself looks for updates. Here no name has an address, so nothing leaves the machine."""

pytestmark = pytest.mark.skipif(_BROWSER is None, reason="needs Chromium")


def opened(page: str, folder: Path) -> tuple[list[str], set[str], str]:
    """Open a page; return what its console says, the hosts that it asks for, and the page after its scripts."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    assert _BROWSER is not None
    done = subprocess.run(
        [
            _BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}",
            "--enable-logging=stderr", f"--log-net-log={folder / 'net.json'}",
            "--dump-dom", (folder / "page.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    console = re.findall(r"CONSOLE[^\"]*\"(.*?)\", source", done.stderr)
    events = json.loads((folder / "net.json").read_text())["events"]
    urls = [
        params["url"] for each in events if isinstance(params := each.get("params"), dict) and "url" in params
    ]
    hosts = {host for url in urls if (host := urlsplit(url).hostname) and not _ITS_OWN.search(host)}
    return console, hosts, done.stdout


def test_the_report_asks_nothing_and_says_nothing(make_report, tmp_path):
    console, hosts, dom = opened(render(make_report()), tmp_path)
    assert (console, hosts) == ([], set())
    assert "The official figures" in dom


def test_the_studys_page_draws_itself_and_asks_nothing(tmp_path):
    console, hosts, dom = opened(study_page(SEVERAL), tmp_path)
    assert (console, hosts) == ([], set())
    assert dom.count('class="main-svg"') >= 5, "each of the five pictures was drawn"


def test_a_page_that_does_either_would_be_found(tmp_path):
    page = '<img src="http://example.invalid/x.png"><script>console.error("oh")</script>'
    console, hosts, _ = opened(page, tmp_path)
    assert (console, hosts) == (["oh"], {"example.invalid"})
