"""`searcher best`: the best trial of a study, and where its checkpoint lies."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searcher.cli.options import Verbs, add_reading, database_text

if TYPE_CHECKING:
    from searcher.ledger.records import StudyRecord, TrialRecord
    from searcher.study.rerank import Standing

__all__ = ["add_parser", "find_best"]


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser("best", help="show the best trial of a study and its checkpoint")
    add_reading(parser)
    parser.set_defaults(run=_run)


def find_best(args: argparse.Namespace) -> "tuple[StudyRecord, TrialRecord, Path | None]":
    """Return the study that `--study` and `--db` name, its best trial, and where that one's checkpoint lies.

    None for a checkpoint that was never written or was removed.

    Raises:
        UserError: No trial is COMPLETE.
    """
    from searcher.exceptions import UserError
    from searcher.ledger.best import best_trial
    from searcher.ledger.database import Database
    from searcher.study.layout import inside

    with Database.open(database_text(args)) as database:
        study = database.study(args.study)
        best = best_trial(study, database.trials(args.study))
    if best is None:
        raise UserError(
            f"--study {args.study}: must have a COMPLETE trial, got {study.num_done} done and none complete; "
            "launch it again with more trials"
        )
    checkpoint = best.checkpoints.get("best")
    if checkpoint is None or checkpoint.is_removed:
        return study, best, None
    return study, best, inside(Path(study.storage_root), checkpoint.uri)


def _run(args: argparse.Namespace) -> int:
    from searcher.cli.terminal import console, metric, print_json, table, tuning_text

    study, best, path = find_best(args)
    checkpoint = best.checkpoints.get("best")
    ranks, front = _standings(args), _front(args)
    if args.json:
        found: dict[str, Any] = {"study": study.name, "checkpoint": None if path is None else str(path)}
        if front:
            found["front"] = [each.to_dict() for each in front]
        print_json(best.to_dict() | found | ({"rerank": [each.to_dict() for each in ranks]} if ranks else {}))
        return 0
    if ranks:
        _print_standings(study, ranks)
    if front:
        _print_front(study, front)
    epoch = best.notes.get("best_epoch", best.num_epochs)
    console.print(
        f"{study.name}: trial {best.number}, {study.objective} {metric(best.value)} at epoch {epoch} "
        f"of {best.num_epochs}",
        markup=False,
    )
    console.print(table(["parameter", "value"], best.params.items()))
    console.print(
        table(["metric", ">value"], [(name, metric(v)) for name, v in best.epochs.get(epoch, {}).items()])
    )
    if "tuned" in best.notes:
        console.print(tuning_text(best.notes["tuned"]), markup=False, soft_wrap=True)
    absent = "none" if checkpoint is None else "removed by `searcher gc`"
    damage = f", but {checkpoint.problem}" if checkpoint is not None and checkpoint.problem else ""
    console.print(f"checkpoint: {path or absent}{damage}", markup=False, soft_wrap=True)
    return 0


def _front(args: argparse.Namespace) -> "list[TrialRecord]":
    """Return the best compromises where the study has several objectives; else nothing."""
    from searcher.ledger.best import best_compromises
    from searcher.ledger.database import Database

    with Database.open(database_text(args)) as database:
        study = database.study(args.study)
        return best_compromises(study, database.trials(args.study)) if study.also else []


def _print_front(study: "StudyRecord", front: "list[TrialRecord]") -> None:
    from searcher.cli.terminal import console, metric, params_text, table

    rows = [(each.number, *map(metric, each.values), params_text(each.params)) for each in front]
    columns = [">trial", *(f">{name}" for name in (study.objective, *study.also)), "parameters"]
    console.print("no trial is better than one of these in every objective:", markup=False)
    console.print(table(columns, rows))


def _standings(args: argparse.Namespace) -> "list[Standing]":
    """Return what each candidate reached where the study is a rerank; else nothing."""
    from searcher.ledger.best import rerank_standings
    from searcher.ledger.database import Database
    from searcher.ledger.stored import stored_spec

    with Database.open(database_text(args)) as database:
        spec = stored_spec(database.study_row(args.study))
        if spec.parent is None or not spec.parent.candidates:
            return []
        return rerank_standings(
            database.study(args.study), database.trials(args.study), spec.parent.candidates
        )


def _print_standings(study: "StudyRecord", ranks: "list[Standing]") -> None:
    from searcher.cli.terminal import console, metric, table

    rows = [
        (
            each.trial,
            len(each.values),
            metric(each.mean),
            "" if each.mean is None or each.half_width is None else f"± {each.half_width:.4f}",
            metric(each.search_value),
            "" if each.drop is None else f"{each.drop:+.4f}",
        )
        for each in ranks
    ]
    columns = [">parent's trial", ">runs", f">mean {study.objective}", "95%", ">in the search", ">drop"]
    console.print(table(columns, rows))
