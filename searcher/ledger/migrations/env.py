"""Alembic's entry point: runs the revisions on the engine that `upgrade` was given."""

from alembic import context

from searcher.ledger.migrations import VERSION_TABLE
from searcher.ledger.tables import Base

with context.config.attributes["engine"].connect().execution_options(writes=True) as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
