"""A study without training for the verbs that read, watch and mend."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stored_study import StoredStudy

from searcher.ledger.database import Database


@pytest.fixture
def stored_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoredStudy]:
    """The study `s` in `searcher.db` of the present folder, with nothing in the cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEARCHER_DB", raising=False)
    monkeypatch.setenv("SEARCHER_CACHE", str(tmp_path / "cache"))
    with Database.open("searcher.db", create=True) as database:
        yield StoredStudy(database, tmp_path)
