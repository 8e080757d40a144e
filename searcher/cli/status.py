"""`searcher status`: how far the studies of a database are."""

import argparse

from searcher.cli.options import Verbs, add_reading, database_address
from searcher.cli.study_at_work import study_at_work

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("status")
    add_reading(parser, study_required=False)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.cli.tables import table
    from searcher.cli.terminal import console, metric, print_json, seconds
    from searcher.ledger.database import Database
    from searcher.ledger.ranking import best_trial
    from searcher.ledger.study_progress import study_progress

    with Database.open(database_address(args)) as database:
        names = (
            [study_at_work(database, args.study, even_if_known=False)]
            if args.study
            else database.study_names()
        )
        studies = [database.study(name) for name in names]
        bests = [best_trial(study, database.results(study.name)) for study in studies]
        progresses = [study_progress(database, study) for study in studies]
    if args.json:
        print_json(
            [
                study.to_dict()
                | {"best": None if best is None else {"trial": best.number, "value": best.value}}
                | vars(progress)
                for study, best, progress in zip(studies, bests, progresses, strict=True)
            ]
        )
        return 0
    rows = [
        (
            study.name,
            f"{study.num_done}/{study.budget}",
            *(study.counts.get(state, 0) for state in ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")),
            study.objective,
            "" if best is None else f"{metric(best.value)} (trial {best.number})",
            seconds(progress.spent_s) + (f", {progress.gpu_hours:.3g} GPU h" if progress.gpu_hours else ""),
            "" if progress.left_s is None else f"about {seconds(progress.left_s)}",
            "" if study.last_launch is None else _launch_text(study.last_launch),
        )
        for study, best, progress in zip(studies, bests, progresses, strict=True)
    ]
    columns = [
        "study",
        ">done",
        ">complete",
        ">pruned",
        ">fail",
        ">running",
        ">waiting",
        "objective",
        "best",
        ">took",
        ">left",
        "last launch",
    ]
    console.print(
        table(
            columns,
            rows,
            first_to_go=[
                "waiting",
                "objective",
                "running",
                "fail",
                "pruned",
                "complete",
                "left",
                "took",
                "last launch",
            ],
        )
    )
    return 0


def _launch_text(launch: object) -> str:
    from searcher.ledger.records import LaunchRecord
    from searcher.times import local_text

    assert isinstance(launch, LaunchRecord)
    if launch.outcome is not None:
        ended = f"{launch.outcome} {local_text(launch.ended_at)}" if launch.ended_at else launch.outcome
        return ended if launch.outcome == "failed" or not launch.reason else f"{ended}: {launch.reason}"
    job = "" if launch.job is None else f", Ray job {launch.job}"
    return f"running on {launch.host}, process {launch.pid}{job}"
