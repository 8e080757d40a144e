"""What a study takes from its parent's results, once, when it begins. Later changes of the parent have no effect."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from searcher.exceptions import StudyConflictError, UserError
from searcher.ledger.checkpoint_files import damage_of
from searcher.ledger.database import Database
from searcher.ledger.ranking import best_trial
from searcher.ledger.records import StudyRecord, TrialRecord
from searcher.ledger.stored import stored_spec
from searcher.lineage.chain import parent_name
from searcher.lineage.importance import importances
from searcher.storage.mirror import root_text
from searcher.storage.object_store import below
from searcher.study.derive import as_stored, finetuned, inherited, refined, reranked
from searcher.study.objectives import Objective
from searcher.study.reader import setting_words
from searcher.study.refine import Refinement, Tried, refine
from searcher.study.spec import Candidate, StudySpec

__all__ = [
    "Narrowing",
    "ParentStudy",
    "check_beginning",
    "importances_of",
    "is_enough",
    "narrow",
    "read_parent_study",
    "resolve",
]


@dataclass(frozen=True, kw_only=True)
class ParentStudy:
    """A launched study from which another one is derived, with its trials."""

    spec: StudySpec
    """As its last launch had it."""
    record: StudyRecord
    trials: Sequence[TrialRecord]

    @property
    def complete(self) -> list[TrialRecord]:
        """The COMPLETE trials with a value, the best first."""
        objective = Objective(self.record.objective)
        complete = [each for each in self.trials if each.state == "COMPLETE" and each.value is not None]
        return sorted(complete, key=lambda each: (objective.cost(each.value or 0.0), each.number))


def read_parent_study(database: Database, name: str) -> ParentStudy:
    """Return a study from the database as a parent.

    Raises:
        UnknownStudyError: There is no such study.
        StudyFileError: This version of searcher cannot read its stored file.
    """
    return ParentStudy(
        spec=stored_spec(database.study_row(name)), record=database.study(name), trials=database.trials(name)
    )


def resolve(spec: StudySpec, database: Database | None, *, storage_root: Path) -> StudySpec:
    """Return a study completed with everything that it takes from its parent; unchanged if there is nothing to take.

    Args:
        spec: The study file, with the command line's values.
        database: The study database; None if it does not exist yet.
        storage_root: Folder of the storage root on this machine, for this study's checkpoints.

    Raises:
        UserError: The parent was not launched, is another kind of study, or has too few COMPLETE or usable trials. Or
            its checkpoint is gone.
        StudyFileError: Study and parent contradict each other.
    """
    if spec.parent is None:
        return spec
    if database is not None and spec.name in database.study_names():
        row = database.study_row(spec.name)
        _check_same_parent(spec, row.parent_study)
        return as_stored(spec, stored_spec(row))
    parent = _launched_parent(spec, database)
    named = spec.parent.model_copy(update={"study": parent.record.name})  # a file is known by it from now on
    spec = replace(spec, parent=named)
    _check_kind(spec, parent)
    _check_enough(spec, parent)
    if not spec.is_open:
        return inherited(spec, parent.spec) if named.how == "refine" else spec
    if named.how == "refine":
        return narrow(parent).study(spec)
    if named.how == "rerank":
        return _reranked(spec, parent)
    return _finetuned(spec, parent, storage_root)


def is_enough(spec: StudySpec, database: Database | None) -> bool:
    """Return whether a study's parent has enough COMPLETE trials; True for a study without a parent."""
    if spec.parent is None:
        return True
    name = parent_name(spec)
    if database is None or name not in database.study_names():
        return False
    return len(read_parent_study(database, name).complete) >= spec.parent.needed


