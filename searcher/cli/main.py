"""The command `searcher`: parses the line, runs one verb, turns errors into one line and an exit code.

Exit codes: 0 done, 1 something went wrong while running, 2 bad input, 130 interrupted.
"""

import argparse
import os
import shlex
import sys
from typing import NoReturn

from searcher._version import __version__
from searcher.cli import (
    benchmark,
    best,
    dashboard,
    data,
    doctor,
    evaluate,
    export,
    gc,
    launch,
    logs,
    metrics,
    predict,
    probe,
    refine,
    status,
    stop,
    studies,
    train,
    trials,
    validate,
)
from searcher.cli.interrupts import signals_interrupt
from searcher.exceptions import SearcherError, UserError

__all__ = ["main"]

_VERBS = (
    studies,
    validate,
    data,
    probe,
    launch,
    status,
    trials,
    best,
    refine,
    logs,
    stop,
    train,
    export,
    evaluate,
    metrics,
    benchmark,
    predict,
    dashboard,
    gc,
    doctor,
)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"{self.prog}: {message.removeprefix('argument ')}; see {self.prog} --help\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = _parser().parse_args(argv)
    args.command = shlex.join(["searcher", *(sys.argv[1:] if argv is None else argv)])
    from data_pipeline.exceptions import DataError  # imports numpy, which --help does without

    try:
        with signals_interrupt():
            code: int = args.run(args)
    except (UserError, DataError) as error:
        print(error, file=sys.stderr)
        return 2
    except SearcherError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="searcher",
        description="Search the hyperparameters of gland and cell segmentation networks on your own images.",
        epilog="A first look, without data or GPU: searcher launch --study unet-demo",
    )
    parser.add_argument("--version", action="version", version=f"searcher {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, parser_class=_Parser)
    for verb in _VERBS:
        verb.add_parser(verbs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
