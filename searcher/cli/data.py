"""`searcher data` and its actions: prepare, inspect, import, export and draw."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.cli.options import Verbs, add_data, add_json, add_view, open_source, positive_int

if TYPE_CHECKING:
    from searcher.data_pipeline.inspect import DatasetReport

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("data")
    actions = parser.add_subparsers(
        title="actions", metavar="ACTION", required=True, parser_class=type(parser)
    )
    prepare = actions.add_parser("prepare", help="decode a data set once into the store that all trials read")
    add_data(prepare, required=True)
    prepare.set_defaults(run=_prepare)
    inspect = actions.add_parser("inspect", help="show counts, sizes, splits, instances, and what is wrong")
    add_data(inspect, required=True)
    add_json(inspect)
    inspect.set_defaults(run=_inspect)
    imported = actions.add_parser(
        "import",
        help="write a data set of any known layout as images/, labels/ and tables of samples and objects",
    )
    imported.add_argument("data", metavar="SOURCE", help="its folder, or a folder's URI in an object store")
    add_view(imported)
    imported.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")
    imported.add_argument(
        "--dry-run", action="store_true", help="say what would be written, and write nothing"
    )
    add_json(imported)
    imported.set_defaults(run=_import)
    exported = actions.add_parser("export", help="write a data set of any known layout for another program")
    exported.add_argument("data", metavar="SOURCE", help="its folder, or a folder's URI in an object store")
    exported.add_argument(
        "--as",
        dest="format",
        required=True,
        metavar="FORMAT",
        help="coco, geojson (QuPath), cellpose, nnunet, or a plug-in's",
    )
    add_view(exported)
    exported.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")
    add_json(exported)
    exported.set_defaults(run=_export)
    draw = actions.add_parser("draw", help="write synthetic images as files, to try everything on")
    draw.add_argument(
        "--what",
        choices=("glands", "nuclei"),
        default="glands",
        help="glands, in the layout of GlaS, or nuclei of two classes, as the canonical folder; default glands",
    )
    draw.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")
    draw.add_argument(
        "--images", type=positive_int, default=40, metavar="N", help="of the split train; default 40"
    )
    draw.add_argument(
        "--test-images", type=positive_int, default=12, metavar="N", help="of the split testA; default 12"
    )
    draw.add_argument(
        "--size", type=positive_int, default=192, metavar="PX", help="side of an image; default 192"
    )
    draw.add_argument("--seed", type=int, default=0, metavar="N", help="default 0, as studies without --data")
    draw.set_defaults(run=_draw)


def _prepare(args: argparse.Namespace) -> int:
    from searcher.cli.terminal import console, progress_bar
    from searcher.data_pipeline.exposure import choose_for_store
    from searcher.data_pipeline.store import prepare_store
    from searcher.storage.mirror import cache_dir
    from searcher.training.dataset import trained_on

    source = open_source(args)
    with progress_bar(f"decoding {source.name}") as advance:
        store = prepare_store(source, cache_dir(), progress=advance)
    console.print(f"{len(store)} images ({source.kind}) ready in {store.path}", markup=False, soft_wrap=True)
    chosen = choose_for_store(store, trained_on(store) or range(len(store)))
    console.print(f"{_pixels(store.channels, store.dtype)}; {chosen}", markup=False, soft_wrap=True)
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from searcher.cli.terminal import print_json, progress_bar
    from searcher.data_pipeline.inspect import inspect_dataset

    source = open_source(args, strict=False)
    with progress_bar(f"reading {source.name}") as advance:
        report = inspect_dataset(source, labels_are_said=bool(args.labels_are), progress=advance)
    if args.json:
        print_json(report.to_dict())
    else:
        _print_report(report)
    return 2 if report.problems else 0


def _import(args: argparse.Namespace) -> int:
    from searcher.cli.terminal import console, print_json, progress_bar
    from searcher.data_pipeline.datasets.canonical import import_dataset

    source = open_source(args, strict=False)
    with progress_bar(f"importing {source.name}") as advance:
        report = import_dataset(
            source,
            str(args.data),
            None if args.dry_run else args.to,
            labels_are_said=bool(args.labels_are),
            progress=advance,
        )
    if args.json:
        print_json(report.to_dict())
    else:
        done = "would be written" if args.dry_run else "written"
        console.print(
            f"{report.source}: taken for {report.taken_for}; {report.num_images} images with {report.num_objects} "
            f"objects {done} to {args.to}",
            markup=False,
            soft_wrap=True,
        )
        for kind, lines in (("left out", report.left_out), ("remark", report.remarks)):
            for line in lines:
                console.print(f"{kind}: {line}", markup=False, soft_wrap=True)
    return 1 if report.left_out else 0


def _export(args: argparse.Namespace) -> int:
    from searcher.cli.terminal import console, print_json, progress_bar
    from searcher.data_pipeline.datasets.exports.exporter import export_dataset
    from searcher.data_pipeline.datasets.exports.table import DATA_FORMATS

    exporter = DATA_FORMATS[args.format]  # refuses what is no format, before anything is read
    source = open_source(args, strict=False)
    with progress_bar(f"exporting {source.name}") as advance:
        report = export_dataset(source, str(args.data), args.to, args.format, exporter, progress=advance)
    if args.json:
        print_json(report.to_dict())
    else:
        console.print(
            f"{report.source}: {report.num_images} images with {report.num_objects} objects written as "
            f"{report.written_as} to {args.to}",
            markup=False,
            soft_wrap=True,
        )
        for line in report.left_out:
            console.print(f"left out: {line}", markup=False, soft_wrap=True)
    return 1 if report.left_out else 0


def _draw(args: argparse.Namespace) -> int:
    from searcher.cli.terminal import console, progress_bar
    from searcher.data_pipeline.datasets.drawing import write_drawn
    from searcher.data_pipeline.datasets.synthetic import SYNTHETIC
    from searcher.exceptions import UserError

    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: must be 0 or above, got {args.seed}; leave it out for 0")
    source = SYNTHETIC[args.what](
        num_images=args.images, size_px=args.size, seed=args.seed, num_test_images=args.test_images
    )
    with progress_bar(f"drawing {args.what}") as advance:
        write_drawn(source, args.to, advance)
    console.print(
        f"{args.to}: {args.images} images of the split train, {args.test_images} of testA, with label maps"
        + (" and objects.csv" if getattr(source, "classes", ()) else ""),
        markup=False,
        soft_wrap=True,
    )
    return 0


def _print_report(report: "DatasetReport") -> None:
    from searcher.cli.tables import table
    from searcher.cli.terminal import console

    console.print(
        f"{report.name}: {report.kind}, {report.num_images} readable images of {report.num_groups} patients",
        markup=False,
    )
    console.print(
        f"{_pixels(report.channels, report.dtype)}; {report.normalisation}", markup=False, soft_wrap=True
    )
    rows = [
        (
            name,
            split.num_images,
            split.num_groups,
            ", ".join(f"{grade or 'unknown'} {count}" for grade, count in sorted(split.strata.items())),
            _sizes(split.sizes),
            split.instances.count,
            _quantiles(split.instances.per_image),
            _quantiles(split.instances.area_px),
            f"{split.instances.foreground:.0%}",
        )
        for name, split in report.splits.items()
    ]
    columns = [
        "split",
        ">images",
        ">patients",
        "~grades",
        "~sizes",
        ">instances",
        ">an image",
        ">area px",
        ">foreground",
    ]
    console.print(table(columns, rows, first_to_go=["patients", "an image"]))
    for name, split in report.splits.items():
        if split.classes:
            counts = ", ".join(f"{each or 'without class'} {num}" for each, num in split.classes.items())
            console.print(f"classes of {name}: {counts}", markup=False, soft_wrap=True)
    if rows:
        console.print("an image, area px: min / median / max", markup=False)
    for kind, lines in (("problem", report.problems), ("remark", report.remarks)):
        for line in lines:
            console.print(f"{kind}: {line}", markup=False, soft_wrap=True)


def _pixels(channels: tuple[str, ...], dtype: str) -> str:
    """Return what the images' values are, for people."""
    number = "1 channel" if len(channels) == 1 else f"{len(channels)} channels"
    return f"{dtype.removeprefix('uint')} bit, {number} ({', '.join(channels)})"


def _sizes(sizes: dict[str, int]) -> str:
    """Return the three most frequent sizes and how many more there are."""
    shown = [f"{size} ({count})" for size, count in list(sizes.items())[:3]]
    return ", ".join(shown) + (f", {len(sizes) - 3} more" if len(sizes) > 3 else "")


def _quantiles(quantiles: dict[str, float]) -> str:
    return " / ".join(f"{quantiles[name]:.0f}" for name in ("min", "50%", "max")) if quantiles else ""
