"""`--cases DIR`: a folder of cases to run instead of ours."""

from pathlib import Path

import pytest

OURS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cases", type=Path, default=OURS, metavar="DIR", help="folder of NAME/run.sh; default ours"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        folder = metafunc.config.getoption("--cases", OURS).resolve()
        found = sorted(path.parent for path in folder.glob("*/run.sh"))
        assert found, f"--cases {folder}: must hold NAME/run.sh, got none"
        metafunc.parametrize("case", found, ids=[path.name for path in found])
