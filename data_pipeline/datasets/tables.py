"""Tables next to the images: `samples.csv` of any lab, and GlaS's `Grade.csv`. People edit both in spreadsheets.

| column of `samples.csv` | meaning |
|---|---|
| `id` | the image's name without its suffix; with it is fine too |
| `patient` | whose image it is; all images of a patient are trained on, or validated on |
| `split` | any word; `train` is trained on, `val` is validated on |
| `stratum` | what splits balance, such as the grade |
| `pixel_size_um` | side of a pixel in micrometres |

Any of the last four may be missing. Commas, semicolons and tabs separate; heads may be in capitals; a byte order mark,
blanks around cells and CRLF are fine.
"""

import csv
import io
import logging
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import same_name
from searcher.exceptions import TextFileError
from searcher.text_files import read_text

__all__ = ["GRADES_FILE", "SAMPLES_FILE", "SampleRow", "read_grades", "read_samples", "read_table"]

logger = logging.getLogger(__name__)

SAMPLES_FILE = "samples.csv"
GRADES_FILE = "Grade.csv"
_COLUMNS = ("patient", "split", "stratum", "pixel_size_um")
_ID, _PATIENT, _GRADE = "name", "patient id", "grade (glas)"
_SHOWN = 5
_MAX_BYTES = 1 << 28
"""Of the rows of a million images."""

_Rows = list[tuple[int, list[str]]]
"""A table's rows, each with the number of its line."""
_Row = TypeVar("_Row")


@dataclass(frozen=True)
class SampleRow:
    """One image's row of `samples.csv`; a field is None if its column is missing or its cell is empty."""

    patient: str | None = None
    split: str | None = None
    stratum: str | None = None
    pixel_size_um: float | None = None


def read_samples(root: Path, ids: Collection[str]) -> tuple[dict[str, SampleRow] | None, list[str]]:
    """Return the rows of `samples.csv` as {image: row}, and its problems, one line each.

    Without the file, the rows are None.

    Args:
        root: Folder that may hold `samples.csv`.
        ids: Names of the images in the data set.
    """
    return _taken(root / SAMPLES_FILE, partial(_sample_rows, ids=ids))


def read_grades(root: Path) -> tuple[dict[str, tuple[str, str]] | None, list[str]]:
    """Return the rows of `Grade.csv` as {image: (patient, grade)}, and its problems, one line each.

    Without the file, the rows are None.

    Args:
        root: Folder that may hold `Grade.csv`.
    """
    return _taken(root / GRADES_FILE, _grade_rows)


