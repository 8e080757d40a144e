"""JSON and XML that other programs wrote, read so that no file can fill the memory or run anything."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, NoReturn

from searcher.data_pipeline.exceptions import DataError

__all__ = ["MAX_BYTES", "read_json", "read_xml", "starts_with"]

MAX_BYTES = 2**30
"""Largest file that is read."""
_MAX_DEPTH = 100
"""No format here nests deeper than 10."""


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        DataError: The file is unreadable, larger than 1 GiB, cut off, or not JSON.
    """
    text = _bytes(path)
    try:
        return json.loads(text.decode("utf-8-sig"))
    except RecursionError:
        raise DataError(f"{path}: JSON must not nest that deep; export the annotations again") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: must be text in UTF-8, got {error.reason}; export it again") from None
    except ValueError as error:
        raise DataError(f"{path}: must be complete JSON, got {_short(error)}; export it again") from None


def read_xml(path: Path) -> ElementTree.Element:
    """Return the root element of an XML file.

    Raises:
        DataError: The file is unreadable, larger than 1 GiB, cut off, nested too deep, or not XML. Or it has a document
            type definition, which can expand without end or name other files.
    """
    text = _bytes(path)
    parser = ElementTree.XMLParser(target=_Builder(path))
    try:
        parser.feed(text)
        root: ElementTree.Element = parser.close()
    except DataError:
        raise
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: must be complete XML, got {_short(error)}; export it again") from None
    except (ValueError, LookupError) as error:
        raise DataError(
            f"{path}: must be XML of a known encoding, got {_short(error)}; export it again"
        ) from None
    return root


def starts_with(path: Path, num_bytes: int = 4096) -> bytes:
    """Return the first bytes of a file, without byte order mark and leading blanks; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(num_bytes).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return b""


class _Builder(ElementTree.TreeBuilder):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._depth = 0

    def doctype(self, _name: str, _public: str | None, _system: str | None) -> NoReturn:
        raise DataError(
            f"{self._path}: must be XML without a document type definition, got one; remove the line <!DOCTYPE ..>"
        )

    def start(self, tag: Any, attributes: Any, /) -> ElementTree.Element:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise DataError(
                f"{self._path}: XML must nest at most {_MAX_DEPTH} deep, got more; export the annotations again"
            )
        return super().start(tag, attributes)

    def end(self, tag: str, /) -> ElementTree.Element:
        self._depth -= 1
        return super().end(tag)


def _bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise DataError(f"{path}: must be a file, got something else; check the path")
        if (num_bytes := path.stat().st_size) > MAX_BYTES:
            raise DataError(
                f"{path}: must have at most 1 GiB, got {num_bytes / 2**30:.1f}; export fewer images to a file"
            )
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the file must be readable, got {error.strerror}; restore it") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
