"""Reading study files: TOML text to a validated `StudySpec`, with every problem reported at once."""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from searcher.exceptions import StudyFileError
from searcher.study.config import TrialConfig
from searcher.study.space import Choice, Condition, FloatRange, IntRange, Parameter, SearchSpace, Value
from searcher.study.spec import (
    PrunerSection,
    ResourcesSection,
    SearchSection,
    StudySection,
    StudySpec,
    nested,
)

__all__ = ["parse_study", "parse_value"]

_SECTIONS: dict[str, type[BaseModel]] = {
    "study": StudySection,
    "search": SearchSection,
    "pruner": PrunerSection,
    "resources": ResourcesSection,
}
_RANGE_KEYS = {"low", "high", "log", "step", "choices", "when"}


def parse_study(text: str, *, source: str, overrides: Mapping[str, Value] | None = None) -> StudySpec:
    """Return the study that a file describes, with the overrides of the command line applied.

    An override of a searched parameter fixes it: it leaves the space and the enqueued points.

    Args:
        text: The study file, TOML.
        source: What to call it in messages.
        overrides: Values by dotted key, e.g. {"train.epochs": 3}.

    Raises:
        StudyFileError: One line per problem: where, the rule, the value.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyFileError([f"{source}: must be valid TOML: {error}"]) from error
    return _Reader(source, text, document, dict(overrides or {})).read()


def parse_value(text: str) -> Value:
    """Return the value of `KEY=VALUE` on the command line: a TOML value, or else the text itself."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, bool | int | float | str) else text


