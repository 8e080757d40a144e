"""`predictions.csv`: one row for each image in a folder of outputs, whoever edited the table in between.

It is always written in one form: UTF-8, commas, our columns first. It is read in the form that a spreadsheet left:
a byte order mark, UTF-16 or Windows' Western encoding; commas, semicolons or tabs; columns in any order, and more of
them, which are kept. A file that is no such table is moved aside, never replaced.
"""

import codecs
import csv
import io
import os
import re
import time
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from searcher.escaping import csv_cell, csv_text
from searcher.exceptions import UserError

__all__ = ["SUMMARY", "PredictionsTable", "read_table", "row_key"]

SUMMARY = "predictions.csv"
"""Name of the table in the folder of outputs."""
COLUMNS = ("image", "height", "width", "pixel_size_um", "objects", "area_px", "area_um2", "seconds")
_OF_CLASSES = ("objects", "area_px", "area_um2")
"""For each class a column of each: `objects_NAME`, and so on."""
_WRITTEN_EVERY_S = 5.0
"""The table is written as a whole, so with many images not after each."""
_MAX_BYTES = 1 << 28
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?")

Row = Mapping[str, object]


class ReadTable(NamedTuple):
    """The content of a table of images that was read from a file."""

    rows: dict[str, Row]
    """By `row_key` of the image's name."""
    more_columns: tuple[str, ...] = ()
    """Those that are none of ours, in their order."""
    problem: str | None = None
    """Why there are no rows; None where all of the file was understood."""


def row_key(name: str) -> str:
    """Return the key of an image's row in `ReadTable.rows`: the file's name in a form that is the same everywhere.

    The key is the name in composed letters (NFC), with an escape for each byte that is no Unicode.

    Args:
        name: Name of the image's file, without folders.
    """
    return unicodedata.normalize("NFC", name).encode("utf-8", "backslashreplace").decode()


def read_table(path: Path) -> ReadTable:
    """Return the rows of a table of images; none if there is no such file.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        if not os.path.lexists(path):
            return ReadTable({})
        if not path.is_file():
            return ReadTable({}, problem="no file")
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UserError(
            f"{path}: must be readable, since its rows are kept: {error.strerror or error}; change its mode, or "
            "move it away"
        ) from error
    if len(content) > _MAX_BYTES:
        return ReadTable({}, problem=f"more than {_MAX_BYTES >> 20} MiB")
    return _parsed(content)


def _parsed(content: bytes) -> ReadTable:
    text = _decoded(content)
    if text is None or "\0" in text:
        return ReadTable({}, problem="no text")
    if not text.strip():
        return ReadTable({})
    separator, lines = _separator(text)
    try:
        table = list(csv.reader(io.StringIO(lines, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        return ReadTable({}, problem=str(error))
    head, *body = [[cell.strip() for cell in table[0]], *(row for row in table[1:] if any(row))]
    while head and not head[-1]:  # a spreadsheet's empty columns
        head.pop()
    if "image" not in head or len(set(head)) < len(head):
        return ReadTable({}, problem="no line with the columns' names, image among them")
    rows: dict[str, Row] = {}
    for number, cells in enumerate(body, start=2):
        if any(cells[len(head) :]):
            return ReadTable({}, problem=f"more cells than columns in row {number}")
        row = {name: _cell(cell, separator) for name, cell in zip(head, cells, strict=False)}
        if not row.get("image"):
            return ReadTable({}, problem=f"no image's name in row {number}")
        rows[row_key(row["image"])] = row
    return ReadTable(rows, tuple(name for name in head if name not in COLUMNS))


def _decoded(content: bytes) -> str | None:
    try:
        return content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError:
        pass
    try:
        return content.decode("cp1252")  # what spreadsheets of Western Windows save
    except UnicodeDecodeError:
        return None


def _separator(text: str) -> tuple[str, str]:
    """Return what separates cells, and the text from the line with the columns' names on."""
    first, _, rest = text.partition("\n")
    said = re.fullmatch(r'"?sep=(.)"?\s*', first)  # Excel's own line
    if said:
        return said[1], rest
    return max(",;\t", key=first.count), text


def _cell(cell: str, separator: str) -> str:
    text = csv_text(cell)
    is_number = separator != "," and _DECIMAL_COMMA.fullmatch(text) is not None
    return text.replace(",", ".") if is_number else text


class PredictionsTable:
    """The table of images in a folder of outputs. Rows of images that are not predicted now stay.

    Args:
        path: The file. No other process may write it meanwhile.
        todo: Names of the images to predict now. Their old rows are removed at once, since their outputs are replaced.
        class_names: Names of the classes that the networks distinguish; each has columns of its own.

    Raises:
        UserError: The file could not be read or written.
    """

    def __init__(self, path: Path, todo: Sequence[str], class_names: Sequence[str] = ()) -> None:
        self._path = path
        before = read_table(path)
        self.moved = None if before.problem is None else (_moved_aside(path), before.problem)
        """Where a file went that is no such table, and why it is none."""
        now = {row_key(name) for name in todo}
        own = (*COLUMNS, *(f"{figure}_{name}" for name in class_names for figure in _OF_CLASSES))
        self._columns = (*own, *(name for name in before.more_columns if name not in own))
        self._rows = {name: row for name, row in before.rows.items() if name not in now}
        self._is_written = True
        if len(self._rows) < len(before.rows):
            self.write()
        self._written_at = time.monotonic()

    def add(self, name: str, row: Row) -> None:
        """Add the row of an image. The table is written now and then, so that a kill loses few rows.

        Args:
            name: Name of the image's file.
            row: Values by column; unknown columns are ignored.
        """
        of_classes = row.get("classes")
        flat = {
            f"{figure}_{each}": value
            for each, figures in (of_classes.items() if isinstance(of_classes, Mapping) else ())
            for figure, value in figures.items()
        }
        self._rows[row_key(name)] = {**row, **flat, "image": name}
        self._is_written = False
        if time.monotonic() - self._written_at >= _WRITTEN_EVERY_S:
            self.write()

    def close(self) -> None:
        """Write the rows that are not written yet."""
        if not self._is_written:
            self.write()

    def write(self) -> None:
        """Write the whole table to its file, atomically."""
        from searcher.api.writing import write_text

        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, extrasaction="ignore")
        writer.writeheader()
        for name in sorted(self._rows):
            row = self._rows[name]
            writer.writerow(
                {key: csv_cell(value) if isinstance(value, str) else value for key, value in row.items()}
            )
        write_text("--to", self._path, text.getvalue())
        self._is_written = True
        self._written_at = time.monotonic()


def _moved_aside(path: Path) -> Path:
    """Give a file another name, one that nothing has, and return that."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.kept-{number}")):
        number += 1
    try:
        path.rename(aside)
    except OSError as error:
        raise UserError(
            f"{path}: must be moved aside, but could not be: {error.strerror or error}"
        ) from error
    return aside
