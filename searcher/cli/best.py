"""`searcher best`: the best trial of a study, and where its checkpoint lies."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.cli.options import Verbs, add_reading, database_address

if TYPE_CHECKING:
    from searcher.ledger.records import StudyRecord, TrialRecord
    from searcher.study.rerank import Standing

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("best")
    add_reading(parser)
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE.html|FILE.png",
        help="write pictures (history, importances, parallel coordinates, learning curves): a page, or one PNG",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.api.best_trial import check_plot, find_best, picture_of, write_plot
    from searcher.cli.tables import table
    from searcher.cli.terminal import console, metric, print_json, tuning_text
    from searcher.ledger.database import Database
    from searcher.ledger.outcomes import evaluations, exports

    check_plot(args.plot)
    with Database.open(database_address(args)) as database:
        found = find_best(database, args.study)
        picture = None if args.plot is None else picture_of(database, found)
        evaluated = [
            each for each in evaluations(database, args.study) if found.best.number in each.metrics["trials"]
        ]
        exported = [each for each in exports(database, args.study) if each.trial == found.best.number]
    if picture is not None:
        write_plot(args.plot, picture)
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


def _print_front(study: "StudyRecord", front: "list[TrialRecord]") -> None:
    from searcher.cli.tables import Parts, table
    from searcher.cli.terminal import console, metric, params_texts

    rows = [(each.number, *map(metric, each.values), Parts(params_texts(each.params))) for each in front]
    columns = [
        ">trial",
        *(f">{name}" for name in (study.objective, *study.secondary_objectives)),
        "parameters",
    ]
    console.print("no trial is better than one of these in every objective:", markup=False)
    console.print(table(columns, rows))


def _print_standings(study: "StudyRecord", ranks: "list[Standing]") -> None:
    from searcher.cli.tables import table
    from searcher.cli.terminal import console, metric

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
