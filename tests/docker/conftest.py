"""The files of docker/, read once."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from worked_checkout import make_checkout

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def folder() -> Path:
    return REPOSITORY / "docker"


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which somebody has worked."""
    return make_checkout(REPOSITORY, tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="session")
def compose(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "compose.yaml").read_text()))


@pytest.fixture(scope="session")
def kubernetes(folder: Path) -> dict[str, Any]:
    """The objects of both manifests by kind and name."""
    documents = [
        document
        for name in ("kuberay-volumes.yaml", "kuberay.yaml")
        for document in yaml.safe_load_all((folder / name).read_text())
    ]
    return {f"{document['kind']}/{document['metadata']['name']}": document for document in documents}
