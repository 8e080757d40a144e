"""Every command that README and docs show parses, and is run: here, by another test, or the page says why by nobody.

A comment `<!-- not run: REASON -->` above a block of a page is about the commands of the block that no test runs.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from new_database import new_database
from stored_study import StoredStudy

from searcher.cli.main import _parser, main

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_INCOMPLETE = re.compile(r"\.\.\.|…|\[-")
"""Commands that leave something out for the reader to fill in."""
_PROGRAM = re.compile(
    r"(\S*/)?(searcher|make|pip|python3?|pytest|pre-commit|docker|secrets\.sh|kubectl|ray|sbatch|ssh|tensorboard|"
    r"chromium|mv|rm|gpg|git|uv) "
)
_NOT_RUN = re.compile(r"<!-- not run: (.{10,}?) -->", re.S)

RUN_HERE = {
    "data draw",
    "data export",
    "data import",
    "data inspect",
    "doctor",
    "logs",
    "plan",
    "status",
    "studies",
}
RUN_HERE |= {"trials", "validate"}

OTHER_FOLDERS = {"BUNDLE", "corrected", "review"}
"""Which other verbs make; commands about them are run elsewhere."""

CLI = "tests/searcher/cli"
ELSEWHERE = {
    "benchmark": [f"{CLI}/test_benchmark.py"],
    "best": [f"{CLI}/test_best_plot.py", f"{CLI}/test_main.py"],
    "data import": [f"{CLI}/test_review.py"],
    "dashboard": ["tests/searcher/dashboard/test_dashboard.py", f"{CLI}/test_dashboard_browser.py"],
    "evaluate": [f"{CLI}/test_evaluate.py"],
    "export": [
        f"{CLI}/test_export.py",
        "tests/searcher/bundle/test_formats.py",
        f"{CLI}/test_own_channels.py",
    ],
    "launch": [
        *(
            "tests/chaos/test_detached.py",
            "tests/chaos/test_coarse_to_fine.py",
            "tests/chaos/test_operators.py",
        ),
        *(f"{CLI}/test_plan.py", f"{CLI}/test_data_import.py", "tests/searcher/api/test_public.py"),
    ],
    "logs": [f"{CLI}/test_logs.py", "tests/chaos/test_detached.py"],
    "metrics": [f"{CLI}/test_metrics.py"],
    "plan": [f"{CLI}/test_review.py", f"{CLI}/test_plan.py"],
    "plugins": ["tests/searcher/bundle/test_bundle_plugins.py"],
    "predict": [f"{CLI}/test_predict.py"],
    "probe": [f"{CLI}/test_probe.py", f"{CLI}/test_main.py"],
    "review": [f"{CLI}/test_review.py"],
    "stop": [f"{CLI}/test_stop.py", f"{CLI}/test_gc.py"],
    "train": ["tests/support/trained_runs.py", f"{CLI}/test_main.py"],
}
"""By verb, the files that run it. Each option that the pages show for the verb is in one of them."""

MAKE = {"check", "chaos", "packaging", "test", "install", "docs", "cases", "chromium"}
"""Targets that `.ci/run` makes, with what they depend on."""


class Command(NamedTuple):
    """A command line of a page."""

    page: Path
    text: str
    not_run: str = ""
    """Why nobody runs it; empty where the page says nothing."""

    @property
    def words(self) -> list[str]:
        return shlex.split(re.split(r" [|>] ", self.text)[0], comments=True)

    @property
    def is_searcher(self) -> bool:
        return re.match(r"(\S*/bin/)?searcher [a-z]", self.text) is not None

    @property
    def verb(self) -> str:
        """Of searcher, with the action of `data`."""
        return " ".join(self.words[1:3] if self.words[1] == "data" else self.words[1:2])

    @property
    def options(self) -> list[str]:
        return [word.partition("=")[0] for word in self.words if word.startswith("--")]


def commands_of(page: Path) -> Iterator[Command]:
    """Yield the commands of a page's indented blocks, with their continuation lines."""
    text = re.sub(r" *\\\n\s*", " ", page.read_text())
    reason = ""
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", text):
        lines = [line for line in paragraph.splitlines() if line.strip()]
        if found := _NOT_RUN.search(paragraph):
            reason = " ".join(found[1].split())
        for line in lines:
            bare = re.sub(r"^ +([A-Z_]+=\S+ )*", "", line)
            if line.startswith("    ") and _PROGRAM.match(f"{bare} ") and not _INCOMPLETE.search(bare):
                yield Command(page, bare, reason)
        if lines and not lines[0].startswith(("    ", "<!--")):
            reason = ""


COMMANDS = [command for page in PAGES for command in commands_of(page)]
OURS = [command for command in COMMANDS if command.is_searcher]


@pytest.mark.parametrize("command", OURS, ids=[f"{each.page.stem}-{i}" for i, each in enumerate(OURS)])
def test_a_command_is_one_that_the_parser_takes(command):
    if "--example" not in command.words:
        assert _parser().parse_args(command.words[1:]).run


