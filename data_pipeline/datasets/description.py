"""`dataset.toml` next to the images, as `searcher data import` writes it: what a folder's files cannot say."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from searcher.data_pipeline.exceptions import DataError
from searcher.exceptions import TextFileError
from searcher.text_files import read_text

__all__ = ["DESCRIPTION_FILE", "Description", "read_description"]

DESCRIPTION_FILE = "dataset.toml"
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Description:
    """The content of a folder's `dataset.toml`; fields are empty where the file says nothing."""

    name: str = ""
    """Short name for people."""
    licence: str = ""
    """What may be done with the images."""
    channels: tuple[str, ...] = ()
    """Names of the images' channels."""
    classes: tuple[str, ...] = ()
    """Names of the objects' classes."""
    not_annotated: int | None = None
    """Number that label maps have where nothing is annotated, in addition to -1; None where there is no such number."""


def read_description(root: Path) -> Description:
    """Return the content of `dataset.toml` in a folder; empty without that file. Unknown keys are ignored.

    Raises:
        DataError: The file cannot be read, is not TOML, or a key has a value of the wrong type.
    """
    path = root / DESCRIPTION_FILE
    if not path.is_file():
        return Description()
    try:
        text = read_text(path, what="TOML", max_bytes=_MAX_BYTES)
        values: dict[str, Any] = tomllib.loads(text)
    except TextFileError as error:
        raise DataError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: must be TOML, got {' '.join(str(error).split())[:120]}; correct it, or remove it"
        ) from error
    for key in ("name", "licence"):
        if not isinstance(values.get(key, ""), str):
            raise DataError(f"{path}: {key} must be a text, got {values[key]!r:.60}; correct it")
    for key in ("channels", "classes"):
        names = values.get(key, [])
        if not isinstance(names, list) or not all(isinstance(each, str) and each for each in names):
            raise DataError(f"{path}: {key} must be a list of names, got {names!r:.60}; correct it")
    value = values.get("not_annotated")
    if value is not None and (type(value) is not int or not -1 <= value < 2**31 or value == 0):
        raise DataError(
            f"{path}: not_annotated must be the number of pixels that are not annotated, a whole one but 0, got "
            f"{value!r:.60}; correct it"
        )
    channels, classes = (tuple(values.get(key, ())) for key in ("channels", "classes"))
    return Description(values.get("name", ""), values.get("licence", ""), channels, classes, value)
