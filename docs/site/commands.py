"""The page of all commands and options, from the command line's own parsers."""

import argparse
import io
from collections.abc import Iterator

from markdown_tables import code, plain, table

from searcher.cli.main import _parser

_INTRODUCTION = """# Commands

This page lists every command of `searcher` with its options. `searcher COMMAND --help` prints the same.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | something failed while the command ran |
| 2 | the input is invalid: one line names the place, the rule, the value and the remedy |
| 130 | interrupted |
"""


def page() -> str:
    """Return the page."""
    return "\n\n".join([_INTRODUCTION, *_below(_parser(), "searcher")])


def _below(parser: argparse.ArgumentParser, name: str) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help for each in action._choices_actions}
            for verb, below in action.choices.items():
                yield from _section(below, f"{name} {verb}", helps.get(verb) or "")


def _section(parser: argparse.ArgumentParser, name: str, purpose: str) -> Iterator[str]:
    yield f"## `{name}`" if name.count(" ") == 1 else f"### `{name}`"
    yield plain(purpose[:1].upper() + purpose[1:]) + "."
    if any(isinstance(each, argparse._SubParsersAction) for each in parser._actions):
        yield from _below(parser, name)
        return
    rows = [_row(parser, each) for each in parser._actions if not isinstance(each, argparse._HelpAction)]
    yield table(["option", "meaning"], rows)


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> list[str]:
    formatter = parser._get_formatter()
    text = io.StringIO()
    text.write(formatter._format_action_invocation(action))
    meaning = formatter._expand_help(action) if action.help else ""
    needed = ". Required." if action.required and action.option_strings else ""
    return [code(text.getvalue()), plain(meaning) + needed]
