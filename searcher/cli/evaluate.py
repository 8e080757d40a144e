"""`searcher evaluate`: the official metrics of a bundle or of checkpoints on the splits of a data set."""

import argparse
from pathlib import Path

from searcher.api.writing import check_writable, write_text
from searcher.cli.members import add_members, networks_named
from searcher.cli.normalisation import add_normalisation
from searcher.cli.options import Verbs, add_data, data_folder, open_source
from searcher.cli.streams import say_problem
from searcher.json_text import json_text

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("evaluate")
    add_members(parser, bundles=True)
    add_data(parser, required=True)
    parser.add_argument(
        "--splits",
        metavar="A,B",
        help="splits of the data set, or held-out: the images that the networks were validated on; "
        "default testA, else all but train and val, else held-out",
    )
    parser.add_argument(
        "--tta",
        action=argparse.BooleanOptionalAction,
        help="average the 8 turned and mirrored versions of an image; default: as the checkpoint was tuned",
    )
    add_normalisation(parser)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all figures there too, image by image"
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.html",
        help="write one page to look at: ranks in the contest's table, pictures, figures by grade, training",
    )
    parser.add_argument(
        "--name", help="what it is called in the file and by searcher benchmark; default the study or folder"
    )
    parser.set_defaults(run=_run, outlives_output=True)


def _run(args: argparse.Namespace) -> int:
    from searcher.api.evaluation import evaluate_networks, record_evaluation
    from searcher.api.evaluation_page import check_report
    from searcher.api.networks import find_members
    from searcher.cli.summaries import print_summaries
    from searcher.cli.terminal import console, progress_bar

    check_writable("--json", args.json)
    check_report(args.report)
    found = find_members(networks_named(args))
    folder = data_folder(args)
    assert folder is not None
    evaluation = evaluate_networks(
        found,
        open_source(args),
        folder,
        splits=args.splits,
        tta=args.tta,
        normalisation=args.normalisation,
        labels_are_said=bool(args.labels_are),
        name=args.name,
        report=args.report,
        command=args.command,
        bar=progress_bar,
        remark=say_problem,
    )
    print_summaries(evaluation.splits, with_poster=evaluation.is_glas)
    if args.json is not None:
        write_text("--json", args.json, json_text(evaluation.to_dict()))
        console.print(f"all figures, image by image: {args.json}", markup=False, soft_wrap=True)
    if args.report is not None:
        console.print(f"the report, for a browser: {args.report}", markup=False, soft_wrap=True)
    record_evaluation(found, evaluation)
    return 0
