"""Which keys the configuration of a trial has, what values each can have, and which model or part brings it."""

import math
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from searcher.models.parts import KINDS
from searcher.models.settings import SETTINGS
from searcher.parts import PartSection, own_options
from searcher.study.config import TrialConfig

__all__ = ["config_fields", "field_bounds", "models_with", "option_owners"]

_OF_THE_DATA = {
    "model.channels",
    "model.num_classes",
    "model.class_names",
    "model.class_weights",
    "data.class_digest",
}
"""Keys that are not to be chosen: the data decide about them."""


def config_fields(model: str) -> dict[str, tuple[Any, str]]:
    """Return the type and description of every key of a trial configuration, by dotted name.

    Args:
        model: Name of a model, whose keys are included; any other text includes the keys of all models.
    """
    fields: dict[str, tuple[Any, str]] = {}
    for table, info in TrialConfig.model_fields.items():
        of_models = [SETTINGS[name] for name in ([model] if SETTINGS.known(model) else SETTINGS.names())]
        sections: list[Any] = of_models if table == "model" else [info.annotation]
        for section in sections:
            for key, field in section.model_fields.items():
                if f"{table}.{key}" in _OF_THE_DATA:
                    continue
                fields[f"{table}.{key}"] = (field.annotation, field.description or "")
    for prefix, options in _all_options():
        for key, field in options.model_fields.items():
            fields[f"{prefix}.{key}"] = (field.annotation, field.description or "")
    return fields


def option_owners(key: str) -> dict[str, list[str]]:
    """Return the parts that have an option: their names, by the key that selects them; empty for other keys.

    Args:
        key: A dotted key, such as `optimizer.options.beta` or `model.options.tversky.alpha`.
    """
    table, _, leaf = key.partition(".options.")
    if table == "model":
        part, _, leaf = leaf.partition(".")
        found = {each.key: own_options(each).get(part) for each in KINDS.values()}
        return {
            named_by: [part]
            for named_by, options in found.items()
            if options and leaf in options.model_fields
        }
    section = _section_of(table)
    own = {} if section is None else own_options(section.registry)
    owners = [name for name, options in own.items() if leaf in options.model_fields]
    return {section.registry.key: owners} if section is not None and owners else {}


def _section_of(table: str) -> type[PartSection] | None:
    """Return the section of a table that names a part; None for another."""
    section = TrialConfig.model_fields[table].annotation if table in TrialConfig.model_fields else None
    return section if isinstance(section, type) and issubclass(section, PartSection) else None


def _all_options() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield where options of parts are, and the settings class that says which."""
    for table in TrialConfig.model_fields:
        section = _section_of(table)
        for options in {} if section is None else own_options(section.registry).values():
            yield f"{table}.options", options
    for registry in KINDS.values():
        for name, options in own_options(registry).items():
            yield f"model.options.{name}", options


def field_bounds(model: str, key: str) -> tuple[float | None, float | None]:
    """Return the smallest and the largest value of a numeric key; None where there is no limit.

    If a limit itself is excluded, as 0 for a learning rate, the result is the next number on the allowed side.

    Args:
        model: Name of the model, for keys under `model`.
        key: A dotted key.
    """
    table, _, leaf = key.partition(".")
    section: Any = SETTINGS[model] if table == "model" else TrialConfig.model_fields[table].annotation
    where, _, option = key.rpartition(".")
    for prefix, options in _all_options():
        if prefix == where and option in options.model_fields:
            section, leaf = options, option
            break
    low: float | None = None
    high: float | None = None
    for rule in section.model_fields[leaf].metadata:
        low = getattr(rule, "ge", low)
        high = getattr(rule, "le", high)
        if (above := getattr(rule, "gt", None)) is not None:
            low = math.nextafter(above, math.inf)
        if (below := getattr(rule, "lt", None)) is not None:
            high = math.nextafter(below, -math.inf)
    return low, high


def models_with(key: str) -> list[str]:
    """Return the names of the models that have a key such as `model.depth`; empty for a key of another table."""
    return [name for name in SETTINGS.names() if key.removeprefix("model.") in SETTINGS[name].model_fields]
