"""The page that lists the decisions, from their files."""

import re
from pathlib import Path

from markdown_tables import table

FOLDER = Path(__file__).resolve().parents[1] / "decisions"

_INTRODUCTION = """# Decisions

A decision explains a choice that a reader of the code would wonder about, and what was not chosen.
"""


def page() -> str:
    """Return the page."""
    rows = []
    for path in sorted(FOLDER.glob("0*.md")):
        title, _, rest = path.read_text().partition("\n")
        found = re.match(r"\s*(\d+ \w+ \d{4})\. ([^.]+)\.", rest)
        assert found, f"{path}: the line below the title must be '24 November 2026. Accepted.'"
        number, _, name = title.removeprefix("# ").partition(" ")
        rows.append([number, f"[{name}]({path.name})", found.group(1), found.group(2)])
    return _INTRODUCTION + "\n" + table(["number", "decision", "date", "status"], rows) + "\n"