def check_beginning(
    spec: StudySpec, database: Database | None, *, storage_root: Path, data_fingerprint: str
) -> None:
    """Check that a resolved study can begin: with its parent's data, and with an intact checkpoint to start from.

    A parent that was deleted is not checked.

    Args:
        spec: The resolved study.
        database: The study database; None where there is none yet.
        storage_root: Folder of the storage root on this machine.
        data_fingerprint: Fingerprint of the data of this launch.

    Raises:
        StudyConflictError: The data differ from the parent's.
        UserError: The checkpoint is missing or damaged.
    """
    if spec.parent is not None and database is not None and spec.parent.study in database.study_names():
        row = database.study_row(spec.parent.study)
        if row.data_fingerprint != data_fingerprint:
            raise StudyConflictError(
                f"{spec.source}: the data must be those of the parent {row.name}, {row.data_source} "
                f"({row.data_fingerprint[:12]}), got others ({data_fingerprint[:12]}); launch with the same --data"
            )
    sha256 = str(spec.fixed.get("warm_start.sha256", ""))
    if not sha256 or spec.fixed.get("warm_start.bundle"):
        return
    record = None if database is None else database.checkpoint_with(sha256)
    damage = "none in the database" if record is None else damage_of(storage_root, record)
    if damage is not None:
        where = "" if record is None else f" {record.uri}"
        raise UserError(
            f"{spec.source}: warm_start.sha256 must be that of a whole checkpoint, got {sha256[:12]}…{where}: "
            f"{damage}; restore it, or name another one"
        )


def _tried(trials: Sequence[TrialRecord]) -> list[Tried]:
    """Return trials as `refine` looks at them."""
    return [
        Tried(number=each.number, params=each.params, value=each.value if each.state == "COMPLETE" else None)
        for each in trials
        if each.state in ("COMPLETE", "PRUNED")
    ]


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """A parent's space narrowed to its best trials, and the importance of each parameter."""

    parent: ParentStudy
    refinement: Refinement
    importances: Mapping[str, float]
    """Importance by parameter; unknown ones are left out."""

    def study(self, template: StudySpec, *, header: Sequence[str] = ()) -> StudySpec:
        """Return the narrowed study, with a comment on each parameter: its old range, importance and reason.

        Args:
            template: Settings that differ from the parent.
            header: Comment lines at the top of the file.
        """
        reasons = {}
        for each in self.refinement.parameters:
            share = self.importances.get(each.name)
            importance = "" if share is None else f" Importance {share:.2f}."
            reasons[each.name] = f"was {each.old}.{importance}\n{each.reason}"
        incumbent = self.parent.complete[0].params
        return refined(
            template, self.parent.spec, self.refinement, incumbent=incumbent, reasons=reasons, header=header
        )


def narrow(parent: ParentStudy) -> Narrowing:
    """Return a study's search space narrowed to its best trials, with the importance of each parameter.

    Raises:
        UserError: The study has no COMPLETE trial, or searched no parameter.
    """
    name, space = parent.record.name, parent.spec.space
    if not parent.complete:
        raise UserError(
            f"{name}: must have COMPLETE trials to refine, got none of {parent.record.num_done} done; launch it again "
            "with more trials"
        )
    if not space.parameters or (parent.spec.parent is not None and parent.spec.parent.how == "rerank"):
        raise UserError(f"{name}: must have searched something to refine, got no space; choose another study")
    trials, objective = _tried(parent.trials), Objective(parent.record.objective)
    return Narrowing(
        parent=parent,
        refinement=refine(space, trials, objective, model=parent.spec.trial_config({}).model.name),
        importances=importances_of(parent),
    )


def importances_of(study: ParentStudy) -> dict[str, float]:
    """Return the importance of each searched parameter, see `importances`."""
    return importances(study.spec.space, _tried(study.trials), Objective(study.record.objective).direction)


def _launched_parent(spec: StudySpec, database: Database | None) -> ParentStudy:
    name = parent_name(spec)
    if database is None or name not in database.study_names():
        where = (
            "which is not in the database"
            if database is not None
            else "but there is no database of this version"
        )
        raise UserError(
            f"{spec.source}: parent.study must have been launched, got {name}, {where}; launch it first, or this one "
            "with --with-parents"
        )
    return read_parent_study(database, name)


def _check_same_parent(spec: StudySpec, began_from: str | None) -> None:
    try:
        name = parent_name(spec)
    except UserError:  # its file is gone: what was taken from it is in the database
        return
    if began_from is not None and name != began_from:
        raise StudyConflictError(
            f"{spec.source}: parent.study must stay the one that {spec.name} began from, {began_from}, got {name}; "
            "change it back, or begin another study with --set study.name=NAME"
        )


