"""The wheel, and a fresh environment with it."""

import sys
import sysconfig
from pathlib import Path

import pytest
from filelock import FileLock
from forks import common_folder
from installed import run

ROOT = Path(__file__).resolve().parents[2]
LINKED = ("models", "data_pipeline", "studies")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built through the source distribution, so that both are checked; one for all processes."""
    folder = common_folder(tmp_path_factory) / "dist"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    [built] = folder.glob("gland_searcher-*.whl")
    return built


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; its `bin` folder is returned.

    The dependencies come from this environment: torch alone would take gigabytes. Ours do not, as is checked.
    """
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=folder)
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(
        f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})\n"
    )
    return folder / "bin"


@pytest.fixture
def foreign_packages(tmp_path: Path) -> Path:
    """A folder with packages of somebody else's that have the names of our folders, as many repositories have."""
    for name in LINKED:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('{name} of somebody else')\n")
    return tmp_path
