"""`searcher predict`: the objects in new images, as label maps, overlays, tables and GeoJSON."""

import argparse
import csv
import io
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.cli.options import Verbs, add_json, positive_float
from searcher.exceptions import SearcherError, UserError

if TYPE_CHECKING:
    from types import FrameType

    from searcher.bundle.load import Bundle
    from searcher.prediction.predict import Failure, ImageResult, Options

__all__ = ["add_parser"]

SUMMARY = "predictions.csv"
"""The table of images in the folder of outputs."""
_SUMMARY_COLUMNS = ("image", "height", "width", "pixel_size_um", "objects", "area_px", "area_um2", "seconds")


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "predict", help="find, measure and outline the objects in new images of any size"
    )
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
        "--class-name", default="Gland", metavar="NAME", help="class of the objects in GeoJSON; default Gland"
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--force", action="store_true", help="replace outputs that are there")
    existing.add_argument(
        "--skip-existing", action="store_true", help="leave out images whose outputs are there: go on"
    )
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    outputs = _outputs(args.outputs)
    paths = _images(args.images)
    todo = _todo(args, paths, outputs)
    from searcher.bundle.load import load_bundle
    from searcher.cli.terminal import print_json
    from searcher.inference.precision import default_device
    from searcher.prediction.predict import ImageResult, Options, predict_images

    bundle = load_bundle(args.bundle)
    predictor = bundle.predictor(device=default_device(), tta=args.tta)
    _create(args.to)
    options = Options(
        folder=args.to,
        trained_um=bundle.pixel_size_um,
        pixel_size_um=args.pixel_size_um,
        outputs=outputs,
        class_name=args.class_name,
    )
    results: list[ImageResult | Failure] = []
    from searcher.cli.terminal import progress_bars

    try:
        with _signals_interrupt(), progress_bars("images", "opening") as (of_images, of_steps):
            of_images(None, 0, len(todo))

            def done(result: "ImageResult | Failure") -> None:
                results.append(result)
                of_images(None, len(results), len(todo))

            predict_images(todo, predictor, options, done=done, progress=of_steps)
    finally:
        found = [each for each in results if isinstance(each, ImageResult)]
        _write_summary(args.to / SUMMARY, found)
    if args.json:
        print_json(
            {
                "bundle": bundle.name,
                "images": [each.to_dict() for each in found],
                "failed": {each.name: each.reason for each in results if not isinstance(each, ImageResult)},
                "skipped": len(paths) - len(todo),
            }
        )
    else:
        _print_results(args, bundle, found, len(paths) - len(todo), options)
    return _say_failures([each for each in results if not isinstance(each, ImageResult)], len(todo))


