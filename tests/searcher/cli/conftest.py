"""A study without training for the verbs that read, watch and fix."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from forks import common_folder
from new_database import new_database
from stored_study import StoredStudy, stored_in
from trained_runs import shared_runs


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder: an empty one, with nothing in the cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEARCHER_DB", raising=False)
    monkeypatch.setenv("SEARCHER_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def stored_study(here: Path) -> Iterator[StoredStudy]:
    """The study `s` in `searcher.db` of the present folder, with nothing in the cache."""
    with new_database("searcher.db") as database:
        yield StoredStudy(database, here)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `trained_runs.make_runs`."""
    return shared_runs(common_folder(tmp_path_factory))


@pytest.fixture(scope="module")
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study `s`, made once for a module by its `run_trials`."""
    return stored_in(tmp_path_factory.mktemp("searched"), request.module.run_trials)


@pytest.fixture
def searched(original: Path, here: Path) -> None:
    """A copy of that study in the present folder."""
    shutil.copytree(original, here, dirs_exist_ok=True)
