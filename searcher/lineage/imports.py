"""The parent's trials that tell a narrowed search something."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from searcher.exceptions import StudyFileError
from searcher.ledger.database import Database
from searcher.ledger.records import TrialRecord
from searcher.lineage.resolve import read_parent_study
from searcher.study.config import MEANING
from searcher.study.space import Value
from searcher.study.spec import StudySpec

__all__ = ["Imports", "parents_trials"]


@dataclass(frozen=True, kw_only=True)
class Imports:
    """Trials of the parent study that are inside the narrowed space, and a message about them."""

    trials: Sequence[TrialRecord]
    """With the parameters that this study searches."""
    message: str | None
    """For people: how many, or why none."""


def parents_trials(spec: StudySpec, database: Database, *, data_fingerprint: str) -> Imports:
    """Return the parent's COMPLETE and PRUNED trials whose values are valid in this study, too.

    They are trials on the same data, with code that computes values in the same way, and with a configuration that this
    study could choose. The parent's best trial is left out, because this study trains it again.

    Args:
        spec: The study.
        database: Where the parent is.
        data_fingerprint: Fingerprint of this study's data.
    """
    nothing = Imports(trials=(), message=None)
    if spec.parent is None or spec.parent.how != "refine" or not spec.parent.import_trials:
        return nothing
    name = spec.parent.study
    if name not in database.study_names():
        return Imports(
            trials=(), message=f"none of {name}'s trials imported: it is not in the database any more"
        )
    parent = read_parent_study(database, name)
    if parent.record.data_fingerprint != data_fingerprint:
        return Imports(trials=(), message=f"none of {name}'s trials imported: they are of other data")
    if (parent.record.objective, *parent.record.secondary_objectives) != (
        spec.study.objective,
        *spec.study.secondary_objectives,
    ):
        return Imports(trials=(), message=f"none of {name}'s trials imported: they have other objectives")
    if any(each.get("meaning") != str(MEANING) for each in database.versions(name)):
        return Imports(
            trials=(),
            message=f"none of {name}'s trials imported: another version of searcher trained otherwise",
        )
    box = spec.space.narrow()
    incumbents = [dict(point) for point in spec.enqueue]
    found = []
    for trial in parent.trials:
        if trial.state not in ("COMPLETE", "PRUNED"):
            continue
        params = {key: value for key, value in trial.params.items() if key in spec.space}
        if (
            box.contains(params)
            and params not in incumbents
            and _is_same(spec, params, parent.spec, trial.params)
        ):
            found.append(replace(trial, params=params))
    return Imports(
        trials=found, message=f"{len(found)} of {name}'s trials are inside the narrowed space and imported"
    )


def _is_same(
    spec: StudySpec, params: Mapping[str, Value], parent: StudySpec, parents_params: Mapping[str, Value]
) -> bool:
    try:
        ours, theirs = spec.trial_config(params), parent.trial_config(parents_params)
        is_seen_alike = ours.data.normalisation == theirs.data.normalisation
        return is_seen_alike and ours.digest() == theirs.digest()
    except StudyFileError:
        return False
