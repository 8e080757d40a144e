"""Settings from the environment, as the person who set them meant them."""

import os
import unicodedata

__all__ = ["read_setting", "take_setting", "without_frame"]

_SWAPPED_MARK = "\ufffe"
"""The mark before UTF text with its bytes exchanged."""


def without_frame(text: str) -> str:
    """Return a text without invisible characters at its beginning and end.

    Editors, `.env` files, web pages and other systems may add them: white space of every kind, control codes, marks of
    direction and of no width, and the byte order mark.
    """
    first, end = 0, len(text)
    while first < end and _is_unseen(text[first]):
        first += 1
    while end > first and _is_unseen(text[end - 1]):
        end -= 1
    return text[first:end]


def _is_unseen(character: str) -> bool:
    is_mark = unicodedata.category(character) in ("Cc", "Cf")
    return is_mark or character.isspace() or character == _SWAPPED_MARK


def read_setting(name: str) -> str | None:
    """Return the value of an environment variable without invisible characters around it; None if it is empty."""
    return without_frame(os.environ.get(name, "")) or None


def take_setting(name: str) -> str | None:
    """Return the value of an environment variable like `read_setting`, and remove the variable.

    Processes started afterwards do not inherit it.
    """
    value = read_setting(name)
    os.environ.pop(name, None)
    return value