class _Reader:
    """Collects the problems of one study file while reading it section by section."""

    def __init__(self, source: str, text: str, document: dict[str, Any], overrides: dict[str, Value]) -> None:
        self.source = source
        self.text = text
        self.document = document
        self.overrides = overrides
        self.problems: list[str] = []
        self.config_fields = dict(_leaf_fields(TrialConfig))

    def read(self) -> StudySpec:
        space_table = self._table("space")
        enqueue = self.document.pop("enqueue", [])
        self._apply_overrides()
        self._check_table_names()
        sections = {name: self._section(name, model) for name, model in _SECTIONS.items()}
        fixed = self._fixed()
        space = self._space(space_table, fixed)
        points = self._points(enqueue, space)
        if self.problems:
            raise StudyFileError(self.problems)
        return StudySpec(
            source=self.source, text=self.text, fixed=fixed, space=space, enqueue=points, **sections
        )

    def _problem(self, key: str, message: str) -> None:
        where = f"--set {key}" if key in self.overrides else f"{self.source}: {key}" if key else self.source
        self.problems.append(f"{where}: {message}")

    def _table(self, name: str) -> dict[str, Any]:
        table = self.document.pop(name, {})
        if isinstance(table, dict):
            return table
        self._problem(name, f"must be a table, got {table!r}; write [{name}]")
        return {}

    def _apply_overrides(self) -> None:
        for key, value in self.overrides.items():
            *tables, leaf = key.split(".")
            node = self.document
            for table in tables:
                node = node.setdefault(table, {})
                if not isinstance(node, dict):
                    self._problem(key, f"unknown key; {table} holds a value, not a table")
                    break
            else:
                node[leaf] = value

    def _check_table_names(self) -> None:
        known = [*_SECTIONS, *TrialConfig.model_fields]
        for name in list(self.document):
            if name not in known:
                value = self.document.pop(name)
                shown = "a table" if isinstance(value, dict) else repr(value)
                key = name if name in self.overrides else next((k for k in self.overrides if k.startswith(f"{name}.")), name)
                self._problem(key, f"unknown table, got {shown}; {_suggest(name, [*known, 'space', 'enqueue'])}")

    def _section(self, name: str, model: type[BaseModel]) -> Any:
        try:
            return model.model_validate(self._table(name))
        except ValidationError as error:
            self._validation_problems(error, name)
            return None

    def _fixed(self) -> dict[str, Value]:
        tables = {name: self._table(name) for name in TrialConfig.model_fields}
        try:
            TrialConfig.model_validate(tables)
        except ValidationError as error:
            self._validation_problems(error)
            return {}
        return {f"{table}.{key}": value for table, values in tables.items() for key, value in values.items()}

    def _validation_problems(self, error: ValidationError, prefix: str = "") -> None:
        for item in error.errors():
            key = ".".join(part for part in [prefix, *map(str, item["loc"])] if part)
            self._problem(key, _message(item, self._siblings(key)))

    def _siblings(self, key: str) -> dict[str, str]:
        """Return the fields beside a key with their descriptions."""
        table, _, _ = key.rpartition(".")
        if table in _SECTIONS:
            fields = _SECTIONS[table].model_fields
            return {name: info.description or "" for name, info in fields.items()}
        beside = {name: doc for name, (_, doc) in self.config_fields.items() if name.startswith(f"{table}.")}
        return {name.removeprefix(f"{table}."): doc for name, doc in beside.items()}

    # ---- the space -------------------------------------------------------------------------------------------

    def _space(self, table: dict[str, Any], fixed: dict[str, Value]) -> SearchSpace:
        parameters: dict[str, Parameter] = {}
        for name, entry in _entries(table):
            key = f"space.{name}"
            if not isinstance(entry, dict):
                self._problem(key, f"must be a table with low and high, or choices, got {entry!r}")
            elif name not in self.config_fields:
                self._problem(key, f"unknown parameter; {_suggest(name, self.config_fields)}")
            elif name in self.overrides:
                continue
            elif name in fixed:
                self._problem(key, f"must not be both searched and fixed, got {name}={fixed[name]!r}; remove one")
            else:
                parameter = self._parameter(name, entry, fixed)
                if parameter is not None:
                    parameters[name] = parameter
        return self._ordered(self._resolve_conditions(parameters, fixed))

    def _parameter(self, name: str, entry: dict[str, Any], fixed: dict[str, Value]) -> Parameter | None:
        key = f"space.{name}"
        unknown = sorted(set(entry) - _RANGE_KEYS)
        if unknown:
            self._problem(f"{key}.{unknown[0]}", f"unknown key; {_suggest(unknown[0], _RANGE_KEYS)}")
            return None
        domain = self._choice(key, entry) if "choices" in entry else self._range(key, name, entry)
        conditions = self._conditions(key, entry.get("when", {}))
        if domain is None or not self._edges_are_valid(key, name, domain, fixed):
            return None
        return Parameter(name, domain, conditions)

    def _choice(self, key: str, entry: dict[str, Any]) -> Choice | None:
        choices = entry["choices"]
        if not isinstance(choices, list) or not choices:
            self._problem(f"{key}.choices", f"must be a list with at least one value, got {choices!r}")
        elif any(not isinstance(choice, bool | int | float | str) for choice in choices):
            self._problem(f"{key}.choices", f"must hold plain values, got {choices!r}")
        elif len({(type(choice), choice) for choice in choices}) < len(choices):
            self._problem(f"{key}.choices", f"must hold each value once, got {choices!r}")
        elif beside := sorted(set(entry) & {"low", "high", "log", "step"}):
            self._problem(key, f"must have either choices or a range, got choices and {beside[0]}; remove one")
        else:
            return Choice(tuple(choices))
        return None

    def _range(self, key: str, name: str, entry: dict[str, Any]) -> FloatRange | IntRange | None:
        before = len(self.problems)
        integer = self.config_fields[name][0] is int
        kind = "an integer" if integer else "a number"
        for bound in ("low", "high", "step"):
            value = entry.get(bound)
            if value is None and bound != "step":
                self._problem(f"{key}.{bound}", f"must be given as {kind}; or give choices")
            elif value is not None and not _is_number(value, integer=integer):
                self._problem(f"{key}.{bound}", f"must be {kind}, got {value!r}")
        log = entry.get("log", False)
        if not isinstance(log, bool):
            self._problem(f"{key}.log", f"must be true or false, got {log!r}")
        if len(self.problems) > before:
            return None
        return self._checked_range(key, entry, log=log, integer=integer)

    def _checked_range(self, key: str, entry: dict[str, Any], *, log: bool, integer: bool) -> FloatRange | IntRange | None:
        low, high, step = entry["low"], entry["high"], entry.get("step")
        if low >= high:
            self._problem(key, f"low must be below high, got low={low} high={high}; swap or widen them")
        elif log and low <= 0:
            self._problem(key, f"low must be above 0 on a log scale, got low={low}; raise it or remove log")
        elif log and step is not None:
            self._problem(key, f"step and log exclude each other, got step={step} log=true; remove one")
        elif step is not None and not 0 < step <= high - low:
            self._problem(key, f"step must be above 0 and at most high - low, got step={step} high-low={high - low:g}")
        elif integer:
            return IntRange(low, high, log=log, step=step or 1)
        else:
            return FloatRange(float(low), float(high), log=log, step=None if step is None else float(step))
        return None

    def _conditions(self, key: str, when: Any) -> tuple[Condition, ...]:
        if not isinstance(when, dict):
            self._problem(f"{key}.when", f'must be a table like {{ "optimizer.name" = ["sgd"] }}, got {when!r}')
            return ()
        conditions = []
        for parent, values in _entries(when):
            listed = values if isinstance(values, list) else [values]
            conditions.append(Condition(parent, tuple(listed)))
        return tuple(conditions)

    def _edges_are_valid(self, key: str, name: str, domain: Any, fixed: dict[str, Value]) -> bool:
        for edge in domain.edges():
            try:
                TrialConfig.model_validate(nested({name: edge}))
            except ValidationError as error:
                item = error.errors()[0]
                if item["type"] == "value_error":  # a rule over several keys: others of the point decide
                    continue
                self._problem(key, _message(item, {}))
                return False
        return True

    def _resolve_conditions(
        self, parameters: dict[str, Parameter], fixed: dict[str, Value]
    ) -> dict[str, Parameter]:
        """Settle conditions on keys that are not searched; drop parameters whose condition can never hold."""
        resolved = dict(parameters)
        for name in list(parameters):
            open_conditions: list[Condition] = []
            for condition in parameters[name].when:
                if condition.parent in resolved and condition.parent != name:
                    self._check_condition(name, condition, resolved[condition.parent])
                    open_conditions.append(condition)
                elif condition.parent not in self.config_fields or condition.parent == name:
                    others = [other for other in self.config_fields if other != name]
                    self._problem(f"space.{name}.when.{condition.parent}", f"unknown parameter; {_suggest(condition.parent, others)}")
                elif not condition.holds({condition.parent: self._fixed_value(condition.parent, fixed)}):
                    resolved.pop(name, None)
            if name in resolved:
                resolved[name] = Parameter(name, parameters[name].domain, tuple(open_conditions))
        if len(resolved) < len(parameters):  # a dropped parameter can be another one's condition
            return self._resolve_conditions(
                {name: p for name, p in resolved.items() if all(c.parent in resolved for c in p.when)}, fixed
            )
        return resolved

    def _fixed_value(self, name: str, fixed: dict[str, Value]) -> Value:
        table, _, leaf = name.partition(".")
        config = TrialConfig.model_validate(nested(fixed))
        value: Value = getattr(getattr(config, table), leaf)
        return value

    def _check_condition(self, name: str, condition: Condition, parent: Parameter) -> None:
        for value in condition.values:
            if not parent.domain.contains(value):
                self._problem(
                    f"space.{name}.when.{condition.parent}",
                    f"must name values that {condition.parent} can take ({parent.domain}), got {value!r}",
                )

    def _ordered(self, parameters: dict[str, Parameter]) -> SearchSpace:
        """Return the parameters in file order, each moved behind those that its conditions name."""
        ordered: dict[str, Parameter] = {}
        waiting = dict(parameters)
        while waiting:
            ready = [p for p in waiting.values() if all(c.parent in ordered for c in p.when)]
            if not ready:
                self._problem(f"space.{next(iter(waiting))}.when", f"must not go in a circle, got {' -> '.join(waiting)}")
                break
            for parameter in ready:
                ordered[parameter.name] = waiting.pop(parameter.name)
        return SearchSpace(tuple(ordered.values()))

    # ---- enqueued points -------------------------------------------------------------------------------------

    def _points(self, enqueue: Any, space: SearchSpace) -> tuple[dict[str, Value], ...]:
        if not isinstance(enqueue, list) or any(not isinstance(point, dict) for point in enqueue):
            self._problem("enqueue", f"must be a list of tables, got {enqueue!r}; write [[enqueue]]")
            return ()
        points = [self._point(index, dict(_entries(point)), space) for index, point in enumerate(enqueue)]
        return tuple(point for point in points if point)

    def _point(self, index: int, point: dict[str, Any], space: SearchSpace) -> dict[str, Value]:
        kept = {}
        for name, value in point.items():
            key = f"enqueue[{index}].{name}"
            if name in space:
                if not space[name].domain.contains(value):
                    self._problem(key, f"must lie in the space ({space[name].domain}), got {value!r}")
                kept[name] = value
            elif name not in self.config_fields:
                self._problem(key, f"unknown parameter; {_suggest(name, self.config_fields)}")
            elif not self.overrides and not self.problems:
                self._problem(key, f"must be a parameter of the space, got {value!r}; remove it or search it")
        return {
            name: value
            for name, value in kept.items()
            if all(c.parent not in kept or c.holds(kept) for c in space[name].when)
        }


