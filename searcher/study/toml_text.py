"""TOML, read and written: what a study file or the command line can hold, within bounds that keep reading it quick."""

import datetime
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

__all__ = ["TomlError", "read_toml", "shown", "toml_value"]

_MAX_DEPTH = 32
"""Of tables and lists within one another; of the parts of a dotted key. A study file needs five."""
_MAX_INTEGER = 2**63 - 1
_MAX_SHOWN_CHARS = 120
_MAX_PROBLEMS = 30
_OPENING = re.compile(r"\"\"\"|\'\'\'|\"|\'|#")
_UP_TO_CLOSING = {
    '"""': re.compile(r'(?:[^"\\]|\\.|"(?!""))*+"""', re.DOTALL),
    "'''": re.compile(r"(?:[^']|'(?!''))*+'''"),
    '"': re.compile(r'(?:[^"\\\n]|\\.)*+"'),
    "'": re.compile(r"[^'\n]*+'"),
    "#": re.compile(r"[^\n]*+"),
}
_BETWEEN_KEYS = re.compile(r"[\n,=\[\]{}]")


class TomlError(ValueError):
    """A text is not TOML, or contains more than a study file can sensibly contain.

    Args:
        problems: The problems, each with key (if there is one), rule and value.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_toml(text: str) -> dict[str, Any]:
    """Return the tables in a TOML text; values are finite numbers, texts, truth values, lists and tables.

    Raises:
        TomlError: The text is not TOML, or contains other values.
    """
    _check_shape(text)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TomlError(f"must be valid TOML: {error}") from None
    except ValueError:  # Python's own limit for the digits of an integer
        raise TomlError("must be valid TOML: got an integer of thousands of digits") from None
    except RecursionError:
        raise TomlError("must be valid TOML: got tables within tables, too deep to read") from None
    problems = (
        f"{key}: {rule}, got {shown(value)}"
        for key, value in _leaves(document, "")
        if (rule := _broken_rule(value)) is not None
    )
    if some := [*islice(problems, _MAX_PROBLEMS)]:
        raise TomlError(*some)
    return document


def shown(value: object) -> str:
    """Return a value as text for messages: as in Python, dates as in TOML, cut off if it is long."""
    try:
        text = value.isoformat() if isinstance(value, datetime.date | datetime.time) else repr(value)
    except (RecursionError, ValueError):
        text = f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[: _MAX_SHOWN_CHARS - 3]}..."


def toml_value(value: Any) -> str:
    """Return a value as TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {toml_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(each) for each in value) + "]"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text.replace("e-0", "e-").replace("e+0", "e+") if isinstance(value, float) else text


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _quoted(key)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check_shape(text: str) -> None:
    """Refuse what tomllib takes memory or time without bound for: it copies each key for each of its parts."""
    bare = "".join(_without_strings(text))
    depth = 0
    for character in bare:
        depth += (character in "[{") - (character in "]}")
        if depth > _MAX_DEPTH:
            raise TomlError(f"must have at most {_MAX_DEPTH} tables or lists within one another, got more")
    # Without its strings a key has as many dots as before; a number, one.
    num_dots = max(part.count(".") for part in _BETWEEN_KEYS.split(bare.replace(" ", "").replace("\t", "")))
    if num_dots >= _MAX_DEPTH:
        raise TomlError(f"must have keys of at most {_MAX_DEPTH} parts, got one of {num_dots + 1}")


def _without_strings(text: str) -> Iterator[str]:
    """Yield what of a text is neither in quotes nor a comment, up to where quotes are not closed."""
    at = 0
    while opening := _OPENING.search(text, at):
        yield text[at : opening.start()]
        closed = _UP_TO_CLOSING[opening[0]].match(text, opening.end())
        if closed is None:
            return
        at = closed.end()
    yield text[at:]


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield every value that is no table and no list, with its dotted key."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _leaves(each, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each, key)
    else:
        yield key, value


def _broken_rule(value: Any) -> str | None:
    """Return the rule that a plain value breaks, None if none."""
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    if isinstance(value, int) and abs(value) > _MAX_INTEGER:
        return "must be an integer of at most 64 bits"
    if isinstance(value, datetime.date | datetime.time):
        return "must be a number, a text (in quotes), true or false, not a date"
    return None
