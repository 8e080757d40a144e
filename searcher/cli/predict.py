"""`searcher predict`: the objects in new images, as label maps, overlays, tables and GeoJSON."""

import argparse
import csv
import io
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.cli.options import Verbs, add_json, positive_float
from searcher.cli.streams import say_problem
from searcher.exceptions import SearcherError, UserError

if TYPE_CHECKING:
    from searcher.bundle.load import Bundle
    from searcher.prediction.predict import Failure, ImageResult, Options

__all__ = ["add_parser"]

SUMMARY = "predictions.csv"
"""The table of images in the folder of outputs."""
_SUMMARY_COLUMNS = ("image", "height", "width", "pixel_size_um", "objects", "area_px", "area_um2", "seconds")
_SUMMARY_EVERY_S = 5.0
"""It is written as a whole, so with many images not after each."""


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
        "--skip-existing", action="store_true", help="leave out images that are done: go on"
    )
    add_json(parser)
    parser.set_defaults(run=_run, outlives_output=True)


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

    with (
        closing(_Table(args.to / SUMMARY, todo)) as summary,
        progress_bars("images", "opening") as (of_images, of_steps),
    ):
        of_images(None, 0, len(todo))

        def done(result: "ImageResult | Failure") -> None:
            results.append(result)
            if isinstance(result, ImageResult):
                summary.add(result)
            of_images(None, len(results), len(todo))

        predict_images(todo, predictor, options, done=done, progress=of_steps)
    found = [each for each in results if isinstance(each, ImageResult)]
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
    if args.force:
        return list(paths)
    are_there = {
        path: [output.exists() for output in output_paths(folder, path.stem, outputs).values()]
        for path in paths
    }
    if args.skip_existing:
        rows = _rows(folder / SUMMARY)
        return [path for path in paths if path.name not in rows or not all(are_there[path])]
    partly = [path for path in paths if any(are_there[path])]
    if partly:
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


class _Table:
    """The table of images. Rows of images that were predicted before, and are not now, stay.

    Args:
        path: The file.
        todo: What is predicted now: rows of it are of outputs that are about to be replaced, and go at once.

    Raises:
        UserError: It could not be written.
    """

    def __init__(self, path: Path, todo: Sequence[Path]) -> None:
        self._path = path
        before, now = _rows(path), {each.name for each in todo}
        self._rows = {name: row for name, row in before.items() if name not in now}
        self._is_written = True
        if len(self._rows) < len(before):
            self.write()
        self._written_at = time.monotonic()

    def add(self, result: "ImageResult") -> None:
        """Add a row, and write the table now and then: whatever ends the process, few rows are missing."""
        self._rows[result.name] = {**result.to_dict(), "image": result.name}
        self._is_written = False
        if time.monotonic() - self._written_at >= _SUMMARY_EVERY_S:
            self.write()

    def close(self) -> None:
        """Write what is not written yet."""
        if not self._is_written:
            self.write()

    def write(self) -> None:
        """Write the table, atomically."""
        from searcher.cli.options import write_text

        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, _SUMMARY_COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self._rows[name] for name in sorted(self._rows))
        write_text("--to", self._path, text.getvalue())
        self._is_written = True
        self._written_at = time.monotonic()


def _rows(path: Path) -> dict[str, Mapping[str, object]]:
    """Return the rows of a table of images by the images' names; none if there is no such table."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["image"]: row for row in csv.DictReader(file) if row.get("image")}
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}


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
        f"{_images_text(len(found))} predicted with {bundle.name}{skipped}: {args.to}",
        markup=False,
        soft_wrap=True,
    )


def _remarks(bundle: "Bundle", found: "Sequence[ImageResult]", options: "Options") -> list[str]:
    """Return what to know about the pixel sizes."""
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
    if unknown:
        taken = "it was taken as it is" if len(unknown) == 1 else "they were taken as they are"
        lines.append(
            f"the pixel size of {_images_text(len(unknown))} is not known: {taken}, and measured in "
            "pixels only; --pixel-size-um gives it"
        )
    return lines


def _say_failures(failed: "Sequence[Failure]", num_images: int) -> int:
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
