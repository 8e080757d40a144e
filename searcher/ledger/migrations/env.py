"""Alembic's entry point: runs the revisions on the engine that `upgrade` was given."""

import sqlalchemy as sa
from alembic import context

from searcher.ledger.migrations import VERSION_TABLE
from searcher.ledger.tables import Base

_ADVISORY_LOCK = 7_355_608_031
"""Any number, the same in every version: an upgrade holds the PostgreSQL advisory lock with this number."""

_LOCK_TIMEOUT = "30s"

# One transaction around everything, which Alembic does not begin by itself on SQLite: an upgrade that fails or is
# killed leaves the database as it was. And one at a time: on SQLite it begins with the write lock (`writes`).
engine = context.config.attributes["engine"].execution_options(writes=True)
with engine.begin() as connection:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()
