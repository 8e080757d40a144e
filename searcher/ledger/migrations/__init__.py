"""Alembic migrations of our tables. Optuna migrates its own."""

from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Engine

from searcher.exceptions import DatabaseError
from searcher.ledger.tables import StudyRow

__all__ = ["check_revision", "upgrade"]

VERSION_TABLE = "searcher_alembic_version"
"""Where our revision is kept; `alembic_version` in the same database is Optuna's."""

SCRIPTS = Path(__file__).parent


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring our tables to a revision, creating them in a new database; in one transaction, so all or nothing."""
    if revision == "head" and _current(engine) == _scripts().get_current_head():
        return  # without waiting for a lock
    config = _config()
    config.attributes["engine"] = engine
    command.upgrade(config, revision)


def check_revision(engine: Engine, *, where: str, may_upgrade: bool) -> None:
    """Check that our tables are of a revision that this version of searcher can use; changes nothing.

    Args:
        engine: On the database.
        where: The database, for the message; such as `--db study.db`.
        may_upgrade: Whether tables that are missing or older are fine.

    Raises:
        DatabaseError: They are newer; or missing or older, and may not be made or upgraded.
    """
    scripts = _scripts()
    current, head = _current(engine), scripts.get_current_head()
    known = [script.revision for script in scripts.walk_revisions()]
    if current is not None and current not in known:
        raise DatabaseError(
            f"{where}: must be of a revision that this version knows, {head} or older, got {current} of a newer "
            "version; install a newer searcher"
        )
    if may_upgrade or current == head:
        return
    if current is None and not sa.inspect(engine).has_table(StudyRow.__tablename__):
        raise DatabaseError(f"{where}: must hold studies; launch one first, or check the path")
    raise DatabaseError(
        f"{where}: must be of this version's revision {head}, got {current or 'none'}; "
        "`searcher doctor --fix` or the next launch upgrades it"
    )


def _current(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE}
        ).get_current_revision()


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config
