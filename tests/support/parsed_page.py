"""An HTML page taken apart, for tests of what a reader and a browser find in it."""

import base64
import io
from dataclasses import dataclass, field
from html.parser import HTMLParser

from PIL import Image


@dataclass
class Table:
    """A table's region and its rows, cell by cell, with white space joined."""

    label: str
    rows: list[list[str]] = field(default_factory=list)

    def row(self, head: str) -> list[str]:
        """Return the one row whose first cell begins so."""
        [found] = [row for row in self.rows if row and row[0].startswith(head)]
        return found


class ParsedPage(HTMLParser):
    """Tags with their attributes, the visible text, and the tables."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: list[Table] = []
        self._text: list[str] = []
        self._hidden = 0
        self._region = ""
        self._in_cell = False
        self.feed(page)

    @property
    def text(self) -> str:
        return " ".join("".join(self._text).split())

    def of(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of every tag of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]

    def table(self, label: str) -> Table:
        """Return the one table in the region of this label."""
        [found] = [table for table in self.tables if table.label == label]
        return found

    def pictures(self) -> list[Image.Image]:
        """Return all pictures in the page, decoded."""
        found = []
        for attributes in self.of("img"):
            kind, _, content = attributes["src"].partition(";base64,")
            assert kind.startswith("data:image/"), kind
            picture = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
            picture.load()
            found.append(picture)
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if attributes.get("role") == "region":
            self._region = attributes["aria-label"]
        if tag in ("style", "script"):
            self._hidden += 1
        elif tag == "table":
            self.tables.append(Table(self._region))
        elif tag == "tr":
            self.tables[-1].rows.append([])
        elif tag in ("td", "th"):
            self._in_cell = True
            self.tables[-1].rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("style", "script"):
            self._hidden -= 1
        elif tag in ("td", "th"):
            self._in_cell = False
            self.tables[-1].rows[-1][-1] = " ".join(self.tables[-1].rows[-1][-1].split())

    def handle_data(self, data: str) -> None:
        if self._hidden:
            return
        self._text.append(data)
        if self._in_cell:
            self.tables[-1].rows[-1][-1] += data
