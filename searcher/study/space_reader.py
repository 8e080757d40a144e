"""Reading the `[space]` and `[[enqueue]]` parts of a study file."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from searcher.models.settings import SETTINGS
from searcher.study.config import TrialConfig
from searcher.study.config_keys import config_fields, option_owners
from searcher.study.problems import Problems, remedy_for, rule_of
from searcher.study.renamed_keys import RENAMED_IN_RANGES
from searcher.study.space import (
    Choice,
    Condition,
    Domain,
    FloatRange,
    IntRange,
    Parameter,
    SearchSpace,
    Value,
)
from searcher.study.spec import nested
from searcher.study.toml_text import shown
from searcher.suggestions import suggestion

__all__ = ["SpaceReader", "entries"]

_MAX_CHOICES = 1000
"""Each of them is tried on a configuration."""
_MAX_POINTS = 10_000
_ROUNDING = 1e-9
"""0.3 - 0.1 is a little less than 0.2."""
_RANGE_KEYS = {"low", "high", "log", "step", "choices", "when", "original_range"}
_PRIOR_KEYS = {"prior", "confidence"}
"""Allowed in addition to the keys of a range; alone they define no range."""


class SpaceReader:
    """Reads the tables of ranges and choices in a study file as a `SearchSpace`.

    Args:
        problems: Receives the problems.
        fixed: Configuration keys with a fixed value.
        overrides: Keys that the command line fixed; they leave the space and the enqueued points.
        model: Name of the study's model, which decides which keys exist under `model`.
    """

    def __init__(
        self,
        problems: Problems,
        fixed: Mapping[str, Value],
        overrides: Mapping[str, Value],
        *,
        model: str,
    ) -> None:
        self._problem = problems.add
        self._problems = problems
        self._fixed = fixed
        self._overrides = overrides
        # Of an unknown one, which is a problem already, no rule is known.
        self._model_name: dict[str, Value] = {"model.name": model} if SETTINGS.known(model) else {}
        self._config_fields = config_fields(model)

    def space(self, table: Mapping[str, Any]) -> SearchSpace:
        """Return the search space in a table."""
        parameters: dict[str, Parameter] = {}
        for name, entry in entries(table):
            key = f"space.{name}"
            if not isinstance(entry, dict):
                self._problem(key, f"must be a table with low and high, or choices, got {shown(entry)}")
            elif name not in self._config_fields:
                self._problem(key, f"unknown parameter; {remedy_for(name, name, self._config_fields)}")
            elif name == "model.name":
                self._problem(
                    key,
                    "must not be searched: every model has parameters of its own; "
                    "write a study for each and compare their best trials",
                )
            elif name == "data.learn_classes":
                self._problem(
                    key,
                    "must not be searched: trials with and without classes have other metrics; set it under [data]",
                )
            elif name == "data.synthetic" or name.startswith("data.synthetic_"):
                self._problem(
                    key, "must not be searched: a study's images are drawn once; set it under [data]"
                )
            elif name == "augment.pipeline":
                self._problem(
                    key,
                    "must not be searched: it takes the place of augment.preset; write a study for each pipeline",
                )
            elif (
                self._fixed.get("augment.pipeline")
                and name.startswith("augment.")
                and name != "augment.crop_px"
            ):
                self._problem(
                    key, "must not be searched beside augment.pipeline, which takes its place; remove one"
                )
            elif name == "data.normalisation" and "auto" in _listed_in(entry):
                self._problem(
                    key,
                    "must not search 'auto', which is fixed or percentile on given images: one of them would count as "
                    "trained already; list those two",
                )
            elif name in self._overrides:
                continue
            elif name in self._fixed:
                self._problem(
                    key, f"must not be both searched and fixed, got {name}={self._fixed[name]!r}; remove one"
                )
            else:
                parameter = self._parameter(name, entry)
                if parameter is not None:
                    parameters[name] = parameter
        resolved = self._resolve_conditions(parameters)
        self._check_owners(parameters)
        return self._ordered(resolved)

    def _check_owners(self, parameters: Mapping[str, Parameter]) -> None:
        """Check that a part's option is searched only where the part is the one that is named."""
        for name, parameter in parameters.items():
            for named_by, owners in option_owners(name).items():
                wanted = [
                    value for each in parameter.when if each.parent == named_by for value in each.values
                ]
                if not wanted and named_by in parameters:
                    wanted = parameters[named_by].domain.widened().edges()
                wanted = wanted or [self._fixed_value(named_by)]
                fitting = [value for value in wanted if {*owners} & {*str(value).split("+")}]
                if others := [value for value in wanted if value not in fitting]:
                    listed = ", ".join(f'"{value}"' for value in fitting or owners)
                    self._problem(
                        f"space.{name}",
                        f"must be searched only where {named_by} has it, got {shown(others[0])}; "
                        f'add when = {{ "{named_by}" = [{listed}] }}',
                    )

    def _parameter(self, name: str, entry: dict[str, Any]) -> Parameter | None:
        key = f"space.{name}"
        known = _RANGE_KEYS | _PRIOR_KEYS
        unknown = sorted(set(entry) - known)
        if unknown:
            self._problem(f"{key}.{unknown[0]}", f"unknown key; {suggestion(unknown[0], known)}")
            return None
        domain: Domain | None = (
            self._choice(key, entry) if "choices" in entry else self._range(key, name, entry)
        )
        conditions = self._conditions(key, entry.get("when", {}))
        if domain is not None and "original_range" in entry:
            domain = self._with_original_range(key, domain, entry["original_range"])
        if domain is None or not self._edges_are_valid(key, name, domain.widened()):
            return None
        return self._with_prior(key, Parameter(name, domain, conditions), entry)

    def _with_prior(self, key: str, parameter: Parameter, entry: dict[str, Any]) -> Parameter | None:
        """Return the parameter with what is known of it beforehand."""
        prior, confidence = entry.get("prior"), entry.get("confidence", "medium")
        if confidence not in ("low", "medium", "high"):
            self._problem(f"{key}.confidence", f"must be low, medium or high, got {shown(confidence)}")
        elif prior is None and "confidence" in entry:
            self._problem(
                f"{key}.confidence", f"must be in a prior, got {shown(confidence)} without one; add prior"
            )
        elif prior is None:
            return parameter
        elif not _is_plain(prior) or not parameter.domain.narrowed().contains(prior):
            self._problem(
                f"{key}.prior",
                f"must be a value that can be drawn ({parameter.domain}), got {shown(prior)}; change it, or the range",
            )
        else:
            return replace(parameter, prior=prior, confidence=confidence)
        return None

    def _choice(self, key: str, entry: dict[str, Any]) -> Choice | None:
        choices = entry["choices"]
        if not isinstance(choices, list) or not choices:
            self._problem(f"{key}.choices", f"must be a list with at least one value, got {shown(choices)}")
        elif len(choices) > _MAX_CHOICES:
            self._problem(
                f"{key}.choices",
                f"must be at most {_MAX_CHOICES} values, got {len(choices)}; give low and high",
            )
        elif not all(map(_is_plain, choices)):
            self._problem(f"{key}.choices", f"must hold plain values, got {shown(choices)}")
        elif len({(type(choice), choice) for choice in choices}) < len(choices):
            self._problem(f"{key}.choices", f"must hold each value once, got {shown(choices)}")
        elif beside := sorted(set(entry) & {"low", "high", "log", "step"}):
            self._problem(
                key, f"must have either choices or a range, got choices and {beside[0]}; remove one"
            )
        else:
            return Choice(tuple(choices))
        return None

    def _with_original_range(self, key: str, domain: Domain, original_range: Any) -> Domain | None:
        """Return the domain as a part of a wider one."""
        if isinstance(domain, Choice):
            wider = self._choice(f"{key}.original_range", {"choices": original_range})
            if wider is not None and not all(wider.contains(choice) for choice in domain.choices):
                self._problem(
                    f"{key}.original_range", f"must hold every one of choices, got {shown(original_range)}"
                )
            return None if wider is None else Choice(domain.choices, wider.choices)
        integer = isinstance(domain, IntRange)
        if (
            not isinstance(original_range, list)
            or len(original_range) != 2
            or not all(_is_number(v, integer=integer) for v in original_range)
        ):
            self._problem(
                f"{key}.original_range",
                f"must be the lowest and the highest value before, got {shown(original_range)}",
            )
            return None
        low, high = original_range
        steps = (domain.low - low) / (domain.step or 1)
        if not low <= domain.low < domain.high <= high or (domain.log and low <= 0):
            self._problem(
                f"{key}.original_range",
                f"must reach from at most low to at least high, got {shown(original_range)} for {domain}",
            )
        elif domain.step is not None and abs(steps - round(steps)) > 1e-8:
            self._problem(
                f"{key}.original_range",
                f"must begin whole steps below low, got {shown(original_range)} for {domain}",
            )
        elif isinstance(domain, IntRange):
            return replace(domain, original_range=(low, high))
        else:
            return replace(domain, original_range=(float(low), float(high)))
        return None

    def _range(self, key: str, name: str, entry: dict[str, Any]) -> FloatRange | IntRange | None:
        before = len(self._problems)
        integer = self._config_fields[name][0] is int
        kind = "an integer" if integer else "a number"
        for bound in ("low", "high", "step"):
            value = entry.get(bound)
            if value is None and bound != "step":
                self._problem(f"{key}.{bound}", f"must be given as {kind}; or give choices")
            elif value is not None and not _is_number(value, integer=integer):
                self._problem(f"{key}.{bound}", f"must be {kind}, got {shown(value)}")
        log = entry.get("log", False)
        if not isinstance(log, bool):
            self._problem(f"{key}.log", f"must be true or false, got {shown(log)}")
        if len(self._problems) > before:
            return None
        return self._checked_range(key, entry, log=log, integer=integer)

    def _checked_range(
        self, key: str, entry: dict[str, Any], *, log: bool, integer: bool
    ) -> FloatRange | IntRange | None:
        low, high, step = entry["low"], entry["high"], entry.get("step")
        if low >= high:
            self._problem(key, f"low must be below high, got low={low} high={high}; swap or widen them")
        elif log and low <= 0:
            self._problem(key, f"low must be above 0 on a log scale, got low={low}; raise it or remove log")
        elif log and step is not None:
            self._problem(key, f"step and log exclude each other, got step={step} log=true; remove one")
        elif step is not None and not 0 < step <= (high - low) * (1 + _ROUNDING):
            self._problem(
                key, f"step must be above 0 and at most high - low, got step={step} high-low={high - low:g}"
            )
        elif integer:
            return IntRange(low, high, log=log, step=step or 1)
        else:
            return FloatRange(float(low), float(high), log=log, step=None if step is None else float(step))
        return None

    def _conditions(self, key: str, when: Any) -> tuple[Condition, ...]:
        if not isinstance(when, dict):
            self._problem(
                f"{key}.when", f'must be a table like {{ "optimizer.name" = ["sgd"] }}, got {shown(when)}'
            )
            return ()
        conditions = []
        for parent, values in entries(when):
            listed = values if isinstance(values, list) else [values]
            if not 0 < len(listed) <= _MAX_CHOICES or not all(map(_is_plain, listed)):
                self._problem(
                    f"{key}.when.{parent}",
                    f"must be a list of 1 to {_MAX_CHOICES} numbers, texts or truth values, got {shown(values)}",
                )
                continue
            conditions.append(Condition(parent, tuple(listed)))
        return tuple(conditions)

    def _edges_are_valid(self, key: str, name: str, domain: Domain) -> bool:
        if name.startswith("model.") and not self._model_name:
            return True
        owner = {named_by: owners[0] for named_by, owners in option_owners(name).items()}
        for edge in domain.edges():
            try:
                TrialConfig.model_validate(nested({**self._model_name, **owner, name: edge}))
            except ValidationError as error:
                item = error.errors()[0]
                if item["type"] == "value_error":  # a rule over several keys: others of the point decide
                    continue
                self._problem(key, rule_of(item, {}))
                return False
        return True

    def _resolve_conditions(self, parameters: dict[str, Parameter]) -> dict[str, Parameter]:
        """Settle conditions on keys that are not searched; drop parameters whose condition can never hold."""
        resolved = dict(parameters)
        for name in list(parameters):
            open_conditions: list[Condition] = []
            for condition in parameters[name].when:
                if condition.parent in resolved and condition.parent != name:
                    self._check_condition(name, condition, resolved[condition.parent])
                    open_conditions.append(condition)
                elif condition.parent not in self._config_fields or condition.parent == name:
                    others = [other for other in self._config_fields if other != name]
                    self._problem(
                        f"space.{name}.when.{condition.parent}",
                        f"unknown parameter; {suggestion(condition.parent, others)}",
                    )
                elif not condition.holds({condition.parent: self._fixed_value(condition.parent)}):
                    resolved.pop(name, None)
            if name in resolved:
                resolved[name] = replace(parameters[name], when=tuple(open_conditions))
        if len(resolved) < len(parameters):  # a dropped parameter can be another one's condition
            return self._resolve_conditions(
                {name: p for name, p in resolved.items() if all(c.parent in resolved for c in p.when)}
            )
        return resolved

    def _fixed_value(self, name: str) -> Value:
        table, _, leaf = name.partition(".")
        config = TrialConfig.model_validate(nested({**self._model_name, **self._fixed}))
        section = getattr(config, table)
        if leaf.startswith("options."):
            found: Any = getattr(section, "options", {})
            for part in leaf.split(".")[1:]:
                found = found.get(part, "") if isinstance(found, Mapping) else ""
            option: Value = "" if isinstance(found, Mapping) else found
            return option
        value: Value = getattr(section, leaf, "")  # of an unknown model there is none
        return value

    def _check_condition(self, name: str, condition: Condition, parent: Parameter) -> None:
        for value in condition.values:
            if not parent.domain.widened().contains(value):
                self._problem(
                    f"space.{name}.when.{condition.parent}",
                    f"must name values that {condition.parent} can take ({parent.domain}), got {shown(value)}",
                )

    def _ordered(self, parameters: dict[str, Parameter]) -> SearchSpace:
        """Return the parameters in file order, each moved behind those that its conditions name."""
        ordered: dict[str, Parameter] = {}
        waiting = dict(parameters)
        while waiting:
            ready = [p for p in waiting.values() if all(c.parent in ordered for c in p.when)]
            if not ready:
                self._problem(
                    f"space.{next(iter(waiting))}.when",
                    f"must not go in a circle, got {' -> '.join(waiting)}",
                )
                break
            for parameter in ready:
                ordered[parameter.name] = waiting.pop(parameter.name)
        return SearchSpace(tuple(ordered.values()))

    def points(self, enqueue: Any, space: SearchSpace) -> tuple[dict[str, Value], ...]:
        """Return the enqueued points, without keys that are not searched."""
        if not isinstance(enqueue, list) or any(not isinstance(point, dict) for point in enqueue):
            self._problem("enqueue", f"must be a list of tables, got {shown(enqueue)}; write [[enqueue]]")
            return ()
        if len(enqueue) > _MAX_POINTS:
            self._problem("enqueue", f"must be at most {_MAX_POINTS} points, got {len(enqueue)}; remove some")
            return ()
        points = [self._point(index, dict(entries(point)), space) for index, point in enumerate(enqueue)]
        return tuple(point for point in points if point)

    def _point(self, index: int, point: dict[str, Any], space: SearchSpace) -> dict[str, Value]:
        kept = {}
        for name, value in point.items():
            key = f"enqueue[{index}].{name}"
            if name in space:
                if not _is_plain(value) or not space[name].domain.widened().contains(value):
                    self._problem(key, f"must lie in the space ({space[name].domain}), got {shown(value)}")
                kept[name] = value
            elif name not in self._config_fields:
                self._problem(key, f"unknown parameter; {remedy_for(name, name, self._config_fields)}")
            elif not self._overrides and not self._problems:
                self._problem(
                    key, f"must be a parameter of the space, got {shown(value)}; remove it or search it"
                )
        return {
            name: value
            for name, value in kept.items()
            if all(c.parent not in kept or c.holds(kept) for c in space[name].when)
        }


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)


def entries(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and value of every entry of nested tables; a table with a range counts as a value."""
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and not (set(value) & {*_RANGE_KEYS, *RENAMED_IN_RANGES}):
            yield from entries(value, f"{name}.")
        else:
            yield name, value


def _listed_in(entry: Mapping[str, Any]) -> list[Any]:
    choices = entry.get("choices")
    return choices if isinstance(choices, list) else []


def _is_number(value: Any, *, integer: bool) -> bool:
    allowed = (int,) if integer else (int, float)
    return (
        isinstance(value, allowed)
        and not isinstance(value, bool)
        and value == value
        and abs(value) != float("inf")
    )