def test_pages_have_commands():
    assert len(OURS) > 60


# ---- which are run


def runs_here(command: Command) -> bool:
    """Return whether `test_a_command_of_a_page_works` runs it."""
    is_about_other_folders = OTHER_FOLDERS.intersection(command.words) or "--follow" in command.options
    return command.is_searcher and command.verb in RUN_HERE and not is_about_other_folders


def why_not_run(command: Command, texts: dict[str, str]) -> str:
    """Return what is missing for a command to be run by a test; empty for nothing."""
    if command.not_run or runs_here(command):
        return ""
    where = f"{command.page.name}: {command.text}"
    if not command.is_searcher:
        is_made = command.words[0] == "make" and command.words[1] in MAKE
        return "" if is_made else f"{where}: nobody runs it; write <!-- not run: REASON --> above the block"
    found = "\n".join(texts[name] for name in ELSEWHERE.get(command.verb, []))
    lacking = [each for each in command.options if not re.search(_option(each), found)]
    if lacking or not re.search(rf"[\"' ]{command.verb.split()[-1]}[\"' ]", found):
        return f"{where}: no test of ELSEWHERE runs {' '.join([command.verb, *lacking])}; add one, or mark it"
    return ""


def _option(name: str) -> str:
    return rf"{name}(?![\w-])|\b{name[2:].replace('-', '_')}\b"


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {name: (ROOT / name).read_text() for names in ELSEWHERE.values() for name in names}


def test_every_command_is_run_or_its_page_says_why_not(texts):
    assert [missing for each in COMMANDS if (missing := why_not_run(each, texts))] == []


def test_a_command_that_nobody_runs_is_found(tmp_path, texts):
    page = tmp_path / "page.md"
    page.write_text(
        "Do this:\n\n    searcher evaluate a --report b\n    searcher evaluate a --no-such-option\n    make bench\n\n"
        "<!-- not run: takes a week of a GPU -->\n\n    make glas\n    python x.py\n\nThen:\n\n    python y.py\n"
        "    a = 1\n"
    )
    found = [why_not_run(each, texts).partition(": ")[2] for each in commands_of(page)]
    assert [text.partition(":")[0] for text in found if text] == [
        *("searcher evaluate a --no-such-option", "make bench", "python y.py"),
    ]


def test_the_targets_of_make_are_made_by_the_servers_run():
    makefile, run = (ROOT / "Makefile").read_text(), (ROOT / ".ci" / "run").read_text()
    needs = {name: set(rest.split()) for name, rest in re.findall(r"^([a-z]+):(.*)$", makefile, re.M)}
    made = set(re.findall(r"^make ([a-z]+)$", run, re.M))
    made |= {each for name in made for each in needs[name]} | {"cases"}
    assert made & needs.keys() >= MAKE
    assert "tests/cases" in re.findall(r"^chaos:.*?\n\n", makefile, re.M | re.S)[0], (
        "make chaos runs the cases too"
    )


# ---- run here

_PLACES = {"IMAGES", "DATA", "GLAS", "DIR", "EXPORT"}
_SMALLER = {"--images": "4", "--test-images": "2", "--size": "64"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set `glands`, the study `s` in `searcher.db`, and a study file."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SEARCHER_CACHE", str(folder / "cache"))
        patch.delenv("SEARCHER_DB", raising=False)
        words = next(each.words for each in OURS if each.verb == "data draw" and "glands" in each.words)
        assert main(_here(words)) == 0
        with new_database("searcher.db") as database:
            study = StoredStudy(database, folder)
            study.complete()
    (folder / "s").mkdir(exist_ok=True)
    return folder


def _here(words: list[str]) -> list[str]:
    """Return the words of a command, about the data set and the study of the folder."""
    found = words[1:]
    for i, word in enumerate(found):
        if word in _PLACES:
            found[i] = "imported" if found[i - 1] == "--to" else "glands"
        if i and found[i - 1] == "--db":
            found[i] = "searcher.db"
        if i and found[i - 1] == "--study":
            found[i] = "s"
        if i and found[i - 1] in _SMALLER:
            found[i] = _SMALLER[found[i - 1]]
    return found


HERE = list(dict.fromkeys(shlex.join(_here(each.words)) for each in OURS if runs_here(each)))


@pytest.mark.parametrize("command", HERE)
def test_a_command_of_a_page_works(command, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SEARCHER_CACHE", str(folder / "cache"))
    monkeypatch.delenv("SEARCHER_DB", raising=False)
    words = shlex.split(command)
    for option in ("--to", "--write"):
        if option in words and words[words.index(option) + 1] != "glands":
            path = folder / words[words.index(option) + 1]
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if words[0] == "validate" and not (folder / words[1]).exists():
        assert main(["plan", "--data", "glands", "--write", words[1]]) == 0
    if words[:2] == ["data", "draw"] and "glands" in words:
        words[words.index("glands")] = "drawn-again"
    assert main(words) == 0, capsys.readouterr().err
