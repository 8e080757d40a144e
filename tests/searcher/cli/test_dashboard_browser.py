"""`searcher dashboard` as a person meets it: started in a terminal, opened in a browser, ended with a signal.

With SEARCHER_SCREENSHOT=FILE the trial that is opened is one of `unet-demo` as it is shipped, and what is seen of it is
written to that file: docs/dashboard.md shows it.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import Browser, find_chromium
from new_database import new_database
from stored_study import StoredStudy
from trained_runs import folder_of

from searcher import studies
from searcher.cli.main import main
from searcher.ledger.database import Database
from searcher.training.history import read_history

SCREENSHOT = os.environ.get("SEARCHER_SCREENSHOT")
IMAGE_PX = 192 if SCREENSHOT else 64
CURVE_PX = 880
STUDY_IS_LISTED = "location.pathname == '/dashboard' && document.body.innerText.includes('1. unet-demo\\n')"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A page in Chromium."""
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("needs Chromium: make chromium, or install Debian's package chromium")
    with Browser(chromium, tmp_path / "profile", height=1200) as browser:
        yield browser


@pytest.fixture(scope="module")
def run_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a trial has left: the epochs' metrics, its three worst validation images and its learning curve."""
    if not SCREENSHOT:
        return folder_of(request.getfixturevalue("trained"), "plain")
    root = tmp_path_factory.mktemp("demo")
    assert main(["train", "--study", "unet-demo", "--storage", str(root / "demo")]) == 0
    return folder_of(root, "demo")


@pytest.fixture
def pictured_study(run_folder: Path, tmp_path: Path) -> StoredStudy:
    """`unet-demo` with a note and its known-good point as one COMPLETE trial, which carries its pictures."""
    text = (Path(studies.__file__).parent / "unet-demo.toml").read_text()
    history = read_history(run_folder / "metrics.jsonl")
    best = max(history, key=lambda line: line["object_dice"])
    with new_database(tmp_path / "searcher.db") as database:
        study = StoredStudy(database, tmp_path, text=text)
        study.ledger.enqueue(study.spec.enqueue)
        with study.lease():
            study.ledger.note_launch(
                "searcher launch --study unet-demo", num_images=12, num_training_images=12
            )
        number = study.begin()
        pictures = sorted(path.name for path in run_folder.iterdir() if path.suffix in {".jpg", ".png"})
        for name in pictures:
            shutil.copy(run_folder / name, study.folder(number))
        for line in history:
            study.ledger.report(number, int(line.pop("epoch")), line)
        study.ledger.attach(number, pictures, study.root)
        study.ledger.complete(
            number, best["object_dice"], best_epoch=history.index(best) + 1, stop_reason="epochs"
        )
    return study


def shown_buttons(browser: Browser) -> set[str]:
    """Return the icons of the buttons on a page that a person sees, without those of its menu."""
    icons = "Array.from(document.querySelectorAll('button [data-testid]'))"
    seen = browser.evaluate(f"{icons}.filter(i => i.getClientRects().length).map(i => i.dataset.testid)")
    return set(seen) - {"MenuIcon", "ChevronLeftIcon"}


@contextmanager
def started(
    folder: Path, *options: str, is_terminal: bool = False
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start the verb in a folder, its output into a pipe or into a terminal; what it printed, and its process."""
    command = [sys.executable, "-m", "searcher.cli.main", "dashboard", "--port", "0", *options]
    reading, writing = os.openpty() if is_terminal else os.pipe()
    pipes = {"stdout": writing, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=folder, env=os.environ | {"SEARCHER_DB": "searcher.db"}, **pipes)
    os.close(writing)
    printed = ""
    with os.fdopen(reading, encoding="utf-8") as output:
        try:
            while "--writable" not in printed:
                line = output.readline()
                assert line, process.communicate()[1]
                printed += line
            yield printed, process
        finally:
            process.kill()
            process.communicate()


def test_a_study_its_trial_and_its_pictures_are_seen_and_nothing_can_be_deleted(
    pictured_study, tmp_path, browser
):
    with started(tmp_path) as (printed, process):
        url = re.search(r"dashboard: (http://127\.0\.0\.1:\d+)\n", printed)[1]
        browser.open(f"{url}/dashboard")
        browser.wait_for(STUDY_IS_LISTED)
        assert shown_buttons(browser) == {"RefreshIcon"}
        assert browser.evaluate("!!document.querySelector('[data-testid=DeleteIcon]')"), (
            "it is there, and hidden"
        )
        browser.open(f"{url}/dashboard/studies/1/note")
        browser.wait_for("document.body.innerText.includes('searcher launch --study unet-demo')")
        assert shown_buttons(browser) == set()
        browser.open(f"{url}/dashboard/studies/1/trials?numbers=0")
        browser.wait_for("document.body.innerText.includes('Trial 0')")
        widths = (
            "Array.from(document.images).filter(i => i.src.includes('/artifacts/') && i.complete && i.naturalWidth)"
            ".map(i => i.naturalWidth)"
        )
        browser.wait_for(f"{widths}.length == 4")
        assert sorted(browser.evaluate(widths)) == [*[IMAGE_PX] * 3, CURVE_PX]
        assert "learning-curve.png" in browser.text()
        assert shown_buttons(browser) <= {"FilterListIcon", "FullscreenIcon"}
        assert "Upload" not in browser.text()
        if SCREENSHOT:
            browser.screenshot(Path(SCREENSHOT))
        status, reason = browser.evaluate(
            "fetch('/api/studies/1', {method: 'DELETE', headers: {'Content-Type': 'application/json'}, body: '{}'})"
            ".then(answer => answer.json().then(body => [answer.status, body.reason]))"
        )
        assert status == 403
        assert reason.startswith("this dashboard is read-only")
        browser.open(f"{url}/dashboard")
        browser.wait_for(STUDY_IS_LISTED)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 130
    with Database.open(str(tmp_path / "searcher.db")) as database:
        assert [trial.state for trial in database.trials("unet-demo")] == ["COMPLETE"]


def test_away_from_loopback_a_token_is_made_and_the_printed_link_opens_the_studies(
    pictured_study, tmp_path, browser
):
    with started(tmp_path, "--host", "0.0.0.0") as (printed, process):
        port = re.search(r"dashboard: http://.+:(\d+)\n", printed)[1]
        link = re.search(r"log in once with: http://[^/]+(/login/\S+)\n", printed)[1]
        token = re.search(r"token, .*: (\S+)\n", printed)[1]
        browser.open(f"http://127.0.0.1:{port}/dashboard")
        browser.wait_for("!!document.querySelector('input[type=password]')")
        browser.open(f"http://127.0.0.1:{port}{link}")
        browser.wait_for(STUDY_IS_LISTED)
        assert token not in browser.evaluate("document.cookie + document.documentElement.outerHTML")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert token not in process.stderr.read()


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_link_that_logs_in_is_printed_for_whoever_gave_the_token_but_into_no_log(
    pictured_study, tmp_path, is_terminal
):
    (tmp_path / "token.txt").write_text("0123456789abcdef-token\n")
    with started(tmp_path, "--token-file", "token.txt", is_terminal=is_terminal) as (printed, _):
        assert bool(re.search(r"^log in once with: http://\S+/login/\S{32}$", printed, re.M)) == is_terminal
        assert bool(re.search(r"^log in at http://127\.0\.0\.1:\d+/login$", printed, re.M)) != is_terminal
        assert ("/login/" in printed) == is_terminal
        assert "0123456789abcdef-token" not in printed
