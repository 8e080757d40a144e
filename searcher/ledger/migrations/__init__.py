"""Alembic migrations of our tables. Optuna migrates its own."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Engine

__all__ = ["upgrade"]

VERSION_TABLE = "searcher_alembic_version"
"""Where our revision is kept; `alembic_version` in the same database is Optuna's."""


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring our tables to a revision, creating them in a new database."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["engine"] = engine
    command.upgrade(config, revision)
