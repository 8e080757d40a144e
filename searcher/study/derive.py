"""What a study takes from its parent: its space, its configurations, or its best checkpoint.

A study file with a `[parent]` inherits all keys that it leaves out. The result is a complete study like any other. It
can be read, kept in the database, and launched again after the parent has changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from searcher.study.config import TrialConfig
from searcher.study.plugin_names import each_once
from searcher.study.reader import parse_study
from searcher.study.refine import Refinement
from searcher.study.space import SearchSpace, Value
from searcher.study.spec import Candidate, ParentSection, StudySpec, flat
from searcher.study.writer import write_study

__all__ = ["as_stored", "finetuned", "inherited", "refined", "reranked"]

_FRESH = ("optimizer", "schedule", "warm_start")
"""Tables that fine-tuning does not take from its parent: it begins with an optimiser of its own."""
_FOLDS = 5
"""Of a rerank whose file says nothing: as many parts as one in five validates."""


def refined(
    template: StudySpec,
    parent: StudySpec,
    refinement: Refinement,
    *,
    incumbent: Mapping[str, Value],
    reasons: Mapping[str, str],
    header: Sequence[str] = (),
) -> StudySpec:
    """Return a study that searches the narrowed space that the parent's best trials suggest.

    Args:
        template: The study file: settings that differ from the parent. Keys that it fixes are not searched.
        parent: The parent study.
        refinement: The narrowed space.
        incumbent: Parameters of the parent's best trial, which is tried first.
        reasons: Reason of each change, by parameter.
        header: Comment lines at the top of the file.

    Raises:
        StudyFileError: Template and parent contradict each other.
    """
    fixed = {key: value for key, value in parent.fixed.items() if key not in template.space} | dict(
        template.fixed
    )
    space = _without(refinement.space, template.fixed)
    point = _fitting(incumbent, space, fixed)
    return _completed(
        template,
        fixed=fixed,
        space=space,
        enqueue=(*template.enqueue, point),
        parent=_parent(template).model_copy(update={"trials": list(refinement.best)}),
        plugins=parent.plugins,
        reasons=reasons,
        header=header,
    )


def reranked(template: StudySpec, parent: StudySpec, candidates: Sequence[Candidate]) -> StudySpec:
    """Return a study that trains some of the parent's trials again, each several times.

    Args:
        template: The study file: settings that differ from the parent.
        parent: The parent study.
        candidates: The parent's trials to train again, the best first.

    Raises:
        StudyFileError: Template and parent contradict each other.
    """
    section = _parent(template)
    fixed = {**parent.fixed, **template.fixed}
    if section.replicate == "fold":
        if "data.folds" not in template.fixed:
            fixed["data.folds"] = max(_FOLDS, section.replicates)
        if "data.split_seed" not in template.fixed:  # not the split that the search has chosen on
            fixed["data.split_seed"] = parent.trial_config({}).data.split_seed + 1
    fixed.pop("data.fold" if section.replicate == "fold" else "train.seed", None)
    trials = [candidate.trial for candidate in candidates]
    return _completed(
        template,
        fixed=fixed,
        space=SearchSpace(()),
        enqueue=(),
        parent=section.model_copy(update={"trials": trials, "candidates": list(candidates)}),
        plugins=parent.plugins,
    )


def finetuned(
    template: StudySpec, parent: StudySpec, config: TrialConfig, *, trial: int, sha256: str
) -> StudySpec:
    """Return a study whose trials start from a checkpoint of the parent.

    The parent's configuration is kept, so images that it validated on are not trained on now. But optimiser and
    learning rate have their defaults, and keys of the study file have priority.

    Args:
        template: The study file: settings that differ from the parent.
        parent: The parent study.
        config: Configuration with which the checkpoint was trained.
        trial: Number of the parent's trial.
        sha256: Digest of the checkpoint.

    Raises:
        StudyFileError: Template and parent contradict each other.
    """
    was = flat(config.model_dump(mode="json", exclude_defaults=True)) | {"model.name": config.model.name}
    kept = {
        key: value
        for key, value in was.items()
        if key.partition(".")[0] not in _FRESH and key not in template.space
    }
    section = _parent(template).model_copy(update={"trials": [trial]})
    fixed = {**kept, **template.fixed, "warm_start.sha256": sha256}
    return _completed(
        template,
        fixed=fixed,
        space=template.space,
        enqueue=template.enqueue,
        parent=section,
        plugins=parent.plugins,
    )


def inherited(template: StudySpec, parent: StudySpec) -> StudySpec:
    """Return a study with the search space of its file, and the parent's values for keys that the file leaves out.

    Args:
        template: The study file, which has a search space.
        parent: The parent study.

    Raises:
        StudyFileError: Template and parent contradict each other.
    """
    fixed = {key: value for key, value in parent.fixed.items() if key not in template.space} | dict(
        template.fixed
    )
    return _completed(
        template,
        fixed=fixed,
        space=template.space,
        enqueue=template.enqueue,
        parent=_parent(template),
        plugins=parent.plugins,
    )


def as_stored(template: StudySpec, stored: StudySpec) -> StudySpec:
    """Return a study with everything that it took from its parent when it began, as the database has it.

    Args:
        template: The study file now.
        stored: The study in the database.

    Raises:
        StudyFileError: The two contradict each other.
    """
    if stored.parent is None or template.parent is None:
        return template
    is_open = template.is_open
    space = (
        _without(stored.space, template.fixed)
        if is_open and not template.space.parameters
        else template.space
    )
    fixed = dict(template.fixed)
    if is_open or template.parent.how == "refine":
        fixed = {key: value for key, value in stored.fixed.items() if key not in space} | fixed
    points = [*template.enqueue]
    if is_open and stored.has_own_space:
        points += [
            point
            for each in stored.enqueue
            if (point := _fitting(each, space, fixed)) not in template.enqueue
        ]
    update: dict[str, object] = {"study": stored.parent.study}
    if is_open:
        update |= {"trials": stored.parent.trials, "candidates": stored.parent.candidates}
    return _completed(
        template,
        fixed=fixed,
        space=space,
        enqueue=points,
        parent=template.parent.model_copy(update=update),
        plugins=stored.plugins,
    )


def _parent(template: StudySpec) -> ParentSection:
    assert template.parent is not None
    return template.parent


def _fitting(point: Mapping[str, Value], space: SearchSpace, fixed: Mapping[str, Value]) -> dict[str, Value]:
    """Return what of a point is still searched, given what is fixed now."""
    known = {**point, **fixed}
    return {
        key: value
        for key, value in point.items()
        if key in space and all(each.parent not in known or each.holds(known) for each in space[key].when)
    }


def _without(space: SearchSpace, fixed: Mapping[str, Value]) -> SearchSpace:
    return SearchSpace(tuple(each for each in space.parameters if each.name not in fixed))


def _completed(
    template: StudySpec,
    *,
    fixed: Mapping[str, Value],
    space: SearchSpace,
    enqueue: Sequence[Mapping[str, Value]],
    parent: ParentSection,
    plugins: Sequence[str],
    reasons: Mapping[str, str] | None = None,
    header: Sequence[str] = (),
) -> StudySpec:
    """Return the template with these parts, read from its text again so that all rules are checked.

    `plugins` are the parent's, which come before its own.
    """
    study = template.study
    if parent.how == "rerank":
        study = study.model_copy(update={"trials": len(parent.candidates) * parent.replicates})
    draft = replace(
        template,
        study=study,
        fixed=dict(sorted(fixed.items())),
        space=space,
        enqueue=tuple(enqueue),
        parent=parent,
        plugins=tuple(each_once(plugins, template.plugins)),
    )
    return parse_study(
        write_study(draft, header=header, reasons=reasons),
        source=template.source,
        origin=template.origin,
        overrides=template.overrides,
    )
