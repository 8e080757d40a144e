"""`searcher predict`: the objects in new images, as label maps, overlays, tables and GeoJSON."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.api.predicting_files import (
    PredictWish,
    check_class_name,
    check_glass,
    check_pixel_size,
    images_of,
    images_to_predict,
    predict_files,
    wanted_outputs,
)
from searcher.cli.normalisation import add_normalisation
from searcher.cli.options import Verbs, add_json, positive_float, positive_int
from searcher.cli.streams import say_problem
from searcher.escaping import one_line
from searcher.exceptions import SearcherError

if TYPE_CHECKING:
    from searcher.bundle.load import Bundle
    from searcher.inference.predictor import Predictor
    from searcher.prediction.file_prediction import FailedImage, Options, PredictedImage
    from searcher.prediction.selection import Region

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("predict")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a folder that searcher export wrote")
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE|FOLDER",
        help="png, jpg, bmp, tif, OME-TIFF, whole slides; or folders of them, without what lies deeper",
    )
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder of the outputs")
    parser.add_argument(
        "--pixel-size-um",
        type=positive_float,
        metavar="UM",
        help="side of a pixel of the images; default: as each file says, if it does",
    )
    parser.add_argument(
        "--outputs",
        default="labels,overlay,csv,geojson",
        metavar="A,B",
        help="which of labels, overlay, csv, geojson; default all",
    )
    parser.add_argument(
        "--tta",
        action=argparse.BooleanOptionalAction,
        help="average the 8 turned and mirrored versions of an image; default: as the bundle says",
    )
    parser.add_argument(
        "--class-name", metavar="NAME", help="class of the objects in GeoJSON; default: as the bundle says"
    )
    parser.add_argument(
        "--threshold",
        type=_share,
        metavar="P",
        help="probability, between 0 and 1, above which a pixel is an object's; of detectors, a detection's score; "
        "default: as the bundle says",
    )
    parser.add_argument(
        "--min-area",
        type=positive_int,
        metavar="PX",
        help="leave out objects below so many pixels of the image; default: as the bundle says",
    )
    parser.add_argument(
        "--region",
        metavar="X,Y,W,H|FILE",
        help="look only there: a rectangle in pixels, or the polygons of a GeoJSON file; objects with more than half "
        "of their pixels in it are kept, whole",
    )
    parser.add_argument(
        "--skip-glass",
        action="store_true",
        help="do not look at tiles of glass: at most 1 of 1000 pixels has a channel at 180 of 255 or below",
    )
    add_normalisation(parser)
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--force", action="store_true", help="replace outputs that are there")
    existing.add_argument(
        "--skip-existing", action="store_true", help="leave out images that are done: go on"
    )
    add_json(parser)
    parser.set_defaults(run=_run, outlives_output=True)


def _run(args: argparse.Namespace) -> int:
    check_pixel_size(args.pixel_size_um)
    wish = PredictWish(
        given=args.images,
        to=args.to,
        outputs=wanted_outputs(args.outputs),
        force=args.force,
        skip_existing=args.skip_existing,
    )
    paths = images_of(wish.given)
    images_to_predict(wish, paths)  # refuses what cannot be, before networks are loaded
    region = None if args.region is None else _region(args.region)
    from searcher.api.networks import normalise_as_wished
    from searcher.bundle.load import load_bundle
    from searcher.inference.precision import default_device
    from searcher.prediction.file_prediction import Options

    bundle = load_bundle(args.bundle)
    check_class_name("--class-name", args.class_name, bundle.class_names)
    predictor = bundle.predictor(device=default_device(), tta=args.tta)
    normalise_as_wished(predictor, args.normalisation, [member.facts.config for member in bundle.members])
    check_glass(predictor, skips=args.skip_glass)
    options = Options(
        folder=args.to,
        trained_um=bundle.pixel_size_um,
        pixel_size_um=args.pixel_size_um,
        outputs=wish.outputs,
        class_name=args.class_name or bundle.class_name,
        class_names=bundle.class_names,
        threshold=args.threshold,
        min_area_px=args.min_area,
        region=region,
        skips_glass=args.skip_glass,
    )
    results = _predict(wish, paths, predictor, options, args.report_of)
    _say_dark(args, bundle, results, are_brightened=predictor.kind.normalisation.brightens_dark)
    return _say(args, bundle, results, len(paths) - len(results), options)


def _share(text: str) -> float:
    """Parse a number between 0 and 1, for argparse."""
    value = positive_float(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, got {text}")
    return value


def _region(text: str) -> "Region":
    from searcher.prediction.selection import read_region

    return read_region(text)


def _predict(
    wish: PredictWish,
    paths: "Sequence[Path]",
    predictor: "Predictor",
    options: "Options",
    report_of: Callable[[Exception], str],
) -> "list[PredictedImage | FailedImage]":
    """Predict the images that are left to do, and show how far it is."""
    from searcher.cli.terminal import progress_bars
    from searcher.prediction.file_prediction import FailedImage

    reported: set[type[Exception]] = set()
    num_done, num_images = 0, 0

    def kept(failure: FailedImage) -> FailedImage:
        """Return the failure without its exception.

        For the first failure of each exception class in this run a report is written. The returned failure's `reason`
        then ends with where that report is, or why there is none.
        """
        error, reason = failure.unforeseen, failure.reason
        if error is not None and type(error) not in reported:
            reported.add(type(error))
            reason = f"{reason}; {report_of(error)}"
        return FailedImage(failure.name, reason)

    with progress_bars("images", "opening") as (of_images, of_steps):

        def begun(num: int) -> None:
            nonlocal num_images
            num_images = num
            of_images(None, 0, num)

        def done(result: "PredictedImage | FailedImage") -> "PredictedImage | FailedImage":
            nonlocal num_done
            num_done += 1
            of_images(None, num_done, num_images)
            return (
                kept(result) if isinstance(result, FailedImage) and result.unforeseen is not None else result
            )

        return predict_files(
            wish,
            paths,
            predictor,
            options,
            begun=begun,
            done=done,
            progress=of_steps,
            problem=say_problem,
        )


def _say(
    args: argparse.Namespace,
    bundle: "Bundle",
    results: "Sequence[PredictedImage | FailedImage]",
    num_skipped: int,
    options: "Options",
) -> int:
    """Print what was found, name the images that could not be predicted, and return the exit code."""
    from searcher.cli.terminal import print_json
    from searcher.prediction.file_prediction import FailedImage, PredictedImage

    found = [each for each in results if isinstance(each, PredictedImage)]
    failed = [each for each in results if isinstance(each, FailedImage)]
    if args.json:
        print_json(
            {
                "bundle": bundle.name,
                "images": [each.to_dict() for each in found],
                "failed": {each.name: each.reason for each in failed},
                "skipped": num_skipped,
            }
        )
    else:
        _print_results(args, bundle, found, num_skipped, options)
    return _say_failures(failed, len(results))


def _print_results(
    args: argparse.Namespace,
    bundle: "Bundle",
    found: "Sequence[PredictedImage]",
    num_skipped: int,
    options: "Options",
) -> None:
    from searcher.cli.tables import table
    from searcher.cli.terminal import console

    if 0 < len(found) <= 20:
        rows = [
            (
                each.name,
                f"{each.width}x{each.height}",
                _um(each.pixel_size_um),
                each.objects,
                each.seconds,
            )
            for each in found
        ]
        console.print(table(["image", ">size px", ">pixel um", ">objects", ">seconds"], rows))
    for line in _remarks(bundle, found, options):
        console.print(line, markup=False, soft_wrap=True)
    skipped = f", {num_skipped} left out whose outputs were there" if num_skipped else ""
    console.print(
        f"{_images_text(len(found))} predicted with {bundle.name}{skipped}: {args.to}",
        markup=False,
        soft_wrap=True,
    )


def _remarks(bundle: "Bundle", found: "Sequence[PredictedImage]", options: "Options") -> list[str]:
    """Return what to know about the pixel sizes, and about glass."""
    unknown = [each for each in found if each.pixel_size_um is None]
    resampled = [each for each in found if each.scale != 1]
    lines = []
    if resampled:
        was = "was" if len(resampled) == 1 else "were"
        lines.append(
            f"{_images_text(len(resampled))} {was} resampled to the {_um(options.trained_um)} um that {bundle.name} "
            "was trained at; outputs are at their own resolution"
        )
    if options.trained_um is None and len(unknown) < len(found):
        lines.append(
            f"{bundle.name} does not say what pixel size it was trained at: images were taken as they are"
        )
    if num_glass := sum(each.glass_tiles for each in found):
        lines.append(f"{num_glass} tiles of {_images_text(len(found))} are glass, and were not looked at")
    if unknown:
        taken = "it was taken as it is" if len(unknown) == 1 else "they were taken as they are"
        lines.append(
            f"the pixel size of {_images_text(len(unknown))} is not known: {taken}, and measured in "
            "pixels only; --pixel-size-um gives it"
        )
    return lines


def _say_dark(
    args: argparse.Namespace,
    bundle: "Bundle",
    results: "Sequence[PredictedImage | FailedImage]",
    *,
    are_brightened: bool,
) -> None:
    """Say on stderr that images are too dark for networks that take them as they are, and what was done."""
    dark = [each.name for each in results if getattr(each, "is_dark", False)]
    if not dark or args.normalisation != "bundle":
        return
    more = f" and {len(dark) - 1} more" if len(dark) > 1 else ""
    what = f"{one_line(dark[0])}{more}: dark, 99.8% of the pixels are below 64 of 255"
    if are_brightened:
        say_problem(
            f"{what}; brightened, since {bundle.name} is from before images were normalised; "
            "--normalisation fixed takes them as they are"
        )
    else:
        say_problem(
            f"{what}, and {bundle.name} takes images as they are: what is found may be too little; "
            "see --normalisation percentile"
        )


def _say_failures(failed: "Sequence[FailedImage]", num_images: int) -> int:
    """Name the broken images on stderr and return the exit code."""
    for each in failed:
        say_problem(each.reason)
    if failed:
        raise SearcherError(f"{len(failed)} of {_images_text(num_images)} could not be predicted, see above")
    return 0


def _images_text(num: int) -> str:
    return "1 image" if num == 1 else f"{num} images"


def _um(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