def read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a CSV file in small letters, and its rows, each with its line number.

    Empty rows are left out. The separator may be a comma, a semicolon or a tab.

    Raises:
        DataError: The file cannot be read, is larger than 256 MiB, or is no table in UTF-8.
    """
    try:
        text = read_text(path, what="CSV", max_bytes=_MAX_BYTES)
        first = text.lstrip("\r\n").partition("\n")[0]
        separator = max(",;\t", key=first.count)
        reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True, strict=True)
        # In one form: a patient or a split whose letters are composed in one row only would be two of them.
        rows = [(reader.line_num, [same_name(cell.strip()) for cell in row]) for row in reader]
    except TextFileError as error:
        raise DataError(str(error)) from error
    except csv.Error as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: the file must be readable as CSV in UTF-8, got {reason}; save it again as CSV UTF-8"
        ) from error
    rows = [(line, cells) for line, cells in rows if any(cells)]
    header = [cell.lower() for cell in rows[0][1]] if rows else []
    while header and not header[-1]:  # separators at the end of every line
        header.pop()
    return header, rows[1:]


def _taken(
    path: Path, take: Callable[[Path, list[str], _Rows], tuple[dict[str, _Row], list[str]]]
) -> tuple[dict[str, _Row] | None, list[str]]:
    """Return what `take` makes of a table's head and rows, None without the file; and the file's problems."""
    if not path.exists():
        return None, []
    try:
        header, rows = read_table(path)
    except DataError as error:
        return {}, list(error.problems)
    return take(path, header, rows)


def _sample_rows(
    path: Path, header: list[str], rows: _Rows, ids: Collection[str]
) -> tuple[dict[str, SampleRow], list[str]]:
    known = [column for column in header if column in _COLUMNS]
    if "id" not in header or not known or len(set(header)) < len(header):
        return {}, [
            f"{path}: the head must have id and any of {', '.join(_COLUMNS)}, each once, got "
            f"{', '.join(header) or 'nothing'}; correct its first line"
        ]
    others = [column for column in header if column not in (*_COLUMNS, "id")]
    if others:
        logger.warning("%s: columns that are not used: %s", path, ", ".join(others))
    return _rows_of(path, header, rows, ids)


def _grade_rows(path: Path, header: list[str], rows: _Rows) -> tuple[dict[str, tuple[str, str]], list[str]]:
    missing = [column for column in (_ID, _PATIENT) if column not in header]
    if missing:
        got = ", ".join(header) or "nothing"
        return {}, [f"{path}: the columns 'name' and 'patient ID' are needed, got {got}; restore the header"]
    return _patients_of(path, header, rows)


def _rows_of(
    path: Path, header: list[str], rows: list[tuple[int, list[str]]], ids: Collection[str]
) -> tuple[dict[str, SampleRow], list[str]]:
    by_name = {same_name(each): each for each in ids}
    found: dict[str, SampleRow] = {}
    problems: list[str] = []
    unknown: list[str] = []
    for line, row in rows:
        if len(row) < len(header) or any(row[len(header) :]):
            problems.append(
                f"{path}: line {line}: a row must have {len(header)} cells, got {len(row)}; correct it"
            )
            continue
        cells = dict(zip(header, row, strict=False))
        name = by_name.get(same_name(cells["id"])) or by_name.get(same_name(Path(cells["id"]).stem))
        if name is None:
            unknown.append(cells["id"] or "an empty cell")
        elif name in found:
            problems.append(
                f"{path}: line {line}: an image must have one row, got a second one for {name}; keep one"
            )
        else:
            try:
                found[name] = _row(cells)
            except ValueError as error:
                problems.append(f"{path}: line {line}: {error}; correct it")
                found[name] = SampleRow()
    if unknown:
        problems.append(
            f"{path}: every id must be an image's name, got {_listed(unknown)}; correct or remove the row"
        )
    without = sorted(set(ids) - found.keys())
    if without and not problems:
        problems.append(f"{path}: every image needs a row, got none for {_listed(without)}; add it")
    return found, problems


def _row(cells: Mapping[str, str]) -> SampleRow:
    """Return a row's values.

    Raises:
        ValueError: A value is none; the message says the rule and the value.
    """
    if "patient" in cells and not cells["patient"]:
        raise ValueError(f"every image needs a patient where the column is there, got none for {cells['id']}")
    split = cells.get("split") or None
    if split is not None and ("," in split or not split.isprintable()):
        raise ValueError(f"split must be a word, got {split!r}")
    text = cells.get("pixel_size_um", "")
    return SampleRow(
        patient=cells.get("patient"), split=split, stratum=cells.get("stratum"), pixel_size_um=_size(text)
    )


def _size(text: str) -> float | None:
    if not text:
        return None
    try:
        size = float(text.replace(",", "."))  # a spreadsheet of most of Europe has decimal commas
    except ValueError:
        size = math.nan
    if not 0 < size < math.inf:
        raise ValueError(f"pixel_size_um must be a number of micrometres above 0, got {text}")
    return size


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f", .. ({len(names)} of them)" if len(names) > _SHOWN else "")


def _patients_of(
    path: Path, header: list[str], rows: list[tuple[int, list[str]]]
) -> tuple[dict[str, tuple[str, str]], list[str]]:
    patients: dict[str, tuple[str, str]] = {}
    problems: list[str] = []
    for _, row in rows:
        cells = dict(zip(header, row, strict=False))
        name, patient, grade = cells.get(_ID, ""), cells.get(_PATIENT, ""), cells.get(_GRADE, "")
        if not patient:
            problems.append(f"{path}: every row needs a patient ID, got none for {name}; add it")
        elif patients.setdefault(name, (patient, grade)) != (patient, grade):
            problems.append(
                f"{path}: an image has one patient and grade, got {patients[name]} and {(patient, grade)} "
                f"for {name}; keep one row"
            )
    return patients, problems
