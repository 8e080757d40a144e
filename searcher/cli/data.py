"""`searcher data prepare` and `searcher data inspect`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.cli.options import Verbs, add_data, add_json, cache_dir

if TYPE_CHECKING:
    from data_pipeline.inspect import DatasetReport

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser("data", help="prepare or inspect a data set")
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


def _prepare(args: argparse.Namespace) -> int:
    from data_pipeline.datasets import open_dataset
    from data_pipeline.store import prepare_store
    from searcher.cli.terminal import console, progress_bar

    source = open_dataset(Path(args.data))
    with progress_bar(f"decoding {source.name}") as advance:
        store = prepare_store(source, cache_dir(), progress=advance)
    console.print(f"{len(store)} images ({source.kind}) ready in {store.path}", markup=False, soft_wrap=True)
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from data_pipeline.datasets import open_dataset
    from data_pipeline.inspect import inspect_dataset
    from searcher.cli.terminal import print_json, progress_bar

    source = open_dataset(Path(args.data), strict=False)
    with progress_bar(f"reading {source.name}") as advance:
        report = inspect_dataset(source, progress=advance)
    if args.json:
        print_json(report.to_dict())
    else:
        _print_report(report)
    return 2 if report.problems else 0


def _print_report(report: "DatasetReport") -> None:
    from searcher.cli.terminal import console, table

    console.print(
        f"{report.name}: {report.kind}, {report.num_images} readable images of {report.num_groups} patients",
        markup=False,
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
        "grades",
        "sizes",
        ">instances",
        ">an image",
        ">area px",
        ">foreground",
    ]
    console.print(table(columns, rows))
    if rows:
        console.print("an image, area px: min / median / max", markup=False)
    for kind, lines in (("problem", report.problems), ("remark", report.remarks)):
        for line in lines:
            console.print(f"{kind}: {line}", markup=False, soft_wrap=True)


def _sizes(sizes: dict[str, int]) -> str:
    """Return the three most frequent sizes and how many more there are."""
    shown = [f"{size} ({count})" for size, count in list(sizes.items())[:3]]
    return ", ".join(shown) + (f", {len(sizes) - 3} more" if len(sizes) > 3 else "")


def _quantiles(quantiles: dict[str, float]) -> str:
    return " / ".join(f"{quantiles[name]:.0f}" for name in ("min", "50%", "max")) if quantiles else ""