def _entries(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and value of every entry; a table with a range key is one entry."""
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and not (set(value) & _RANGE_KEYS):
            yield from _entries(value, f"{name}.")
        else:
            yield name, value


def _leaf_fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, tuple[Any, str]]]:
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _leaf_fields(annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", (annotation, info.description or "")


def _is_number(value: Any, *, integer: bool) -> bool:
    allowed = (int,) if integer else (int, float)
    return isinstance(value, allowed) and not isinstance(value, bool) and value == value and abs(value) != float("inf")


def _suggest(name: str, known: Any) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    tables = sorted({candidate.partition(".")[0] for candidate in names}) if len(names) > 20 else names
    return f"known: {', '.join(tables)}"


def _message(item: Any, siblings: Mapping[str, str]) -> str:
    """Return rule, value and remedy of one pydantic error."""
    leaf = str(item["loc"][-1]) if item["loc"] else ""
    value = item["input"]
    if item["type"] == "extra_forbidden":
        return f"unknown key, got {value!r}; {_suggest(leaf, siblings)}"
    if item["type"] == "missing":
        return f"must be given; {siblings.get(leaf, '')}".rstrip("; ")
    if item["type"] == "value_error":
        return str(item["msg"]).removeprefix("Value error, ")
    rule = str(item["msg"])
    for said, rather in (("Input should be a valid ", "must be a "), ("Input should be ", "must be "), ("String should ", "must ")):
        rule = rule.replace(said, rather)
    rule = rule.replace("must be a integer", "must be an integer").replace("must be a dictionary or instance of", "must be a table:")
    hint = siblings.get(leaf, "")
    return f"{rule}, got {value!r}" + (f" ({hint})" if hint else "")

