"""`searcher metrics`: the official metrics of any method's label maps."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searcher.api.writing import check_writable, write_text
from searcher.cli.options import Verbs, positive_int
from searcher.cli.streams import say_problem
from searcher.json_text import json_text

if TYPE_CHECKING:
    from searcher.evaluation.measured_folders import MeasuredFolders

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("metrics")
    for option, whose in (("--truth", "the annotations"), ("--prediction", "what the method found")):
        parser.add_argument(
            option,
            type=Path,
            required=True,
            metavar="DIR",
            help=f"label maps of {whose}: png, tif, bmp or npy, 0 for background and a number per object; matched by "
            "name, with or without _anno",
        )
    parser.add_argument(
        "--relabel",
        action="store_true",
        help="make each 8-connected piece of a label an object of its own, on both sides, and drop pieces of up to 2 "
        "pixels; for masks, and for annotations with one label for all; the figures as labelled are given beside",
    )
    parser.add_argument(
        "--not-annotated",
        type=positive_int,
        metavar="N",
        help="the truth has N, 255 or 65535 say, where nothing is annotated, beside -1: no metric counts there",
    )
    parser.add_argument("--poster", action="store_true", help="the DTU poster's own metrics as well")
    parser.add_argument(
        "--split",
        choices=("train", "testA", "testB"),
        help="which of the challenge's sets this is, for searcher benchmark; in a release folder only it is looked at",
    )
    parser.add_argument(
        "--name", help="what the method is called by searcher benchmark; default the prediction's folder"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all figures there too, image by image"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.cli.summaries import print_summaries
    from searcher.cli.terminal import console, progress_bar
    from searcher.evaluation.measured_folders import measure_folders

    check_writable("--json", args.json)
    with progress_bar("measuring") as advance:
        measured = measure_folders(
            args.truth,
            args.prediction,
            split=args.split,
            relabel=args.relabel,
            with_poster=args.poster,
            not_annotated=args.not_annotated,
            progress=advance,
        )
    shown = {args.split or args.prediction.absolute().name: measured.summary}
    if measured.as_labelled is not None:
        [(name, relabelled)] = shown.items()
        shown = {f"{name}, relabelled": relabelled, f"{name}, as labelled": measured.as_labelled}
    print_summaries(shown, with_poster=args.poster)
    if not args.relabel:
        _hint_at_relabel(args, measured)
    if args.json is not None:
        write_text("--json", args.json, json_text(_record(args, measured)))
        console.print(f"all figures, image by image: {args.json}", markup=False, soft_wrap=True)
    return 0


def _hint_at_relabel(args: argparse.Namespace, measured: "MeasuredFolders") -> None:
    """Say where one label seems to stand for several objects, which the metrics take as one."""
    if measured.seems_binary:
        say_problem(
            f"{args.prediction}: every prediction has one label at most, for the metrics one object, while the truth "
            "has several: are these binary masks? --relabel numbers their pieces",
        )
    if measured.in_pieces:
        say_problem(
            f"{args.truth}: one label for all objects, which the metrics take as one object, in "
            f"{', '.join(measured.in_pieces)}; --relabel numbers their pieces, and gives both figures",
        )


def _record(args: argparse.Namespace, measured: "MeasuredFolders") -> dict[str, Any]:
    """Return what `--json` holds: the figures as asked for at the top level; with --relabel, `as_labelled` too."""
    from searcher.evaluation.glas.measured_sets import METRICS_SCHEMA

    record = {
        "schema": METRICS_SCHEMA,
        "name": args.name or args.prediction.absolute().name,
        "split": args.split,
        "truth": str(args.truth.absolute()),
        "prediction": str(args.prediction.absolute()),
        "relabelled": args.relabel,
        **measured.summary.to_dict(),
    }
    if measured.as_labelled is not None:
        record["as_labelled"] = measured.as_labelled.to_dict()
    return record
