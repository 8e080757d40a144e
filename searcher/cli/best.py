"""`searcher best`: the best trial of a study, and where its checkpoint lies."""

import argparse
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from searcher.cli.options import Verbs, add_reading, check_writable, database_address, write_bytes

if TYPE_CHECKING:
    from searcher.ledger.database import Database
    from searcher.ledger.records import ResultRecord, StudyRecord, TrialRecord
    from searcher.report.study import StudyPicture
    from searcher.study.rerank import Standing

__all__ = ["Found", "add_parser", "find_best"]


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser("best", help="show the best trial of a study and its checkpoint")
    add_reading(parser)
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE.html|FILE.png",
        help="write pictures (history, importances, parallel coordinates, learning curves): a page, or one PNG",
    )
    parser.set_defaults(run=_run)


class Found(NamedTuple):
    """A study and what is best in it."""

    study: "StudyRecord"
    results: "list[ResultRecord]"
    best: "TrialRecord"
    path: str | None
    """Where its checkpoint lies; None if it was never written or was removed."""
    standings: "list[Standing]"
    """Of a rerank: what each candidate reached, the best first."""
    front: "list[TrialRecord]"
    """Of a study with several objectives: the best compromises."""


def find_best(database: "Database", name: str) -> Found:
    """Return what is best in a study.

    Raises:
        UserError: There is no such study, or none of its trials is COMPLETE.
    """
    from searcher.exceptions import UserError
    from searcher.ledger.best import best_compromises, best_location, best_trial, rerank_standings
    from searcher.ledger.stored import stored_spec
    from searcher.study.rerank import CANDIDATE

    study, results = database.study(name), database.results(name)
    is_rerank = any(CANDIDATE in result.params for result in results)
    parent = stored_spec(database.study_row(name)).parent if is_rerank else None
    winner = best_trial(study, results)
    if winner is None:
        raise UserError(
            f"--study {name}: must have a COMPLETE trial, got {study.num_done} done and none complete; "
            "launch it again with more trials"
        )
    front = [each.number for each in best_compromises(study, results)] if study.also else []
    known = {each.number: each for each in database.trials(name, {winner.number, *front})}
    best = known[winner.number]
    return Found(
        study=study,
        results=results,
        best=best,
        path=best_location(study, best),
        standings=[] if parent is None else rerank_standings(study, results, parent.candidates),
        front=[known[number] for number in front],
    )


def _run(args: argparse.Namespace) -> int:
    from searcher.cli.terminal import console, metric, print_json, table, tuning_text
    from searcher.ledger.database import Database
    from searcher.ledger.outcomes import evaluations, exports

    _check_plot(args.plot)
    with Database.open(database_address(args)) as database:
        found = find_best(database, args.study)
        picture = None if args.plot is None else _picture(database, found)
        evaluated = [
            each for each in evaluations(database, args.study) if found.best.number in each.metrics["trials"]
        ]
        exported = [each for each in exports(database, args.study) if each.trial == found.best.number]
    if picture is not None:
        _write_plot(args.plot, picture)
    study, best, path = found.study, found.best, found.path
    checkpoint = best.checkpoints.get("best")
    if args.json:
        record = best.to_dict() | {"study": study.name, "checkpoint": path}
        if found.standings:
            record["rerank"] = [each.to_dict() for each in found.standings]
        if found.front:
            record["front"] = [each.to_dict() for each in found.front]
        record["evaluations"] = [each.to_dict() for each in evaluated]
        record["exports"] = [each.to_dict() for each in exported]
        print_json(record)
        return 0
    if found.standings:
        _print_standings(study, found.standings)
    if found.front:
        _print_front(study, found.front)
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
    if args.plot is not None:
        console.print(f"pictures: {args.plot}", markup=False, soft_wrap=True)
    for each in evaluated:
        together = (
            ""
            if len(each.metrics["trials"]) == 1
            else f" (trials {_listed(each.metrics['trials'])} together)"
        )
        figures = ", ".join(f"{name} {metric(value)}" for name, value in each.metrics["pooled"].items())
        console.print(
            f"evaluated on {each.split} of {each.data_source}{together}: {figures}",
            markup=False,
            soft_wrap=True,
        )
    for bundle in exported:
        console.print(f"exported: {bundle.path}", markup=False, soft_wrap=True)
    return 0


def _listed(numbers: "list[int]") -> str:
    return ", ".join(map(str, numbers))


def _check_plot(path: Path | None) -> None:
    from searcher.exceptions import UserError

    if path is not None and path.suffix.lower() not in (".html", ".png"):
        raise UserError(f"--plot {path}: must end in .html or .png, got {path.name}; choose one of the two")
    check_writable("--plot", path)


def _picture(database: "Database", found: Found) -> "StudyPicture":
    from searcher.ledger.stored import stored_spec
    from searcher.lineage.resolve import Parent, importances_of
    from searcher.report.study import StudyPicture, TriedTrial
    from searcher.study.space import SearchSpace

    study, objective = found.study, found.study.objective
    spec, trials = stored_spec(database.study_row(study.name)), database.trials(study.name)
    is_rerank = bool(found.standings)
    return StudyPicture(
        name=study.name,
        objectives=(objective, *study.also),
        directions=study.directions,
        space=SearchSpace(()) if is_rerank else spec.space,
        trials=[
            TriedTrial(
                number=each.number,
                state=each.state,
                params=each.params,
                value=each.value,
                values=each.values,
                curve={
                    epoch: value
                    for epoch, metrics in each.epochs.items()
                    if (value := metrics.get(objective)) is not None and isfinite(value)
                },
            )
            for each in trials
            if each.state != "WAITING"
        ],
        best=found.best.number,
        importances={} if is_rerank else importances_of(Parent(spec=spec, record=study, trials=trials)),
    )


def _write_plot(path: Path, picture: "StudyPicture") -> None:
    from searcher.report.study_page import study_page
    from searcher.report.study_png import study_png

    is_page = path.suffix.lower() == ".html"
    write_bytes("--plot", path, study_page(picture).encode() if is_page else study_png(picture))


def _print_front(study: "StudyRecord", front: "list[TrialRecord]") -> None:
    from searcher.cli.terminal import console, metric, params_text, table

    rows = [(each.number, *map(metric, each.values), params_text(each.params)) for each in front]
    columns = [">trial", *(f">{name}" for name in (study.objective, *study.also)), "parameters"]
    console.print("no trial is better than one of these in every objective:", markup=False)
    console.print(table(columns, rows))


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
