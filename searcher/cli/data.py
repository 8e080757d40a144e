"""`searcher data prepare` and `searcher data inspect`."""

import argparse
from pathlib import Path

from searcher.cli.options import Verbs, add_data, add_json, cache_dir

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
    raise NotImplementedError(args)
