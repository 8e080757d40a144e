"""Statements compiled once a process instead of once a database: a third of what a test of the ledger costs."""

from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.util import LRUCache

__all__ = ["share_compiled_statements"]


def share_compiled_statements() -> None:
    """Let every engine of this process find what another of its kind has compiled (SQLAlchemy 2.0 and 2.1).

    SQLAlchemy keeps compiled statements by engine and by its dialect's identity, and each test opens an engine of its
    own. Two dialects of one class that read and write JSON alike compile alike here: all databases of the tests are of
    one SQLite and of one PostgreSQL server.
    """
    compile_with_cache: Any = ClauseElement._compile_w_cache
    compiled: LRUCache[Any, Any] = LRUCache(5000)
    first: dict[Any, Any] = {}

    def compile_as_the_first(self: ClauseElement, dialect: Any, **about: Any) -> Any:
        json = getattr(dialect, "_json_serializer", None), getattr(dialect, "_json_deserializer", None)
        kind = (type(dialect), dialect.paramstyle, *json)
        return compile_with_cache(self, first.setdefault(kind, dialect), **about)

    setattr(ClauseElement, "_compile_w_cache", compile_as_the_first)  # noqa: B010
    setattr(Engine, "_compiled_cache", property(lambda _: compiled, lambda _, value: None))  # noqa: B010
