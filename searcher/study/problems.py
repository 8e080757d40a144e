"""Collecting what is wrong with a study file, in words for the person who wrote it."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from searcher.exceptions import StudyFileError
from searcher.study.config_keys import config_fields, models_with
from searcher.study.toml_text import shown
from searcher.suggestions import suggestion

__all__ = ["Problems", "remedy_for", "rule_of"]

_OPTIONS = {
    "study.trials": "--trials",
    "study.hours": "--hours",
    "study.gpu_hours": "--gpu-hours",
    "train.epochs": "--epochs",
}
"""Keys for which the command line has an option of its own."""
_MAX_PROBLEMS = 30
"""Nobody reads more, and finding what a hundred thousand wrong keys might have meant takes minutes."""


class Problems:
    """Collects the problems of one study file, each with place, rule, value and remedy.

    Args:
        source: The study file, for messages.
        overrides: Keys that the command line sets; their problems name the option instead of the file.
    """

    def __init__(self, source: str, overrides: Collection[str]) -> None:
        self.source = source
        self.overrides = overrides
        self.lines: list[str] = []
        self._keys: set[str] = set()

    def __len__(self) -> int:
        return len(self.lines)

    def mention(self, key: str) -> bool:
        """Return whether a problem with exactly this key was added before; adds none."""
        return key in self._keys

    def add(self, key: str, message: str) -> None:
        """Add a problem with a key.

        Raises:
            StudyFileError: There are too many problems; the message lists those added so far.
        """
        where = _OPTIONS.get(key, f"--set {key}") if key in self.overrides else f"{self.source}: {key}"
        self.lines.append(f"{where}: {message}")
        self._keys.add(key)
        if len(self.lines) >= _MAX_PROBLEMS:
            raise StudyFileError([*self.lines, f"{self.source}: must have no problems, got more than these"])

    def add_validation(
        self, error: ValidationError, fields: Mapping[str, Mapping[str, str]], prefix: str = ""
    ) -> None:
        """Add all problems in an error of pydantic.

        Args:
            error: The error.
            fields: Description of each field, by table and name.
            prefix: Name of the table that was validated; empty for all tables.
        """
        for item in error.errors():
            loc = [prefix, *map(str, item["loc"])] if prefix else [*map(str, item["loc"])]
            key = ".".join(loc)
            self.add(key, rule_of(item, fields.get(key.rpartition(".")[0], {}), key))


def remedy_for(key: str, name: str, known: Collection[str]) -> str:
    """Return the remedy for an unknown key: the model or table that has this key, or a similar key.

    Args:
        key: The unknown dotted key.
        name: The part of the key that is compared with `known`.
        known: The known names.
    """
    table, _, leaf = key.rpartition(".")
    models = models_with(key) if table == "model" else []
    if models:
        return f"{leaf} is a key of model.name = '{models[0]}'"
    elsewhere = [other for other in config_fields("") if other.rpartition(".")[2] == leaf]
    return f"did you mean {elsewhere[0]}?" if table and elsewhere else suggestion(name, known)


def rule_of(item: Any, siblings: Mapping[str, str], key: str = "") -> str:
    """Return the rule, value and remedy of one pydantic error, as the text of a message.

    Args:
        item: One entry of the error's list.
        siblings: Description of each field in the same table.
        key: The dotted key.
    """
    leaf = str(item["loc"][-1]) if item["loc"] else ""
    value = item["input"]
    if item["type"] == "extra_forbidden":
        return f"unknown key, got {shown(value)}; {remedy_for(key, leaf, siblings)}"
    if item["type"] == "unknown_model":
        return f"{item['msg']}, got {shown(value)}{item['ctx']['why']}"
    if item["type"] == "missing":
        return f"must be given; {siblings.get(leaf, '')}".rstrip("; ")
    if item["type"] == "value_error":
        return str(item["msg"]).removeprefix("Value error, ")
    rule = str(item["msg"])
    for said, rather in (
        ("Input should be a valid ", "must be a "),
        ("Input should be ", "must be "),
        ("String should ", "must "),
    ):
        rule = rule.replace(said, rather)
    rule = rule.replace("must be a integer", "must be an integer").replace(
        "must be a dictionary or instance of", "must be a table:"
    )
    hint = siblings.get(leaf, "")
    why = item.get("ctx", {}).get("why", "") if item["type"] == "literal_error" else ""
    return f"{rule}, got {shown(value)}" + (f" ({hint})" if hint else "") + why