def _check_kind(spec: StudySpec, parent: ParentStudy) -> None:
    assert spec.parent is not None
    models = [study.trial_config({}).model.name for study in (spec, parent.spec)]
    if models[0] != models[1]:
        raise StudyConflictError(
            f"{spec.source}: model.name must be the parent's, {models[1]} of {parent.record.name}, got {models[0]}; "
            "choose a parent with the same model"
        )
    if (
        spec.parent.how != "finetune"
        and parent.spec.parent is not None
        and parent.spec.parent.how == "rerank"
    ):
        raise StudyConflictError(
            f"{spec.source}: parent.study must have searched something, got the rerank {parent.record.name}; "
            "name the study that it reranks"
        )
    if (
        spec.parent.how == "rerank"
        and spec.parent.replicate == "fold"
        and parent.spec.fixed.get("warm_start.sha256")
    ):
        raise StudyConflictError(
            f"{spec.source}: parent.replicate must be seed for a parent that was fine-tuned, got fold for "
            f"{parent.record.name}: other folds would validate on images that its checkpoint was trained on"
        )
    if spec.parent.how != "finetune" and spec.study.objective != parent.record.objective:
        raise StudyConflictError(
            f"{spec.source}: study.objective must be what the parent's trials are ranked by, "
            f"{parent.record.objective} of {parent.record.name}, got {spec.study.objective}; set it likewise"
        )


def _check_enough(spec: StudySpec, parent: ParentStudy) -> None:
    assert spec.parent is not None
    have, need, record = len(parent.complete), spec.parent.needed, parent.record
    if have >= need:
        return
    settings = dict(parent.spec.overrides)
    settings.pop("study.name", None)
    if record.budget - record.num_done < need - have:
        settings["study.trials"] = record.num_done + need - have
    command = shlex.join(["searcher", "launch", "--study", parent.spec.origin, *setting_words(settings)])
    verb = "is" if need - have == 1 else "are"
    raise UserError(
        f"{spec.source}: the parent {record.name} must have {need} COMPLETE trials, got {have} ({record.num_done} of "
        f"{record.budget} trials done), {need - have} {verb} missing; {command}, with this --data, --db and --storage"
    )


def _reranked(spec: StudySpec, parent: ParentStudy) -> StudySpec:
    assert spec.parent is not None
    candidates = [
        Candidate(trial=each.number, value=each.value or 0.0, params=dict(each.params))
        for each in parent.complete[: spec.parent.best]
    ]
    return reranked(spec, parent.spec, candidates)


def _finetuned(spec: StudySpec, parent: ParentStudy, storage_root: Path) -> StudySpec:
    best = best_trial(parent.record, parent.trials)
    assert best is not None
    where = f"{spec.source}: the parent {parent.record.name}, trial {best.number},"
    record = best.checkpoints.get("best")
    if record is None or record.is_removed:
        what = "none" if record is None else "one that was removed to make room"
        raise UserError(f"{where} must have its best checkpoint, got {what}; choose another parent")
    root = root_text(storage_root)
    if parent.record.storage_root != root:
        raise UserError(
            f"{where} must have its checkpoint in this study's storage, got {parent.record.storage_root} beside "
            f"{root}; launch with --storage {parent.record.storage_root}"
        )
    damage = damage_of(storage_root, record)
    if damage is not None:
        raise UserError(
            f"{where} must have its best checkpoint whole, got {below(root, record.uri)}: {damage}; "
            "restore it, or choose another parent"
        )
    config = parent.spec.trial_config(best.params)
    study = finetuned(spec, parent.spec, config, trial=best.number, sha256=record.sha256)
    was, now = config.data.split, study.trial_config({}).data.split
    for key, value in now.items():
        if was.get(key) != value:
            raise UserError(
                f"{spec.source}: data.{key} must be the parent's, {was.get(key)!r}, got {value!r}: "
                "images that it was trained on would validate; remove it"
            )
    return study
