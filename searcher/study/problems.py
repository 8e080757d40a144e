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
    """The problems of one study file: where, the rule, the value, the remedy.

    Args:
        source: The file, for messages.
        overrides: Keys that the command line sets; their problems name its option instead of the file.
    """

    def __init__(self, source: str, overrides: Collection[str]) -> None:
        self.source = source
        self.overrides = overrides
        self.lines: list[str] = []
        self._keys: set[str] = set()

    def __len__(self) -> int:
        return len(self.lines)

    def mention(self, key: str) -> bool:
        """Return whether a problem with a key was noted."""
        return key in self._keys

    def add(self, key: str, message: str) -> None:
        """Note a problem with a key.

        Raises:
            StudyFileError: There are many already; all that were noted.
        """
        where = _OPTIONS.get(key, f"--set {key}") if key in self.overrides else f"{self.source}: {key}"
        self.lines.append(f"{where}: {message}")
        self._keys.add(key)
        if len(self.lines) >= _MAX_PROBLEMS:
            raise StudyFileError([*self.lines, f"{self.source}: must have no problems, got more than these"])

    def add_validation(
        self, error: ValidationError, fields: Mapping[str, Mapping[str, str]], prefix: str = ""
    ) -> None:
        """Note everything that pydantic found.

        Args:
            error: What it raised.
            fields: By table, its fields with their descriptions.
            prefix: The table that was validated, empty for all of them.
        """
        for item in error.errors():
            loc = [prefix, *map(str, item["loc"])] if prefix else [*map(str, item["loc"])]
            key = ".".join(loc)
            self.add(key, rule_of(item, fields.get(key.rpartition(".")[0], {}), key))


def remedy_for(key: str, name: str, known: Collection[str]) -> str:
    """Return a hint for an unknown key: a model or another table that has it, or what `suggestion` finds.

    Args:
        key: The dotted key.
        name: The key or its last part, for `suggestion` to compare with `known`.
        known: The names that there are.
    """
    table, _, leaf = key.rpartition(".")
    models = models_with(key) if table == "model" else []
    if models:
        return f"{leaf} is a key of model.name = '{models[0]}'"
    elsewhere = [other for other in config_fields("") if other.rpartition(".")[2] == leaf]
    return f"did you mean {elsewhere[0]}?" if table and elsewhere else suggestion(name, known)


def rule_of(item: Any, siblings: Mapping[str, str], key: str = "") -> str:
    """Return rule, value and remedy of one pydantic error.

    Args:
        item: One of pydantic's errors.
        siblings: The fields of the table that it is in, with their descriptions.
        key: The dotted key that it is about.
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
