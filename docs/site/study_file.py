"""The page of all keys of a study file, from the settings classes."""

import typing
from collections.abc import Iterator
from typing import Any, Literal

from markdown_tables import code, table
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from searcher.models.settings import MaskRCNNSettings, PostprocessSettings, UNetSettings
from searcher.study.config import (
    AugmentConfig,
    DataConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    TuningConfig,
    WarmStartConfig,
)
from searcher.study.spec import ParentSection, PrunerSection, ResourcesSection, SearchSection, StudySection

_INTRODUCTION = """# Keys of a study file

A study file is TOML. It has a table for each section below. `searcher validate FILE` checks a file and shows what it
would search. `--set SECTION.KEY=VALUE` sets a key on the command line.

    searcher validate my-study.toml
    searcher launch --study my-study.toml --set train.epochs=30

## What is searched

A key of the sections `data`, `augment`, `model`, `postprocess`, `optimizer`, `schedule`, `train`, `tuning` and
`warm_start` is fixed in its own section, or searched in `[space.SECTION]`:

```toml
[train]
epochs = 30                                           # fixed

[space.optimizer]
name = { choices = ["adamw", "sgd"] }                 # searched: a choice
lr = { low = 1e-4, high = 1e-2, log = true }          # a range, sampled in logarithmic scale
weight_decay = { choices = [0.0, 1e-4, 1e-3] }

[space.optimizer.momentum]
low = 0.8
high = 0.99
when = { "optimizer.name" = ["sgd"] }                 # searched only for this choice
```

`[[enqueue]]` names points that are known to be good. They are tried first:

```toml
[[enqueue]]
"optimizer.lr" = 0.003
```
"""

_SECTIONS: list[tuple[str, type[BaseModel], str]] = [
    ("study", StudySection, ""),
    ("search", SearchSection, ""),
    ("pruner", PrunerSection, ""),
    ("resources", ResourcesSection, ""),
    ("parent", ParentSection, ""),
    ("data", DataConfig, ""),
    ("augment", AugmentConfig, ""),
    ("model", UNetSettings, ' of the U-Net (`name = "unet"`)'),
    ("model", MaskRCNNSettings, ' of the Mask R-CNN (`name = "mask_rcnn"`)'),
    ("postprocess", PostprocessSettings, ""),
    ("optimizer", OptimizerConfig, ""),
    ("schedule", ScheduleConfig, ""),
    ("train", TrainConfig, ""),
    ("tuning", TuningConfig, ""),
    ("warm_start", WarmStartConfig, ""),
]


def page() -> str:
    """Return the page."""
    return "\n\n".join([_INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    for name, settings, remark in _SECTIONS:
        yield f"## `[{name}]`{remark}"
        yield (settings.__doc__ or "").strip().replace("\n", " ")
        rows = [_row(key, field) for key, field in settings.model_fields.items()]
        yield table(["key", "values", "default", "meaning"], rows)


def _row(key: str, field: FieldInfo) -> list[str]:
    default = "required" if field.is_required() else code(_toml(field.get_default(call_default_factory=True)))
    meaning = field.description or ""
    return [code(key), _values(field), default, " ".join(meaning.split())]


def _values(field: FieldInfo) -> str:
    names = _names(field)
    text = ", ".join(map(code, names)) if names else _kind(field.annotation)
    bounds = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = [
        f"{sign} {getattr(rule, name):g}"
        for name, sign in bounds.items()
        for rule in field.metadata
        if getattr(rule, name, None) is not None
    ]
    return ", ".join([text, *found])


def _names(field: FieldInfo) -> list[str]:
    """Return the names that a key takes, from its type or from the registry of parts behind it."""
    for rule in field.metadata:
        registries = getattr(getattr(rule, "func", None), "__closure__", None) or ()
        cells = [cell.cell_contents for cell in registries]
        for cell in cells:
            if isinstance(cell, tuple) and cell and all(hasattr(each, "names") for each in cell):
                return [name for each in cell for name in each.names()]
    return []


def _kind(annotation: Any) -> str:
    if typing.get_origin(annotation) is Literal:
        return ", ".join(code(_toml(value)) for value in typing.get_args(annotation))
    if typing.get_args(annotation) and typing.get_origin(annotation) not in (list, dict):
        return " or ".join(_kind(each) for each in typing.get_args(annotation))
    if typing.get_origin(annotation) is list:
        return "list"
    names = {int: "whole number", float: "number", str: "text", bool: "`true`, `false`"}
    return names.get(annotation, "table")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
