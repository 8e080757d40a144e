"""Every `searcher` command that README and docs show is one that the installed searcher parses."""

import re
import shlex
from pathlib import Path

import pytest

from searcher.cli.main import _parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_INCOMPLETE = re.compile(r"\.\.\.|…|\[-")
"""Commands that leave something out for the reader to fill in."""


def _commands(page: Path) -> list[str]:
    """Return the commands of a page's indented blocks, with their continuation lines."""
    text = re.sub(r" *\\\n\s*", " ", page.read_text())
    lines = [re.sub(r"^ +([A-Z_]+=\S+ )*", "", line) for line in text.splitlines() if line.startswith("    ")]
    return [
        line
        for line in lines
        if re.match(r"(\S*/bin/)?searcher [a-z]", line) and not _INCOMPLETE.search(line)
    ]


COMMANDS = [(page, command) for page in PAGES for command in _commands(page)]


@pytest.mark.parametrize(
    ("page", "command"), COMMANDS, ids=[f"{page.stem}-{i}" for i, (page, _) in enumerate(COMMANDS)]
)
def test_a_command_is_one_that_the_parser_takes(page, command):
    words = shlex.split(re.split(r" [|>] ", command)[0], comments=True)
    if "--example" not in words:
        assert _parser().parse_args(words[1:]).run


def test_pages_have_commands():
    assert len(COMMANDS) > 60
