"""The pages' templates, in the folder of this file."""

from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from searcher.escaping import harmless

__all__ = ["templates"]


def templates() -> jinja2.Environment:
    """Return the environment of the pages' templates, which escapes every text from outside.

    Control characters, and characters that change the direction of text, are written out as on a terminal.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_written_out,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _written_out(value: Any) -> Any:
    return harmless(value) if isinstance(value, str) and not isinstance(value, Markup) else value
