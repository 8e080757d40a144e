"""`searcher trials`: every trial of a study, or all that is known of one."""

import argparse
from typing import TYPE_CHECKING

from searcher.cli.options import Verbs, add_reading, database_address, trial_number
from searcher.exceptions import UserError

if TYPE_CHECKING:
    from searcher.ledger.records import StudyRecord, TrialRecord

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("trials")
    add_reading(parser)
    parser.add_argument(
        "--trial", type=trial_number, metavar="N", help="that trial: parameters, every epoch, files"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.cli.terminal import print_json
    from searcher.ledger.database import Database

    with Database.open(database_address(args)) as database:
        study = database.study(args.study)
        trials = database.trials(args.study, None if args.trial is None else {args.trial})
    if args.trial is not None and not trials:
        raise UserError(
            f"--trial {args.trial}: must be a trial of {args.study}, got none of that number; "
            f"searcher trials --study {args.study} lists them"
        )
    if args.json:
        print_json(trials[0].to_dict() if args.trial is not None else [trial.to_dict() for trial in trials])
    elif args.trial is not None:
        _print_one(study, trials[0])
    else:
        _print_all(study, trials)
    return 0


def _print_all(study: "StudyRecord", trials: "list[TrialRecord]") -> None:
    from searcher.cli.tables import Parts, table
    from searcher.cli.terminal import console, metric, params_texts, seconds
    from searcher.cli.trial_lines import varying

    order = varying([trial.params for trial in trials])
    rows = [
        (
            trial.number,
            trial.state,
            trial.num_epochs,
            metric(trial.value),
            seconds(trial.duration_s),
            Parts(
                params_texts(
                    {key: trial.params[key] for key in (*order, *trial.params) if key in trial.params}
                )
            ),
            _why(trial),
        )
        for trial in trials
    ]
    columns = [">trial", "state", ">epochs", f">{study.objective}", ">time", "parameters", "~why it ended"]
    console.print(table(columns, rows, first_to_go=["time", "why it ended", "epochs"]))


def _print_one(study: "StudyRecord", trial: "TrialRecord") -> None:
    from searcher.cli.tables import table
    from searcher.cli.terminal import console, metric, seconds
    from searcher.storage.object_store import below
    from searcher.times import local_text

    why = _why(trial)
    console.print(
        f"{study.name}: trial {trial.number}, {trial.state}"
        f"{'' if trial.value is None else f', {study.objective} {metric(trial.value)}'}"
        f"{f' ({why})' if why else ''}",
        markup=False,
        soft_wrap=True,
    )
    if trial.started_at is not None:
        took = "" if trial.duration_s is None else f", took {seconds(trial.duration_s)}"
        console.print(f"started {local_text(trial.started_at)}{took}", markup=False, soft_wrap=True)
    console.print(table(["parameter", "value"], trial.params.items()))
    shown = list(dict.fromkeys((study.objective, *study.secondary_objectives, "loss", "train_loss", "lr")))
    rows = [
        (epoch, *(metric(values.get(name)) for name in shown))
        for epoch, values in sorted(trial.epochs.items())
    ]
    console.print(
        table([">epoch", *(f">{name}" for name in shown)], rows, first_to_go=[*reversed(shown[1:])])
    )
    for kind, checkpoint in trial.checkpoints.items():
        state = checkpoint.problem or ("removed by `searcher gc`" if checkpoint.is_removed else "")
        console.print(
            f"{kind} checkpoint: epoch {checkpoint.epoch}, {below(study.storage_root, checkpoint.uri)}"
            f"{f' ({state})' if state else ''}",
            markup=False,
            soft_wrap=True,
        )
    console.print(
        f"log: searcher logs --study {study.name} --trial {trial.number}", markup=False, soft_wrap=True
    )


def _why(trial: "TrialRecord") -> object:
    return trial.notes.get("fail_reason") or trial.notes.get("stop_reason")