def _outputs(text: str) -> list[str]:
    """Return the outputs that are wanted.

    Raises:
        UserError: There is no such output.
    """
    from searcher.prediction.outputs import OUTPUTS

    wanted = list(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [name for name in wanted if name not in OUTPUTS]
    if unknown:
        raise UserError(
            f"--outputs {text}: must be of {', '.join(OUTPUTS)}, got {unknown[0] or 'an empty name'}"
        )
    return wanted


def _images(given: Sequence[Path]) -> list[Path]:
    """Return the images that are named, those of folders included, in the order given.

    Raises:
        UserError: One does not exist, a folder has none, or two have outputs of the same name.
    """
    from searcher.prediction.images import images_in

    paths: list[Path] = []
    for path in given:
        if path.is_dir():
            found = images_in(path)
            if not found:
                raise UserError(f"{path}: must hold images, got none directly in it; name another folder")
            paths += found
        elif path.is_file():
            paths.append(path)
        else:
            raise UserError(f"{path}: must be an image or a folder of images, got nothing; check the path")
    by_stem: dict[str, Path] = {}
    for path in paths:
        other = by_stem.setdefault(path.stem.lower(), path)
        if other is not path:
            raise UserError(
                f"{path}: images must have different names without extension, since outputs are called after them, "
                f"got {other} too; rename one, or predict it into another folder"
            )
    return paths


def _todo(args: argparse.Namespace, paths: Sequence[Path], outputs: Sequence[str]) -> list[Path]:
    """Return the images that are to be predicted.

    Raises:
        UserError: The folder of outputs cannot be that, or has outputs that nobody said what to do with.
    """
    from searcher.prediction.outputs import output_paths

    folder: Path = args.to
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--to {folder}: must be a folder, got a file; choose another path")
    sources = {path.resolve() for path in args.images if path.is_dir()}
    if folder.resolve() in sources:
        raise UserError(
            f"--to {folder}: must not be a folder of images to predict: outputs would be taken for images next time; "
            "choose another folder"
        )
    there = [
        path
        for path in paths
        if all(output.exists() for output in output_paths(folder, path.stem, outputs).values())
    ]
    partly = [
        path
        for path in paths
        if any(output.exists() for output in output_paths(folder, path.stem, outputs).values())
    ]
    if args.skip_existing:
        return [path for path in paths if path not in {*there}]
    if partly and not args.force:
        raise UserError(
            f"--to {folder}: must hold no outputs of the images yet, got those of {partly[0].name}"
            f"{f' and {len(partly) - 1} more' if len(partly) > 1 else ''}; go on with --skip-existing, or replace "
            "them with --force"
        )
    return list(paths)


def _create(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--to {folder}: could not be created: {error.strerror or error}; choose another path"
        ) from error


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let a batch system's SIGTERM and a closing terminal's SIGHUP end the work as Ctrl-C does."""

    def interrupt(_number: int, _frame: "FrameType | None") -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_summary(path: Path, found: "Sequence[ImageResult]") -> None:
    """Write the table of images; rows of images that were predicted before, and are not now, stay."""
    if not found:
        return
    from searcher.cli.options import write_text

    rows: dict[str, Mapping[str, object]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = {row["image"]: row for row in csv.DictReader(file) if row.get("image")}
    except (OSError, UnicodeDecodeError, csv.Error):
        rows = {}
    for each in found:
        rows[each.name] = {**each.to_dict(), "image": each.name}
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _SUMMARY_COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows[name] for name in sorted(rows))
    write_text("--to", path, text.getvalue())


def _print_results(
    args: argparse.Namespace,
    bundle: "Bundle",
    found: "Sequence[ImageResult]",
    num_skipped: int,
    options: "Options",
) -> None:
    from searcher.cli.terminal import console, table

    if 0 < len(found) <= 20:
        rows = [
            (each.name, f"{each.width}x{each.height}", _um(each.pixel_size_um), each.objects, each.seconds)
            for each in found
        ]
        console.print(table(["image", ">size px", ">pixel um", ">objects", ">seconds"], rows))
    for line in _remarks(bundle, found, options):
        console.print(line, markup=False, soft_wrap=True)
    skipped = f", {num_skipped} left out whose outputs were there" if num_skipped else ""
    console.print(
        f"{len(found)} images predicted with {bundle.name}{skipped}: {args.to}", markup=False, soft_wrap=True
    )


def _remarks(bundle: "Bundle", found: "Sequence[ImageResult]", options: "Options") -> list[str]:
    """Return what to know about the pixel sizes."""
    unknown = [each for each in found if each.pixel_size_um is None]
    resampled = [each for each in found if each.scale != 1]
    lines = []
    if resampled:
        lines.append(
            f"{len(resampled)} images were resampled to the {_um(options.trained_um)} um that {bundle.name} was "
            "trained at; outputs are at their own resolution"
        )
    if options.trained_um is None and len(unknown) < len(found):
        lines.append(
            f"{bundle.name} does not say what pixel size it was trained at: images were taken as they are"
        )
    if unknown:
        lines.append(
            f"the pixel size of {len(unknown)} images is not known: they were taken as they are, and measured in "
            "pixels only; --pixel-size-um gives it"
        )
    return lines


def _say_failures(failed: "Sequence[Failure]", num_images: int) -> int:
    """Name the broken images on stderr and return the exit code."""
    for each in failed:
        print(each.reason, file=sys.stderr)
    if failed:
        raise SearcherError(f"{len(failed)} of {num_images} images could not be predicted, see above")
    return 0


def _um(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
