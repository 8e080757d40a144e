"""`searcher.toml`: what the command line need not repeat in a folder."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from searcher.exceptions import DatabaseError, UserError
from searcher.settings import read_setting, without_frame

__all__ = ["FILE", "FolderOption", "read_folder_file", "settle", "take_from_folder"]

FILE = "searcher.toml"
_PROJECT_FILE = "pyproject.toml"
_PROJECT_TABLE = "tool.searcher"
_KEYS = {"db": "SEARCHER_DB", "storage": None, "data": None}
"""What the file may hold, with the environment variable that goes before it."""
_MAX_BYTES = 1 << 20


class FolderOption(argparse.Action):
    """A command-line option whose default may come from `searcher.toml`, under the option's name."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        """Take the command line's value; see `argparse.Action`."""
        setattr(namespace, self.dest, values)


def read_folder_file(folder: Path) -> tuple[str, dict[str, str]]:
    """Return the name of the file that holds settings for this folder, and its settings by option.

    If `searcher.toml` exists, only that is read; otherwise the table `[tool.searcher]` of `pyproject.toml`. Relative
    paths are returned as written: they are relative to the working folder.

    Args:
        folder: The working folder.

    Returns:
        The file's name in messages, and its values of `db`, `storage` and `data`; no values if there is no such file.

    Raises:
        UserError: The file cannot be read, or has another key, a value that is no text, or a password in `db`.
    """
    own = folder / FILE
    if own.exists():
        return FILE, _checked(FILE, _parsed(own))
    project = folder / _PROJECT_FILE
    where = f"{_PROJECT_FILE}: {_PROJECT_TABLE}"
    if project.exists() and "searcher" in _text(project):
        tools = _parsed(project).get("tool")
        table = tools.get("searcher", {}) if isinstance(tools, dict) else {}
        if not isinstance(table, dict):
            from searcher.study.toml_text import shown

            raise UserError(f"{where}: must be a table, got {shown(table)}; write [tool.searcher]")
        return where, _checked(where, table)
    return FILE, {}


def take_from_folder(parser: argparse.ArgumentParser, where: str, settings: Mapping[str, str]) -> None:
    """Use a folder's settings as defaults of a parser and its subparsers, unless the environment has the value.

    Args:
        parser: The parser.
        where: Name of the file, for messages.
        settings: The settings, from `read_folder_file`.
    """
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                take_from_folder(verb, where, settings)
        elif isinstance(action, FolderOption) and action.dest in settings:
            variable = _KEYS[action.dest]
            if variable is None or read_setting(variable) is None:
                action.default = _FolderText(settings[action.dest], where)
                action.required = False


def settle(args: argparse.Namespace) -> str:
    """Convert arguments that came from the folder's file to plain text, and return a line about them.

    Returns:
        A line that names the file and these arguments, as a reminder for the user; empty if there are none.
    """
    taken = {key: value for key, value in vars(args).items() if isinstance(value, _FolderText)}
    for key, value in taken.items():
        setattr(args, key, str(value))
    where = next((value.where for value in taken.values()), "")
    return f"{where}: " + ", ".join(f"{key} {taken[key]}" for key in _KEYS if key in taken) if taken else ""


class _FolderText(str):
    """A value that the folder's file gave; `where` names that."""

    __slots__ = ("where",)

    where: str

    def __new__(cls, text: str, where: str) -> "_FolderText":
        new = super().__new__(cls, text)
        new.where = where
        return new


def _parsed(path: Path) -> dict[str, Any]:
    from searcher.study.toml_text import TomlError, read_toml

    try:
        return read_toml(_text(path))
    except TomlError as error:
        raise UserError(f"{path.name}: {error.problems[0]}") from None


def _text(path: Path) -> str:
    from searcher.text_files import read_text

    return read_text(path, where=path.name, what="settings of this folder", max_bytes=_MAX_BYTES)


def _checked(where: str, table: Mapping[str, Any]) -> dict[str, str]:
    from searcher.study.toml_text import shown
    from searcher.suggestions import suggestion

    for key, value in table.items():
        if key not in _KEYS:
            raise UserError(f"{where}: {key}: unknown key, got {shown(value)}; {suggestion(key, _KEYS)}")
        if not isinstance(value, str) or not without_frame(value):
            raise UserError(f'{where}: {key}: must be a text, got {shown(value)}; e.g. {key} = "PATH"')
    settings = {key: without_frame(value) for key, value in table.items()}
    if not settings.get("db", "@").startswith("@"):
        _check_database(where, settings["db"])
    return settings


def _check_database(where: str, url: str) -> None:
    from searcher.ledger.address import parse_url

    try:
        holds_secret = parse_url(url).holds_secret
    except DatabaseError as error:
        raise UserError(f"{where}: {str(error).replace('--db', 'db', 1)}") from error
    if holds_secret:
        raise UserError(
            f"{where}: db: must not hold a password; put the whole URL into a file of its own, and write "
            'db = "@FILE", or set SEARCHER_DB'
        )
