"""The pages' templates, which lie beside this file."""

from pathlib import Path

import jinja2

__all__ = ["templates"]


def templates() -> jinja2.Environment:
    """Return the templates. Every text is escaped: names come from study files, folders and image files."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
