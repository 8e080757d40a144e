"""Which keys the configuration of a trial has, what values each can have, and which model or part brings it."""

import math
from typing import Any

from pydantic import BaseModel

from searcher.models.settings import SETTINGS
from searcher.parts import PartSection, own_options
from searcher.study.config import TrialConfig

__all__ = ["config_fields", "field_bounds", "models_with", "option_owners"]


def config_fields(model: str) -> dict[str, tuple[Any, str]]:
    """Return every key of a configuration with that model by its dotted name, with its type and description.

    Args:
        model: A model's name; another text gives the keys of all models.
    """
    fields: dict[str, tuple[Any, str]] = {}
    for table, info in TrialConfig.model_fields.items():
        of_models = [SETTINGS[name] for name in ([model] if SETTINGS.known(model) else SETTINGS.names())]
        sections: list[Any] = of_models if table == "model" else [info.annotation]
        for section in sections:
            for key, field in section.model_fields.items():
                if (table, key) == ("model", "channels"):
                    continue  # the data decide about it
                fields[f"{table}.{key}"] = (field.annotation, field.description or "")
        for options in _own_options(table).values():
            for key, field in options.model_fields.items():
                fields[f"{table}.options.{key}"] = (field.annotation, field.description or "")
    return fields


def option_owners(key: str) -> dict[str, list[str]]:
    """Return which parts have an option: the key that names them, with their names; empty for another key.

    Args:
        key: A dotted key, `optimizer.options.beta` say.
    """
    table, _, leaf = key.partition(".options.")
    owners = [name for name, options in _own_options(table).items() if leaf in options.model_fields]
    return {_section_of(table).registry.key: owners} if owners else {}


def _section_of(table: str) -> Any:
    return TrialConfig.model_fields[table].annotation


def _own_options(table: str) -> dict[str, type[BaseModel]]:
    """Return the settings classes of the parts that a table can name, by their names."""
    section = TrialConfig.model_fields[table].annotation if table in TrialConfig.model_fields else None
    is_of_parts = isinstance(section, type) and issubclass(section, PartSection)
    return own_options(section.registry) if is_of_parts else {}  # type: ignore[union-attr]


def field_bounds(model: str, key: str) -> tuple[float | None, float | None]:
    """Return the lowest and the highest value that a numeric key can have; None where there is no limit.

    Where a limit itself is excluded, as 0 for a learning rate, it is the next number on the allowed side.

    Args:
        model: The model's name, for keys under `model`.
        key: A dotted key.
    """
    table, _, leaf = key.partition(".")
    section: Any = SETTINGS[model] if table == "model" else TrialConfig.model_fields[table].annotation
    for name in next(iter(option_owners(key).values()), [])[:1]:
        section, leaf = _own_options(table)[name], leaf.removeprefix("options.")
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
    """Return the models that have a key, `model.depth` say; none for a key that is not about the model."""
    return [name for name in SETTINGS.names() if key.removeprefix("model.") in SETTINGS[name].model_fields]
