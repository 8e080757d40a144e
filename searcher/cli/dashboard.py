"""`searcher dashboard`: Optuna dashboard on the study database."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.api.places import read_secret
from searcher.cli.options import Verbs, add_database, database_address
from searcher.cli.streams import output
from searcher.escaping import one_line
from searcher.extras import need
from searcher.settings import without_frame

if TYPE_CHECKING:
    from searcher.dashboard.access import Access

__all__ = ["add_parser"]

_PORT = 8080
_TOKEN_VARIABLE = "SEARCHER_DASHBOARD_TOKEN"


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser(
        "dashboard",
        epilog="Ends with Ctrl-C or SIGTERM, exit code 130. It speaks plain HTTP: across a network, use an SSH "
        "tunnel or put a server with TLS in front.",
    )
    add_database(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; any but loopback demands a token; default 127.0.0.1",
    )
    parser.add_argument("--port", type=_port, default=_PORT, help=f"0 takes a free one; default {_PORT}")
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        help=f"demand the token in this file, or that in ${_TOKEN_VARIABLE}; where one is demanded and none given, one "
        "is made and printed",
    )
    parser.add_argument("--writable", action="store_true", help="allow to change and delete studies")
    parser.set_defaults(run=_run)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"must be a port, 0 to 65535, got {text}")
    return int(text)


def _run(args: argparse.Namespace) -> int:
    need("dashboard", "searcher dashboard")
    from searcher.dashboard.server import DashboardServer
    from searcher.ledger.database import Database

    access = _access(args)
    with (
        Database.open(database_address(args), may_write=args.writable) as database,
        DashboardServer(
            database, host=args.host, port=args.port, writable=args.writable, access=access
        ) as server,
    ):
        _say(server.url, access, writable=args.writable)
        server.serve()
    return 0


def _access(args: argparse.Namespace) -> "Access | None":
    """Return what to demand: the token that was given, or a new one where others can reach the port."""
    from searcher.dashboard.access import Access
    from searcher.dashboard.server import is_loopback

    from_environment = os.environ.pop(_TOKEN_VARIABLE, None)
    if args.token_file is not None:
        return Access(read_secret("--token-file ", args.token_file, "the token"))
    if from_environment is not None:
        return Access(without_frame(from_environment))
    return None if is_loopback(args.host) else Access.make()


def _say(url: str, access: "Access | None", *, writable: bool) -> None:
    lines = [f"dashboard: {url}"]
    if access is not None:
        # Not where its output goes into a log, whose readers need not be those who may read the token.
        is_for_reader = access.was_made or sys.stdout.isatty()
        lines.append(
            f"log in once with: {url}/login/{access.login_code}"
            if is_for_reader
            else f"log in at {url}/login"
        )
    if access is not None and access.was_made:
        lines.append(f"token, for programs and further browsers: {access.token}")
    lines.append(
        "writable: studies can be changed and deleted there"
        if writable
        else "read-only; --writable changes that"
    )
    output.write("".join(f"{one_line(line)}\n" for line in lines))
    output.flush()
