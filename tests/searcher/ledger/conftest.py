"""Every test of the ledger runs on SQLite and on a real PostgreSQL server."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
from new_database import new_database

from searcher.ledger.database import Database

# What a test's process begins with, imported once, seconds before it is forked; none of it opens a database.
multiprocessing.set_forkserver_preload(
    [
        "pytest",
        "searcher.ledger.lease",
        "searcher.ledger.migrations",
        "searcher.ledger.doctor",
        "searcher.data_pipeline",
    ]
)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database; with tables where the test takes `database` too."""
    has_tables = "database" in request.fixturenames
    if request.param == "postgresql":
        return request.getfixturevalue("migrated_postgres_url" if has_tables else "fresh_postgres_url")
    if has_tables:
        new_database(tmp_path / "study.db").close()
    return str(tmp_path / "study.db")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database with tables."""
    with Database.open(database_url) as database:
        yield database
