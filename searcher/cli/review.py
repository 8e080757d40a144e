"""`searcher review`: which images a person should correct, and files to correct them in QuPath."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.api.reviewing_files import ReviewWish, check_wish, review_images, to_dict
from searcher.cli.options import Verbs, add_json, positive_float, positive_int
from searcher.cli.streams import say_problem
from searcher.exceptions import SearcherError

if TYPE_CHECKING:
    from searcher.prediction.file_prediction import FailedImage
    from searcher.prediction.review import ReviewedImage

__all__ = ["add_parser"]

_SHOWN = 20


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("review")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a folder that searcher export wrote")
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE|FOLDER", help="images, as for searcher predict"
    )
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder for the files")
    parser.add_argument(
        "--top", type=positive_int, metavar="N", help="write only the N least certain images; default: all"
    )
    parser.add_argument(
        "--region-px",
        type=positive_int,
        default=1024,
        metavar="PX",
        help="side of the region to correct in an image; default 1024; smaller images are corrected as a whole",
    )
    parser.add_argument(
        "--pixel-size-um",
        type=positive_float,
        metavar="UM",
        help="side of a pixel of the images; default: as each file says, if it does",
    )
    parser.add_argument(
        "--class-name", metavar="NAME", help="class of the objects in GeoJSON; default: as the bundle says"
    )
    add_json(parser)
    parser.set_defaults(run=_run, outlives_output=True)


def _run(args: argparse.Namespace) -> int:
    wish = ReviewWish(
        given=args.images,
        to=args.to,
        top=args.top,
        region_px=args.region_px,
        pixel_size_um=args.pixel_size_um,
        class_name=args.class_name,
    )
    paths = check_wish(wish)
    from searcher.bundle.load import load_bundle
    from searcher.cli.tables import table
    from searcher.cli.terminal import console, print_json, progress_bar
    from searcher.prediction.file_prediction import FailedImage

    failed: list[FailedImage] = []
    num_done = 0
    bundle = load_bundle(args.bundle)
    with progress_bar("looking at images") as advance:

        def done(result: "ReviewedImage | FailedImage") -> None:
            nonlocal num_done
            num_done += 1
            advance(num_done, len(paths))
            if isinstance(result, FailedImage):
                failed.append(result)
                say_problem(result.reason)

        ranked = review_images(wish, paths, bundle, done=done)
    rows = [to_dict(each, rank) for rank, each in enumerate(ranked, start=1)]
    if args.json:
        print_json(
            {"bundle": bundle.name, "images": rows, "failed": {each.name: each.reason for each in failed}}
        )
    else:
        shown = [(row["rank"], row["image"], row["disagreement"], row["objects"]) for row in rows[:_SHOWN]]
        console.print(table([">rank", "image", ">disagreement", ">objects"], shown))
        console.print(
            f"written to {args.to}; open an image of {args.to / 'images'} in QuPath, drop its file of "
            f"{args.to / 'geojson'} on it, correct what lies in the region, and export it to the same file; then "
            f"searcher data import {args.to} --to DIR",
            markup=False,
            soft_wrap=True,
        )
    if failed:
        raise SearcherError(f"{len(failed)} of {len(paths)} images could not be predicted, see above")
    return 0
