"""The parser of the command line: one line for what is wrong, with the word that was probably meant."""

import argparse
import re
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from searcher.cli.streams import output, say_problem
from searcher.suggestions import nearest

__all__ = ["Parser"]

_CHOICE = re.compile(r"argument (?P<name>.+?): invalid choice: '(?P<value>.*)' \(choose from .*\)", re.DOTALL)
"""What argparse says of a value that is none of its choices."""


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line instead of its usage, and accepts no abbreviated options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False} | options)

    def parse_known_args(  # type: ignore[override]  # argparse's own is overloaded by the namespace's class
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the arguments; unknown ones are an error, reported by the subparser of the command."""
        taken, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        return taken, unknown

    def error(self, message: str) -> NoReturn:
        """Print the message to standard error, and exit with code 2."""
        choice = _CHOICE.fullmatch(message)
        if choice:
            message = self._wrong_choice(choice["name"], choice["value"])
        say_problem(f"{self.prog}: {message.removeprefix('argument ')}; see {self.prog} --help")
        raise SystemExit(2)

    def _unknown(self, unknown: Sequence[str]) -> str:
        options = [text.partition("=")[0] for text in unknown if text.startswith("-") and text != "--"]
        if not options:
            return f"must be given no more than its usage says, got {' '.join(unknown)}"
        known = {name for action in self._actions for name in action.option_strings if name.startswith("--")}
        return "; ".join(f"{option}: unknown option{_meant(option, known)}" for option in options)

    def _wrong_choice(self, name: str, value: str) -> str:
        named = (action.choices for action in self._actions if action.choices and name in _names_of(action))
        choices = [str(choice) for choice in next(named, ())]
        return f"{name}: must be one of {', '.join(choices)}, got {value!r}{_meant(value, choices)}"

    def _print_message(self, message: str, _file: Any = None) -> None:
        """Print help and version; argparse passes over what cannot be written."""
        if message:
            output.write(message)


def _names_of(action: argparse.Action) -> Collection[str]:
    names = {"/".join(action.option_strings), action.dest}
    return names | ({action.metavar} if isinstance(action.metavar, str) else set())


def _meant(text: str, known: Collection[str]) -> str:
    meant = nearest(text, known)
    return f"; did you mean {meant}?" if meant else ""
