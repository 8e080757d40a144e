"""The command `searcher`: parses the line, runs one verb, turns errors into one line and an exit code.

Exit codes: 0 done, 1 something went wrong while running, 2 bad input, 130 interrupted.
"""

import argparse
import atexit
import gc
import os
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

from searcher._version import __version__
from searcher.cli.folder_file import read_folder_file, settle, take_from_folder
from searcher.cli.interrupts import signals_interrupt
from searcher.cli.parser import Parser
from searcher.cli.streams import output, prepare_streams, say_error, say_problem
from searcher.cli.unexpected_errors import Secrets, fault_of_a_path, report_of, unexpected
from searcher.cli.verbs import add_verbs
from searcher.exceptions import OutputClosedError, SearchBrokeOffError, SearcherError, UserError

__all__ = ["main"]

_COLLECT_AFTER = 50_000
"""New objects after which Python looks for unreachable ones. Its usual 700 slow down the imports of every verb."""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if argv is None:
        gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])
        atexit.register(gc.freeze)  # a process that ends need not look through all that it has imported
    prepare_streams()
    secrets = Secrets(os.environ)
    command = shlex.join(["searcher", *(sys.argv[1:] if argv is None else argv)])
    try:
        code = _run(argv, command, secrets)
        output.flush()
    except OutputClosedError:
        return 0
    except SystemExit:  # argparse's; else the next line would import numpy for it
        raise
    except _errors_of_ours() as error:
        say_error(error)
        if isinstance(error, SearchBrokeOffError) and error.unforeseen is not None:
            say_problem(report_of(error.unforeseen, command, secrets))
        return 1 if isinstance(error, SearcherError) and not isinstance(error, UserError) else 2
    except KeyboardInterrupt:
        say_problem("interrupted")
        return 130
    except Exception as error:
        fault = fault_of_a_path(error)
        say_problem(secrets.masked(fault.text) if fault else unexpected(error, command, secrets))
        return fault.code if fault else 1
    return code


def _run(argv: list[str] | None, command: str, secrets: Secrets) -> int:
    words = (sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        args = _parser(only=words[0]).parse_args(words)
    finally:
        output.flush()  # what --help printed
    args.command = command
    from_folder = settle(args)
    if from_folder and getattr(args, "outlives_output", False):
        say_problem(from_folder)
    _load_plugins(args)
    args.report_of = lambda error: report_of(error, command, secrets)
    with ExitStack() as stack:
        stack.enter_context(signals_interrupt())
        if getattr(args, "outlives_output", False):
            stack.enter_context(output.optional())
        code: int = args.run(args)
    return code


def _load_plugins(args: argparse.Namespace) -> None:
    """Import the plug-ins that the command line names, before a verb reads what may name their parts."""
    if args.plugins:
        from searcher.plugins import load_plugins

        args.plugins = [plugin.source for plugin in load_plugins(args.plugins, folder=Path.cwd())]


def _add_plugins(parser: argparse.ArgumentParser) -> None:
    """Add `--plugin` to a verb, or to all verbs below it."""
    below = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    for each in below:
        for verb in each.choices.values():
            _add_plugins(verb)
    if not below:
        parser.add_argument(
            "--plugin",
            action="append",
            default=[],
            dest="plugins",
            metavar="MODULE|FILE",
            help="import this plug-in first, as a study file's plugins does; may be repeated",
        )


def _errors_of_ours() -> tuple[type[Exception], ...]:
    from searcher.data_pipeline.exceptions import DataError  # imports numpy, which --help does without

    return SearcherError, DataError


def _parser(*, only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; `only` is the verb whose options are needed, None for all verbs with theirs."""
    parser = Parser(
        prog="searcher",
        description="Search the hyperparameters of gland and cell segmentation networks on your own images.",
        epilog="A first look, without data or GPU: searcher launch --study unet-demo",
    )
    parser.add_argument("--version", action="version", version=f"searcher {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, parser_class=Parser)
    add_verbs(verbs, only=only)
    _add_plugins(parser)
    take_from_folder(parser, *read_folder_file(Path()))
    return parser


if __name__ == "__main__":
    sys.exit(main())
