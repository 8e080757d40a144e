"""The verbs of the command line, in the order of `searcher --help`, and what each does.

The module of a verb has its name. It is imported when its options are needed: for the verb that is called, or for all.
"""

import argparse
import importlib
from typing import Any

__all__ = ["VERBS", "add_verbs"]

VERBS = {
    "studies": "list the studies that come with the package",
    "plugins": "list the models and other parts that are known, ours and of plug-ins",
    "validate": "check study files and show what they search",
    "data": "prepare, inspect, import, export or draw a data set",
    "plan": "write a first study for a data set, with a reason for every value",
    "probe": "measure the memory of a study's largest trials, and say how many can share a GPU",
    "launch": "run a study, or go on with one that was interrupted",
    "status": "show how far the studies of a database are",
    "trials": "show every trial of a study, or one with all its values",
    "best": "show the best trial of a study and its checkpoint",
    "refine": "narrow a study's ranges to what its best trials leave",
    "logs": "show the log of a study's launches, or of one trial",
    "jobs": "list detached launches, the newest first",
    "stop": "end a study's launch cleanly; the same launch command goes on with it",
    "train": "train one trial of a study here, without cluster and database",
    "export": "write the winner as a bundle to evaluate, share and use anywhere",
    "evaluate": "measure a bundle or checkpoints by the official metrics",
    "metrics": "measure any method's label maps by the official metrics",
    "benchmark": "the GlaS challenge's table with these results, and their ranks",
    "predict": "find, measure and outline the objects in new images of any size",
    "review": "rank new images by how much networks disagree, and write files to correct in QuPath",
    "dashboard": "open the studies of a database in the browser",
    "gc": "remove checkpoints that nothing needs any more",
    "doctor": "find what is wrong with the studies of a database, and fix it",
}
"""What `searcher --help` says of a verb, by its name."""


class _Described:
    """`ArgumentParser.add_subparsers` for verbs: adds what `VERBS` says of them."""

    def __init__(self, verbs: Any) -> None:
        self._verbs = verbs

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        """Add a verb as `argparse` does."""
        parser: argparse.ArgumentParser = self._verbs.add_parser(name, help=VERBS[name], **options)
        return parser


def add_verbs(verbs: Any, *, only: str | None = None) -> None:
    """Add all commands to a parser.

    Args:
        verbs: The result of `ArgumentParser.add_subparsers`.
        only: Name of the command whose options are needed; the others are added by name only. None adds all with their
            options.
    """
    described = _Described(verbs)
    for name in VERBS:
        if only in (None, name):
            importlib.import_module(f"searcher.cli.{name}").add_parser(described)
        else:
            described.add_parser(name)
