"""`searcher train`: one trial of a study, in this process, without cluster and database."""

import argparse
from collections.abc import Mapping
from typing import Any

from searcher.cli.options import (
    Verbs,
    add_json,
    add_training,
    data_folder,
    data_view,
    overrides,
    storage_root,
)
from searcher.cli.streams import say_problem
from searcher.storage.mirror import cache_dir

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("train")
    add_training(parser)
    add_json(parser)
    parser.set_defaults(run=_run, outlives_output=True)


def _run(args: argparse.Namespace) -> int:
    from searcher.exceptions import UserError
    from searcher.storage.mirror import storage_at
    from searcher.study.catalog import load_study

    spec = load_study(args.study, overrides(args))
    if storage_at(args.storage).is_remote:
        raise UserError(
            "--storage: must be a folder for a single trial, got an object store; leave it out, or use searcher launch"
        )
    root = storage_root(args)

    from searcher.api.training import only_point, train_trial
    from searcher.cli.terminal import console, metric, params_text, print_json, progress_bar, tuning_text
    from searcher.training.dataset import DataRequest

    config = spec.trial_config(only_point(spec))

    def begun(params: Mapping[str, Any]) -> None:
        if not args.json:
            console.print(f"{spec.name}: {params_text(params)}", markup=False, soft_wrap=True)

    def epoch_done(epoch: int, metrics: Mapping[str, float]) -> None:
        if not args.json:
            shown = "  ".join(f"{name} {metric(value)}" for name, value in metrics.items())
            console.print(f"epoch {epoch}/{config.train.epochs}  {shown}", markup=False, soft_wrap=True)

    trained = train_trial(
        spec,
        DataRequest(data_folder(args), str(cache_dir()), config.data, data_view(args)),
        root,
        preparing=progress_bar("preparing images"),
        remark=say_problem,
        begun=begun,
        epoch_done=epoch_done,
    )
    outcome = trained.outcome
    if args.json:
        about = {"run_dir": str(trained.run_dir), "params": trained.params, "epochs": trained.epochs}
        print_json(about | vars(outcome))
        return 0
    console.print(
        f"best {spec.objective.name} {metric(outcome.best_value)} at epoch {outcome.best_epoch}; in {trained.run_dir}",
        markup=False,
        soft_wrap=True,
    )
    if outcome.tuned is not None:
        console.print(tuning_text(outcome.tuned), markup=False, soft_wrap=True)
    return 0
