"""`searcher plugins`: which parts a study file can name, and where each comes from."""

import argparse
import importlib

from searcher.cli.options import Verbs, add_json
from searcher.cli.streams import say_error

__all__ = ["add_parser"]

_ROOMS = (
    "searcher.models.parts",
    "searcher.models.settings",
    "searcher.study.config",
    "searcher.study.parts",
    "searcher.study.objectives",
    "searcher.data_pipeline.augment",
    "searcher.data_pipeline.datasets.layouts.table",
    "searcher.bundle.formats",
)
"""Modules that keep registries."""


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("plugins")
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.cli.tables import table
    from searcher.cli.terminal import console, print_json
    from searcher.plugins import broken_plugins, plugin_of, registries

    for room in _ROOMS:
        importlib.import_module(room)
    rows = [
        (registry.kind, registry.key, name, registry.origin(name))
        for registry in registries()
        for name in registry.names()
    ]
    for problem in broken_plugins():
        say_error(problem)
    if args.json:
        found = [(*row, plugin_of(row[3])) for row in rows]
        print_json(
            [
                {
                    "kind": kind,
                    "key": key,
                    "name": name,
                    "origin": origin,
                    "version": None if plugin is None else plugin.version or None,
                    "sha256": None if plugin is None else plugin.sha256,
                }
                for kind, key, name, origin, plugin in found
            ]
        )
    else:
        console.print(table(["kind", "key", "name", "~from"], rows))
    return 2 if broken_plugins() else 0
