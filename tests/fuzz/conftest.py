"""One process that runs verbs, and a tiny trained network, for all generated tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from forks import common_folder
from trained_runs import folder_of, shared_runs
from verb_server import VerbServer

from searcher.cli.main import main


@pytest.fixture(scope="session")
def verbs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the verbs run in."""
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="session")
def verbs(verbs_folder: Path) -> Iterator[VerbServer]:
    """A process that runs verbs in `verbs_folder`."""
    server = VerbServer(verbs_folder)
    yield server
    server.close()


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `trained_runs.make_runs`: U-Nets of one epoch."""
    return shared_runs(common_folder(tmp_path_factory))


@pytest.fixture(scope="session")
def tiny_bundle(tiny_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of one of them."""
    to = tmp_path_factory.mktemp("fuzz-trained") / "bundle"
    assert main(["export", str(folder_of(tiny_runs, "plain")), "--to", str(to), "--name", "tiny"]) == 0
    return to
