"""JSON as its standard has it, for files and pipes that other programs read."""

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["json_text"]


def json_text(value: Any) -> str:
    """Return a value as indented JSON in ASCII, with a line break at the end.

    NaN and infinity, which JSON does not have, become null. Values without a JSON form, such as paths, become texts.
    """
    return json.dumps(_finite(value), indent=2, default=str, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_key(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def _key(key: Any) -> str | int | None:
    return key if isinstance(key, str | int | None) else str(key)
