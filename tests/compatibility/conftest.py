"""What an older version left behind, unpacked and moved to a folder of the test's own."""

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from recorded_data import WRITERS

ARCHIVES = sorted((Path(__file__).parent / "recorded").glob("*.tar.xz"))
_MADE_IN = "/tmp/searcher-recorded"
_WITH_PATHS = {
    "searcher_studies": ("storage_root", "data_source", "spec_source"),
    "searcher_exports": ("path",),
}


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def recorded(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, with the database, studies, store, bundle and predictions of an older version in it."""
    with tarfile.open(request.param) as packed:
        packed.extractall(tmp_path, filter="data")
    WRITERS["folder"](tmp_path / "data")
    _move(tmp_path / "searcher.db", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEARCHER_DB", raising=False)
    monkeypatch.setenv("SEARCHER_CACHE", str(tmp_path / "cache"))
    return tmp_path


def _move(database: Path, folder: Path) -> None:
    """Put another folder in the place of the one where all was made."""
    with closing(sqlite3.connect(database)) as connection:
        for table, columns in _WITH_PATHS.items():
            there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            for column in there.intersection(columns):
                connection.execute(
                    f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (_MADE_IN, str(folder))
                )
        connection.commit()
