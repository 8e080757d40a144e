"""The page of our tables in the study database, from the SQLAlchemy metadata."""

import ast
import inspect
from collections.abc import Iterator

from markdown_tables import code, table

from searcher.ledger import tables as ledger_tables

_INTRODUCTION = """# Tables of the study database

[Optuna's tables](https://optuna.readthedocs.io) hold trials, parameters, the objective of each epoch, and states.
searcher's own tables are in the same database. Their names begin with `searcher_`. `searcher trials --json` and
[Python](../python.md) read them for you. Migrations update an older database when a command that may write opens it.
"""


def page() -> str:
    """Return the page."""
    return "\n\n".join([_INTRODUCTION, *_tables()])


def _tables() -> Iterator[str]:
    meanings = _meanings()
    for mapper in sorted(ledger_tables.Base.registry.mappers, key=lambda each: each.local_table.name):
        row = mapper.class_
        yield f"## `{mapper.local_table.name}`"
        yield " ".join((row.__doc__ or "").split())
        yield table(
            ["column", "type", "empty", "key", "meaning"],
            [
                [
                    code(column.name),
                    code(column.type),
                    "yes" if column.nullable else "no",
                    _key(column),
                    meanings.get((row.__name__, column.name), ""),
                ]
                for column in mapper.local_table.columns
            ],
        )


def _key(column: object) -> str:
    targets = [f"to {code(each.target_fullname)}" for each in column.foreign_keys]  # type: ignore[attr-defined]
    return ", ".join((["primary"] if column.primary_key else []) + targets)  # type: ignore[attr-defined]


def _meanings() -> dict[tuple[str, str], str]:
    """Return the docstring of each column, by class and attribute."""
    found = {}
    for node in ast.parse(inspect.getsource(ledger_tables)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for statement, after in zip(node.body, node.body[1:], strict=False):
            match statement, after:
                case ast.AnnAssign(target=ast.Name(id=column)), ast.Expr(
                    value=ast.Constant(value=str(meaning))
                ):
                    found[node.name, column] = " ".join(meaning.split())
    return found
