"""The database's clock: the one clock that all drivers of a study share."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["database_now"]


class database_now(FunctionElement[Any]):  # noqa: N801  an SQL function
    """SQL expression for the present moment by the database's clock, in UTC without a zone.

    It is used for times that are compared across hosts, such as when a lease was renewed and how long ago that is. Its
    resolution is a millisecond or better.
    """

    type = sa.DateTime()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _on_sqlite(_element: database_now, _compiler: SQLCompiler, **_: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"  # as SQLAlchemy writes microseconds


@compiles(database_now, "postgresql")
def _on_postgres(_element: database_now, _compiler: SQLCompiler, **_: Any) -> str:
    return "timezone('utc', clock_timestamp())"  # not now(), which stands still in a transaction
