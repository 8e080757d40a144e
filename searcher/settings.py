"""Settings from the environment, as the person who set them meant them."""

import os
import unicodedata

__all__ = ["read_setting", "take_setting", "without_frame"]

_SWAPPED_MARK = "\ufffe"
"""The mark before UTF text with its bytes exchanged."""


def without_frame(text: str) -> str:
    """Return a value without what nobody sees around it.

    Editors, `.env` files, web pages and other systems leave it there: white space of every kind, control codes, marks
    of direction and of no width, and the mark before UTF text.
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
    """Return an environment variable without white space around it; None where nothing is left of it."""
    return without_frame(os.environ.get(name, "")) or None


def take_setting(name: str) -> str | None:
    """Return the same, and remove the variable, so that no process started from here inherits it."""
    value = read_setting(name)
    os.environ.pop(name, None)
    return value
