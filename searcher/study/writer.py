"""Writing study files: what `parse_study` reads, laid out for people."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from searcher.study.space import Choice, Parameter, SearchSpace
from searcher.study.spec import StudySpec
from searcher.study.toml_text import toml_value

__all__ = ["write_study"]


def write_study(
    spec: StudySpec, *, header: Sequence[str] = (), reasons: Mapping[str, str] | None = None
) -> str:
    """Return the text of a study file that describes a study.

    Args:
        spec: The study. Its original text and the command line's values are already included in it.
        header: Comment lines at the top.
        reasons: Comments above searched parameters, by name; a line break starts another comment line. None for none.
    """
    lines = [f"# {line}".rstrip() for line in header]
    if spec.plugins:
        lines += ["", f"plugins = {toml_value([*spec.plugins])}"]
    sections = {
        "study": spec.study,
        "parent": spec.parent,
        "search": spec.search,
        "pruner": spec.pruner,
        "resources": spec.resources,
    }
    for name, section in sections.items():
        if section is not None:
            lines += _table(name, section.model_dump(exclude_defaults=True))
    for table, entries in groupby(spec.fixed.items(), key=lambda item: item[0].rpartition(".")[0]):
        lines += _table(table, {key.rpartition(".")[2]: value for key, value in entries})
    if spec.has_own_space:
        lines += _space(spec.space, reasons or {})
        for point in spec.enqueue:
            lines += ["", "[[enqueue]]", *(f"{key} = {toml_value(value)}" for key, value in point.items())]
    return "\n".join(lines).strip() + "\n"


def _table(name: str, entries: Mapping[str, Any]) -> list[str]:
    if not entries:
        return []
    return ["", f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in entries.items())]


def _space(space: SearchSpace, reasons: Mapping[str, str]) -> Iterator[str]:
    by_table: dict[str, list[Parameter]] = {}
    for parameter in space.parameters:
        by_table.setdefault(parameter.name.rpartition(".")[0], []).append(parameter)
    for table, parameters in by_table.items():
        yield ""
        yield f"[space.{table}]"
        for parameter in parameters:
            if parameter.name in reasons:
                yield from (f"# {line}" for line in reasons[parameter.name].splitlines())
            yield f"{parameter.name.rpartition('.')[2]} = {toml_value(_entry(parameter))}"


def _entry(parameter: Parameter) -> dict[str, Any]:
    domain = parameter.domain
    entry: dict[str, Any]
    if isinstance(domain, Choice):
        entry = {"choices": list(domain.choices)}
    else:
        entry = {"low": domain.low, "high": domain.high}
        if domain.log:
            entry["log"] = True
        elif domain.step not in (None, 1) or isinstance(domain.step, float):
            entry["step"] = domain.step
    if domain.original_range is not None:
        entry["original_range"] = list(domain.original_range)
    if parameter.prior is not None:
        entry["prior"] = parameter.prior
        if parameter.confidence != "medium":
            entry["confidence"] = parameter.confidence
    if parameter.when:
        entry["when"] = {condition.parent: list(condition.values) for condition in parameter.when}
    return entry
