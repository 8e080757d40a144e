"""The page of the studies that come with the package, from their files."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_INTRODUCTION = """# Studies of the package

`searcher studies` lists these studies; `searcher launch --study NAME` runs one. Copy a file to make your own study.
[Choose a study](../how-to/choose-a-study.md) says which one fits your images.
"""


def page() -> str:
    """Return the page."""
    return "\n\n".join([_INTRODUCTION, *_files()])


def _files() -> Iterator[str]:
    for path in sorted((ROOT / "studies").glob("*.toml")):
        yield f"## {path.stem}"
        yield f"```toml\n{path.read_text().strip()}\n```"
