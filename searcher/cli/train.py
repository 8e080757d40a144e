"""`searcher train`: one trial of a study, in this process, without cluster and database."""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from searcher.study.spec import StudySpec
    from searcher.training.reporter import Decision

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser("train", help="train one trial of a study here, without cluster and database")
    add_training(parser)
    add_json(parser)
    parser.set_defaults(run=_run, outlives_output=True)


def _run(args: argparse.Namespace) -> int:
    from searcher.exceptions import UserError
    from searcher.storage.mirror import storage_at
    from searcher.study.catalog import load_study

    spec = load_study(args.study, overrides(args))
    if spec.parent is not None:
        raise UserError(
            f"{spec.source}: parent.study must not be set for a single trial, which has no database to "
            f"find it in, got {spec.parent.study}; use searcher launch"
        )
    params = _params(spec)
    config = spec.trial_config(params)
    if config.warm_start.sha256:
        raise UserError(
            f"{spec.source}: warm_start.sha256: must not be set for a single trial, which has no database to find the "
            f"checkpoint in, got {config.warm_start.sha256[:12]}; use searcher launch"
        )
    if storage_at(args.storage).is_remote:
        raise UserError(
            "--storage: must be a folder for a single trial, got an object store; leave it out, or use searcher launch"
        )
    root = storage_root(args)

    from searcher.cli.terminal import console, metric, params_text, print_json, progress_bar, tuning_text
    from searcher.training.data_check import check_data
    from searcher.training.dataset import DataRequest
    from searcher.training.trainer import Trainer

    with progress_bar("preparing images") as advance:
        request = DataRequest(data_folder(args), str(cache_dir()), config.data, data_view(args))
        store = request.prepare(advance)
    for line in check_data(store, request, config):
        say_problem(line)
    # Another training of the study may begin in the same second.
    run_dir = _run_folder(root / spec.name / f"train-{time.strftime('%Y%m%d-%H%M%S')}")
    if not args.json:
        console.print(f"{spec.name}: {params_text(params)}", markup=False, soft_wrap=True)
    progress = _Progress(config.train.epochs, quiet=args.json)
    with Trainer(
        config, spec.objective, store=store, run_dir=run_dir, num_pictures=spec.resources.pictures
    ) as trainer:
        outcome = trainer.fit(progress)
    if args.json:
        tuned = None if outcome.tuned is None else outcome.tuned.to_dict()
        record = {"run_dir": str(run_dir), "params": params, "epochs": progress.epochs, **vars(outcome)}
        print_json(record | {"tuned": tuned})
        return 0
    console.print(
        f"best {spec.objective.name} {metric(outcome.best_value)} at epoch {outcome.best_epoch}; in {run_dir}",
        markup=False,
        soft_wrap=True,
    )
    if outcome.tuned is not None:
        console.print(tuning_text(outcome.tuned.to_dict()), markup=False, soft_wrap=True)
    return 0


def _run_folder(wanted: Path) -> Path:
    """Return a new folder for this run alone, of that name or the next free one.

    Raises:
        UserError: No folder can be made there.
    """
    from searcher.claims import new_folder
    from searcher.exceptions import UserError

    try:
        return new_folder(wanted)
    except OSError as error:
        raise UserError(
            f"--storage {wanted.parent.parent}: must be a folder that can be written, got {error.strerror}; choose "
            "another path"
        ) from error


def _params(spec: "StudySpec") -> dict[str, Any]:
    """Return the study's first known-good point.

    Raises:
        UserError: The point leaves a searched parameter open.
    """
    from searcher.exceptions import UserError

    params: dict[str, Any] = dict(spec.enqueue[0]) if spec.enqueue else {}
    missing = [p.name for p in spec.space.parameters if p.active(params) and p.name not in params]
    if missing:
        raise UserError(
            f"{spec.source}: must leave no searched parameter open for a single trial, got {', '.join(missing)}; "
            f"add --set {missing[0]}=VALUE"
        )
    return params


class _Progress:
    """A reporter that keeps every epoch, prints it unless told to be quiet, and never stops the trial."""

    def __init__(self, num_epochs: int, *, quiet: bool) -> None:
        self.epochs: dict[int, Mapping[str, float]] = {}
        self._num_epochs = num_epochs
        self._quiet = quiet

    def report(self, epoch: int, metrics: Mapping[str, float]) -> "Decision":
        """Take in the epoch's metrics."""
        from searcher.cli.terminal import console, metric
        from searcher.training.reporter import Decision

        self.epochs[epoch] = metrics
        if not self._quiet:
            shown = "  ".join(f"{name} {metric(value)}" for name, value in metrics.items())
            console.print(f"epoch {epoch}/{self._num_epochs}  {shown}", markup=False, soft_wrap=True)
        return Decision.CONTINUE
