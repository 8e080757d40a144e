"""The options that name trained networks: files, a bundle, or their study."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.cli.options import add_database, database_address
from searcher.exceptions import UserError

if TYPE_CHECKING:
    from searcher.api.networks import NetworksNamed

__all__ = ["add_members", "networks_named"]


def add_members(parser: argparse.ArgumentParser, *, bundles: bool) -> None:
    """Add the options that name trained networks.

    Args:
        parser: Parser of the command.
        bundles: Whether a bundle may be named, too.
    """
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="BUNDLE|CHECKPOINT" if bundles else "CHECKPOINT",
        help=("a bundle (searcher export makes one), or " if bundles else "")
        + "a trial's best.pt (searcher best names it) or its folder; several U-Nets, of folds say, are averaged",
    )
    parser.add_argument("--study", metavar="NAME", help="instead of files: the best trial of this study")
    parser.add_argument("--trial", type=int, metavar="N", help="with --study: this trial instead of its best")
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="with --study of a rerank: all runs of its winner together, their maps averaged",
    )
    add_database(parser)
    parser.set_defaults(prog=parser.prog)


def networks_named(args: argparse.Namespace) -> "NetworksNamed":
    """Return the networks that the command line names.

    Raises:
        UserError: A database is given together with files.
    """
    from searcher.api.networks import NetworksNamed

    if args.paths and args.study is None and args.db is not None:
        raise UserError("--db: must be given with --study, got files; leave it out")
    return NetworksNamed(
        paths=tuple(args.paths),
        study=args.study,
        trial=args.trial,
        ensemble=args.ensemble,
        database=database_address(args) if args.study is not None else None,
        who=args.prog,
    )
