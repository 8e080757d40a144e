"""Settings from the environment, as the person who set them meant them."""

import os

__all__ = ["read_setting", "take_setting", "without_frame"]

_FRAME = "\ufeff\ufffe \t\r\n\v\f\0"
"""What editors, `.env` files and other systems leave around a value: white space, and the mark before UTF text."""


def without_frame(text: str) -> str:
    """Return a value without white space and byte order marks around it."""
    return text.strip(_FRAME)


def read_setting(name: str) -> str | None:
    """Return an environment variable without white space around it; None where nothing is left of it."""
    return without_frame(os.environ.get(name, "")) or None


def take_setting(name: str) -> str | None:
    """Return the same, and remove the variable, so that no process started from here inherits it."""
    value = read_setting(name)
    os.environ.pop(name, None)
    return value
