"""`searcher evaluate`: the official metrics of trained checkpoints on the splits of a data set."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.cli.best import find_best
from searcher.cli.options import (
    Verbs,
    add_data,
    add_database,
    cache_dir,
    check_writable,
    data_folder,
    write_text,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_pipeline.store import Store
    from searcher.evaluation.summary import Summary
    from searcher.inference.predictor import Predictor
    from searcher.training.checkpoints import Checkpoint, CheckpointFile

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser("evaluate", help="measure trained checkpoints by the official metrics")
    parser.add_argument(
        "checkpoints",
        nargs="*",
        type=Path,
        metavar="CHECKPOINT",
        help="a trial's best.pt (searcher best names it) or its folder; several U-Nets, of folds say, are averaged",
    )
    parser.add_argument(
        "--study", metavar="NAME", help="instead of checkpoints: the best trial of this study"
    )
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="with --study of a rerank: all runs of its winner together, their maps averaged",
    )
    add_database(parser)
    add_data(parser, required=True)
    parser.add_argument(
        "--splits", default="testA", metavar="A,B", help="splits of the data set; default testA"
    )
    parser.add_argument(
        "--tta",
        action=argparse.BooleanOptionalAction,
        help="average the 8 turned and mirrored versions of an image; default: as the checkpoint was tuned",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all figures there too, image by image"
    )
    parser.add_argument(
        "--name", help="what it is called in the file and by searcher benchmark; default the study or folder"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from data_pipeline.datasets import open_dataset
    from data_pipeline.store import prepare_store
    from searcher.cli.summaries import print_summaries
    from searcher.cli.terminal import console, progress_bar
    from searcher.evaluation.records import EVALUATION_SCHEMA
    from searcher.inference.measuring import measure_split, see_all

    check_writable("--json", args.json)
    loaded = [_load(path, sha256) for path, sha256 in _wanted(args)]
    checkpoints = [checkpoint for checkpoint, _ in loaded]
    predictor = _predictor([file.path for _, file in loaded], checkpoints, args.tta)
    folder = data_folder(args)
    assert folder is not None
    with progress_bar("preparing images") as advance:
        store = prepare_store(open_dataset(Path(folder)), cache_dir(), progress=advance)
    splits: dict[str, Summary] = {}
    wanted = _splits(store, args.splits)
    for split, indices in wanted.items():
        with progress_bar(f"predicting {split}") as advance:
            seen = see_all(predictor, store, indices, advance)
        splits[split] = measure_split(predictor, seen)
    print_summaries(splits)
    if args.json is not None:
        record = {
            "schema": EVALUATION_SCHEMA,
            "name": args.name or _name(args),
            "data": {"folder": folder, "fingerprint": store.fingerprint},
            "checkpoints": [
                {
                    "path": str(file.path),
                    "sha256": file.sha256,
                    "epoch": file.epoch,
                    "trained_on": c.data_fingerprint,
                }
                for c, file in loaded
            ],
            "postprocess": predictor.postprocess.model_dump(),
            "tta": predictor.tta,
            "splits": {split: summary.to_dict() for split, summary in splits.items()},
        }
        write_text("--json", args.json, json.dumps(record, indent=2) + "\n")
        console.print(f"all figures, image by image: {args.json}", markup=False, soft_wrap=True)
    return 0


def _predictor(paths: "Sequence[Path]", checkpoints: "Sequence[Checkpoint]", tta: bool | None) -> "Predictor":
    """Return what predicts as the checkpoints were tuned, with test-time augmentation as wished or as tuned."""
    from searcher.exceptions import CheckpointError, UserError
    from searcher.inference.precision import default_device, resolve_precision
    from searcher.inference.predictor import Predictor
    from searcher.inference.tuning import agreed
    from searcher.study.config import TrialConfig
    from searcher.training.trained import trained_model, tuning_of

    device = default_device()
    models = []
    for path, checkpoint in zip(paths, checkpoints, strict=True):
        try:
            models.append(trained_model(checkpoint, device=device))
        except CheckpointError as error:
            raise UserError(f"{path}: {error}") from error
    train = TrialConfig.model_validate(checkpoints[0].config).train
    tuned = [tuning_of(checkpoint) for checkpoint in checkpoints]
    predictor = Predictor(
        models,
        device=device,
        dtype=resolve_precision(train.precision, device),
        tta=all(each is not None and each.tta for each in tuned) if tta is None else tta,
        tile_px=train.eval_tile_px,
        tile_overlap_px=train.eval_tile_overlap_px,
    )
    predictor.postprocess = agreed([model.postprocess for model in models])
    return predictor


def _load(path: Path, sha256: str | None) -> "tuple[Checkpoint, CheckpointFile]":
    from searcher.exceptions import CheckpointError, UserError
    from searcher.training.checkpoints import load_checkpoint

    try:
        return load_checkpoint(path, sha256=sha256)
    except CheckpointError as error:  # here it is what the command line names, not what a trial wrote
        raise UserError(str(error)) from error


def _wanted(args: argparse.Namespace) -> list[tuple[Path, str | None]]:
    """Return the checkpoints that the command line names, itself or by their study, which knows the digest, too.

    Raises:
        UserError: It names none, or both.
    """
    from searcher.exceptions import UserError

    if bool(args.checkpoints) == (args.study is not None):
        raise UserError(
            "searcher evaluate: must name either checkpoints or --study NAME, got both or neither"
        )
    if args.study is None:
        if args.ensemble:
            raise UserError(
                "--ensemble: must be given with --study, got checkpoints; several are averaged anyway"
            )
        return [(_checkpoint_file(path), None) for path in args.checkpoints]
    if args.ensemble:
        return _ensemble(args)
    found = find_best(args)
    best = found.best
    if found.path is None:
        raise UserError(
            f"--study {args.study}: its best trial, {best.number}, must have a checkpoint, got one that was removed; "
            "name another one"
        )
    return [(found.path, best.checkpoints["best"].sha256)]


def _ensemble(args: argparse.Namespace) -> list[tuple[Path, str | None]]:
    """Return the checkpoints of all runs of a rerank's winner.

    Raises:
        UserError: The study is no rerank, or a checkpoint was removed.
    """
    from searcher.exceptions import UserError
    from searcher.ledger.best import runs_of
    from searcher.study.layout import inside

    best_of = find_best(args)
    runs = runs_of(best_of.best, best_of.trials)
    if len(runs) < 2:
        raise UserError(
            f"--ensemble: must name a rerank with several COMPLETE runs of its winner, got {len(runs)} of "
            f"{args.study}; leave it out, or name checkpoints"
        )
    found: list[tuple[Path, str | None]] = []
    for run in runs:
        record = run.checkpoints.get("best")
        if record is None or record.is_removed:
            raise UserError(
                f"--study {args.study}: trial {run.number} must have a checkpoint, got one that was removed; "
                "name those that are there"
            )
        found.append((inside(Path(best_of.study.storage_root), record.uri), record.sha256))
    return found


def _checkpoint_file(path: Path) -> Path:
    from searcher.exceptions import UserError

    file = path / "best.pt" if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"{path}: must be a checkpoint or a trial's folder, got neither; `searcher best` names one"
        )
    return file


def _splits(store: "Store", wanted: str) -> dict[str, list[int]]:
    """Return the images of each split.

    Raises:
        UserError: The data set has no image of a split.
    """
    from searcher.exceptions import UserError

    found = {name: store.indices(name) for name in dict.fromkeys(part.strip() for part in wanted.split(","))}
    there = list(dict.fromkeys(sample.split for sample in store.samples))
    for name, indices in found.items():
        if not indices:
            raise UserError(
                f"--splits {wanted}: must be splits of the data set, got {name or 'an empty name'}; it has "
                f"{', '.join(there)}"
            )
    return found


def _name(args: argparse.Namespace) -> str:
    """Return what is evaluated in a word or two: the study, or the folders of the checkpoints."""
    if args.study is not None:
        return str(args.study)
    return " + ".join(_checkpoint_file(path).absolute().parent.name for path in args.checkpoints)
