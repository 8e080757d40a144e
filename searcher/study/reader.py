"""Reading study files: TOML text to a validated `StudySpec`, with every problem reported at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.pipeline_file import is_content, pipeline_text
from searcher.exceptions import StudyFileError
from searcher.models.parts import KINDS
from searcher.study.config import DEFAULT_MODEL, TrialConfig
from searcher.study.config_keys import config_fields
from searcher.study.objectives import CLASS_METRICS
from searcher.study.parts import SAMPLERS
from searcher.study.plugin_names import PLUGINS, each_once, load_named, study_folder
from searcher.study.problems import Problems
from searcher.study.renamed_keys import with_new_names
from searcher.study.rerank import CANDIDATE
from searcher.study.space import Choice, Parameter, SearchSpace, Value
from searcher.study.space_reader import SpaceReader, entries
from searcher.study.spec import (
    ParentSection,
    PrunerSection,
    ResourcesSection,
    SearchSection,
    StudySection,
    StudySpec,
    flat,
    nested,
)
from searcher.study.toml_text import TomlError, read_toml, shown, toml_value
from searcher.study.warm_bundle import with_bundle
from searcher.suggestions import suggestion

__all__ = ["parse_study", "parse_value", "setting_words"]

_MAX_KEY_PARTS = 32

_SECTIONS: dict[str, type[BaseModel]] = {
    "study": StudySection,
    "search": SearchSection,
    "pruner": PrunerSection,
    "resources": ResourcesSection,
}


def parse_study(
    text: str,
    *,
    source: str,
    origin: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    stored: bool = False,
) -> StudySpec:
    """Return the study in the text of a study file, with the command line's values applied.

    The plug-ins that the file names are imported first, because they add models and other parts with keys of their own.
    If the command line sets a searched parameter, the parameter is fixed: it leaves the space and the enqueued points.

    Args:
        text: Content of the study file, TOML.
        source: Name of the file in messages.
        origin: Path or name with which the file is found again, see `StudySpec.origin`; None for `source`.
        overrides: Values of the command line by dotted key, such as {"train.epochs": 3}; None for none. `plugins` are
            added to the file's.
        stored: Whether the text comes from the database; see `load_named`.

    Raises:
        StudyFileError: The file is invalid; one line for each problem.
    """
    try:
        document = read_toml(text)
    except TomlError as error:
        raise StudyFileError([f"{source}: {problem}" for problem in error.problems]) from None
    given = dict(entries(overrides or {}))
    problems = Problems(source, given)
    overrides = with_new_names(document, given, problems, stored=stored)
    problems.overrides = overrides
    _apply(overrides, document, problems)
    _check_table_names(document, problems)
    plugins = load_named(document, origin or source, problems, stored=stored)
    if problems.mention(PLUGINS):  # which keys there are depends on them
        raise StudyFileError(problems.lines)
    pinned = _with_pipeline(document, origin or source, problems, stored=stored)
    pinned |= with_bundle(document, origin or source, problems, stored=stored)
    sections = {name: _section(name, model, document, problems) for name, model in _SECTIONS.items()}
    fixed = _fixed(document, problems)
    parent = _section("parent", ParentSection, document, problems) if "parent" in document else None
    reader = SpaceReader(problems, fixed, overrides, model=_model_name(document))
    space = reader.space(_table("space", document, problems))
    _check_parts_are_named(fixed, space, problems)
    points = reader.points(document.get("enqueue", []), space)
    if parent is not None and parent.how == "rerank" and "space" in document:
        problems.add(
            "space", "must not be given to train trials again as they were; remove it, or refine instead"
        )
    if parent is not None and parent.how == "rerank":
        if _table("pruner", document, problems).get("name", "none") != "none":
            problems.add(
                "pruner.name",
                "must be none for a rerank, whose means need every run whole, "
                f"got {shown(_table('pruner', document, problems)['name'])}; remove it",
            )
        folds = fixed.get("data.folds", 0)
        if parent.replicate == "fold" and isinstance(folds, int) and 0 < folds < parent.replicates:
            problems.add(
                "parent.replicates",
                f"must be at most data.folds, {folds}, got {parent.replicates}; raise data.folds",
            )
        given = _table("study", document, problems).get("trials", _runs(parent))
        if given != _runs(parent):
            problems.add(
                "study.trials",
                f"must not be given for a rerank, whose trials are candidates times replicates, {_runs(parent)}, "
                f"got {shown(given)}; set parent.best or parent.replicates",
            )
    if not problems:
        _check_classes_are_learned(sections["study"], fixed, problems)
    if not problems and sections["study"].secondary_objectives:
        sampler = sections["search"].sampler
        if not SAMPLERS[sampler].several_objectives:
            problems.add(
                "search.sampler",
                f"must know several objectives, got {sampler!r}; take fast-gp, tpe, gp, qmc or random",
            )
    search = sections["search"]
    if search is not None and search.stop_if_gain_below:
        several = bool(sections["study"] and sections["study"].secondary_objectives)
        how = None if parent is None else parent.how
        if several or how == "rerank" or (not space.parameters and how != "refine"):
            problems.add(
                "search.stop_if_gain_below",
                f"must be for a search by one objective, got {search.stop_if_gain_below:g} for "
                f"{'several objectives' if several else 'a study that searches nothing'}; remove it",
            )
    if problems and stored:
        _say_what_is_gone(plugins, problems)
    if problems:
        raise StudyFileError(problems.lines)
    if parent is not None and parent.how == "rerank":
        if parent.candidates:
            space, points = _again(parent)
        sections["study"] = sections["study"].model_copy(update={"trials": _runs(parent)})
        sections["pruner"] = PrunerSection(name="none")
    return StudySpec(
        source=source,
        origin=origin or source,
        text=text,
        overrides=overrides | pinned,
        fixed=fixed,
        space=space,
        enqueue=points,
        parent=parent,
        plugins=plugins,
        **sections,
    )


def parse_value(text: str) -> Any:
    """Return the value in `KEY=VALUE` of the command line: a TOML value, or the text itself if it is none."""
    try:
        document = read_toml(f"value = {text}")
    except TomlError:
        return text
    return document["value"] if len(document) == 1 else text  # more: a line's end, and another key behind it


def _with_pipeline(
    document: dict[str, Any], origin: str, problems: Problems, *, stored: bool
) -> dict[str, Value]:
    """Put the content of the file that `augment.pipeline` names in its place, and return it as an override.

    As an override it is stored with the study. So trials keep their first content if the file changes.
    """
    table, key = document.get("augment"), "augment.pipeline"
    named = table.get("pipeline") if isinstance(table, dict) else None
    if not isinstance(table, dict) or not isinstance(named, str) or not named:
        return {}
    folder = Path.cwd() if key in problems.overrides else study_folder(origin)
    try:
        content = named if is_content(named) else pipeline_text(folder / Path(named).expanduser())
        if not stored:
            from searcher.data_pipeline.pipeline import (
                check_pipeline,  # albumentations takes seconds to import
            )

            check_pipeline(content)
    except DataError as error:
        for problem in error.problems:
            problems.add(key, problem)
        del table["pipeline"]
        return {}
    table["pipeline"] = content
    return {key: content}


def _check_classes_are_learned(study: StudySection, fixed: Mapping[str, Any], problems: Problems) -> None:
    """Refuse a metric of classes as an objective where none are learned."""
    for key, names in (
        ("objective", [study.objective]),
        ("secondary_objectives", study.secondary_objectives),
    ):
        of_classes = [name for name in names if name in CLASS_METRICS]
        if of_classes and not fixed.get("data.learn_classes", False):
            problems.add(
                f"study.{key}",
                f"must be metrics that are measured, got {of_classes[0]}, which needs data.learn_classes = true; "
                "set that, or take another metric",
            )


def _runs(parent: ParentSection) -> int:
    """Return how many trials a rerank has."""
    return (len(parent.candidates) or parent.best) * parent.replicates


def setting_words(settings: Mapping[str, Value]) -> list[str]:
    """Return the words of a command line that set these keys, such as `--set` and `train.epochs=3`."""
    return [word for key, value in settings.items() for word in ("--set", f"{key}={_typed(value)}")]


def _typed(value: Value) -> str:
    """Return what to write after `=` so that `parse_value` reads this value."""
    if isinstance(value, str) and parse_value(value) == value:
        return value
    return toml_value(value)  # in quotes, what reads like a number, say


def _again(parent: ParentSection) -> tuple[SearchSpace, tuple[dict[str, Value], ...]]:
    """Return the space of a rerank and all of its points: first every candidate once, then every one twice, ..."""
    numbers = tuple(candidate.trial for candidate in parent.candidates)
    key = "data.fold" if parent.replicate == "fold" else "train.seed"
    runs = (
        tuple(range(parent.replicates))
        if parent.replicate == "fold"
        else tuple(range(1, parent.replicates + 1))
    )
    space = SearchSpace((Parameter(CANDIDATE, Choice(numbers)), Parameter(key, Choice(runs))))
    return space, tuple({CANDIDATE: number, key: run} for run in runs for number in numbers)


def _apply(overrides: Mapping[str, Any], document: dict[str, Any], problems: Problems) -> None:
    """Write the overrides into the document, as if they were in the file."""
    for key, value in overrides.items():
        own = document.get(key, [])
        if key == PLUGINS and isinstance(own, list) and isinstance(value, list):
            document[key] = each_once(own, value)
            continue
        *tables, leaf = key.split(".")
        if len(tables) >= _MAX_KEY_PARTS:
            problems.add(key[:40], f"must be a key of at most {_MAX_KEY_PARTS} parts, got {len(tables) + 1}")
            continue
        node = document
        for table in tables:
            node = node.setdefault(table, {})
            if not isinstance(node, dict):
                problems.add(key, f"unknown key, got {shown(value)}; {table} holds a value, not a table")
                break
        else:
            node[leaf] = value


def _say_what_is_gone(plugins: Sequence[str], problems: Problems) -> None:
    """Name the plug-ins that a stored study lacks here, whose parts are unknown names then."""
    for path in plugins:
        if "/" in path and not Path(path).exists():
            problems.add(
                PLUGINS,
                f"must be where the study found it, got no {path}; put it back, or give --plugin FILE",
            )


def _check_table_names(document: dict[str, Any], problems: Problems) -> None:
    known = [*_SECTIONS, *TrialConfig.model_fields, "parent", "space", "enqueue", PLUGINS]
    for name in set(document).difference(known):
        value = document[name]
        got = "a table" if isinstance(value, dict) else shown(value)
        from_command_line = [key for key in problems.overrides if key.partition(".")[0] == name]
        where = from_command_line[0] if from_command_line else name
        problems.add(where, f"unknown table {name}, got {got}; {suggestion(name, known)}")


def _table(name: str, document: dict[str, Any], problems: Problems) -> dict[str, Any]:
    table = document.get(name, {})
    if isinstance(table, dict):
        return table
    problems.add(name, f"must be a table, got {shown(table)}; write [{name}]")
    return {}


def _check_parts_are_named(fixed: Mapping[str, Value], space: SearchSpace, problems: Problems) -> None:
    """Note settings of parts that no trial has; such settings are left out of a trial whose parts are others."""
    given = {key.split(".")[2] for key in fixed if key.startswith("model.options.")}
    if not given:
        return
    settings = TrialConfig.model_validate(nested(fixed)).model
    for part in sorted(given):
        keys = [f"model.{field}" for field, registry in KINDS.items() if part in registry.names()]
        said = [value for key in keys if key in space for value in space[key].domain.widened().edges()]
        said += [getattr(settings, key.partition(".")[2], "") for key in keys if key not in space]
        if not any(part in str(value).split("+") for value in said):
            problems.add(
                f"model.options.{part}",
                f"must be of a part that the study names, got settings of {part!r}, which {' or '.join(keys)} does not "
                "name; name it, or remove them",
            )


def _section(name: str, model: type[BaseModel], document: dict[str, Any], problems: Problems) -> Any:
    fields = {name: {field: info.description or "" for field, info in model.model_fields.items()}}
    try:
        return model.model_validate(_table(name, document, problems))
    except ValidationError as error:
        problems.add_validation(error, fields, prefix=name)
        return None


def _model_name(document: dict[str, Any]) -> str:
    table = document.get("model")
    return str(table.get("name", DEFAULT_MODEL)) if isinstance(table, dict) else DEFAULT_MODEL


def _fixed(document: dict[str, Any], problems: Problems) -> dict[str, Value]:
    """Return the configuration keys that the document sets, without those that are wrong."""
    tables = {name: _table(name, document, problems) for name in TrialConfig.model_fields}
    fields: dict[str, dict[str, str]] = {}
    for key, (_, description) in config_fields(_model_name(document)).items():
        table, _, leaf = key.rpartition(".")
        fields.setdefault(table, {})[leaf] = description
    try:
        TrialConfig.model_validate(tables)
    except ValidationError as error:
        problems.add_validation(error, fields)
        return {}
    return flat(tables)
