"""One process that runs verbs, and a tiny trained network, for all generated tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from trained_runs import folder_of, make_runs
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
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a U-Net of one epoch."""
    root = tmp_path_factory.mktemp("fuzz-trained")
    make_runs(root)
    assert (
        main(["export", str(folder_of(root, "plain")), "--to", str(root / "bundle"), "--name", "tiny"]) == 0
    )
    return root / "bundle"
