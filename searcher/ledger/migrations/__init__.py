"""Alembic migrations of our tables. Optuna migrates its own."""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from searcher.exceptions import DatabaseError
from searcher.ledger.tables import StudyRow

__all__ = ["check_revision", "upgrade"]

VERSION_TABLE = "searcher_alembic_version"
"""Where our revision is kept; `alembic_version` in the same database is Optuna's."""

SCRIPTS = Path(__file__).parent


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Migrate our tables to a revision, creating them in a new database, in one transaction."""
    if revision == "head" and _current(engine) == _revisions()[-1]:
        return  # without waiting for a lock
    from alembic import command  # a third of a second to import, and a database is seldom new or old
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["engine"] = engine
    command.upgrade(config, revision)


def check_revision(engine: Engine, *, where: str, may_upgrade: bool) -> None:
    """Check that our tables have a revision that this version of searcher can use; changes nothing.

    Args:
        engine: Engine of the database.
        where: The database in messages, such as `--db study.db`.
        may_upgrade: Whether missing or older tables are allowed.

    Raises:
        DatabaseError: The tables are newer; or missing or older, and `may_upgrade` is false.
    """
    current, known = _current(engine), _revisions()
    head = known[-1]
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
        if not sa.inspect(connection).has_table(VERSION_TABLE):
            return None
        version = sa.table(VERSION_TABLE, sa.column("version_num", sa.String))
        return connection.scalar(sa.select(version.c.version_num))


def _revisions() -> list[str]:
    """Return all revisions, the oldest first; a script's name begins with its revision."""
    return sorted(path.name.partition("_")[0] for path in (SCRIPTS / "versions").glob("[0-9]*.py"))
