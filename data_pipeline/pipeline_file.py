"""albumentations pipelines as text: what `albumentations.save` writes, read without running anything in it.

The content is a tree of names and plain values. Its canonical form, JSON with sorted keys, is what a configuration
holds, so that equal pipelines have equal digests. Imports no albumentations, whose import takes seconds.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from searcher.data_pipeline.exceptions import DataError

__all__ = ["MAX_PIPELINE", "is_content", "pipeline_text", "read_pipeline", "transforms_in"]

MAX_PIPELINE = 200_000
"""Signs of a pipeline's canonical form."""
_MAX_VALUES = 10_000
_MAX_DEPTH = 30
_CLASS = "__class_fullname__"
_REMEDY = "write it with albumentations.save(pipeline, FILE, data_format='yaml')"


def is_content(text: str) -> bool:
    """Return whether a text is the content of a pipeline rather than the path of its file."""
    return text.lstrip().startswith("{")


def pipeline_text(path: Path) -> str:
    """Return the content of a pipeline's file in canonical form: JSON with sorted keys.

    Args:
        path: YAML or JSON, as `albumentations.save` writes it.

    Raises:
        DataError: There is no such file, or it holds no pipeline.
    """
    try:
        if path.stat().st_size > MAX_PIPELINE:
            raise DataError(f"{path}: must have at most {MAX_PIPELINE} bytes, got more; {_REMEDY}")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path}: must be a text in UTF-8, got other bytes; {_REMEDY}") from None
    except OSError as error:
        raise DataError(
            f"{path}: must be a readable file, got {error.strerror or error}; check the path"
        ) from None
    import yaml  # not before there is such a file

    try:
        content = yaml.safe_load(text)  # of JSON too, which is YAML
        return json.dumps(_plain(content), sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: must be YAML or JSON, got {_first_line(error)}; {_REMEDY}") from None
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: must be a pipeline of albumentations, {error}; {_REMEDY}") from None


def read_pipeline(content: str) -> dict[str, Any]:
    """Return a pipeline as a tree `{"transform": {...}}`, in which each node has the name of its class.

    Args:
        content: Content of the pipeline, JSON.

    Raises:
        DataError: The content is no pipeline.
    """
    try:
        tree = _plain(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"must be a pipeline of albumentations, got {_first_line(error)}; name the file that it is saved in"
        ) from None
    top = tree.get("transform") if isinstance(tree, dict) else None
    if not isinstance(top, dict) or not isinstance(top.get("transforms"), list):
        raise DataError(f"must be a Compose of transforms, got something else; {_REMEDY}")
    for node in transforms_in(top):
        if not isinstance(node.get(_CLASS), str):
            raise DataError(f"must name the class of each transform, got one without {_CLASS}; {_REMEDY}")
    return {"transform": top}


def transforms_in(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a transform, then all transforms nested in it.

    Raises:
        DataError: A nested element is no transform.
    """
    yield node
    for inner in node.get("transforms") or ():
        if not isinstance(inner, dict):
            raise DataError(f"must be made of transforms, got {str(inner)[:40]!r} among them; {_REMEDY}")
        yield from transforms_in(inner)


def _plain(tree: Any) -> Any:
    """Return a tree of plain values.

    Raises:
        ValueError: It has others, or too many: a YAML file of a kilobyte can unfold to a terabyte.
    """
    left = _MAX_VALUES

    def plain(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > _MAX_DEPTH:
            raise ValueError(f"got more than {_MAX_VALUES} values, or {_MAX_DEPTH} within one another")
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise ValueError("got keys that are no texts")
            return {key: plain(inner, depth + 1) for key, inner in value.items()}
        if isinstance(value, list):
            return [plain(inner, depth + 1) for inner in value]
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise ValueError(f"got a value of type {type(value).__name__}")

    return plain(tree, 0)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
