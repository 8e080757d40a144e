"""The wheel, installed in a fresh environment outside the repository, brings all four packages and their files."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("searcher", "models", "data_pipeline", "studies")

pytestmark = pytest.mark.packaging


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built through the source distribution, so that both are checked."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    [built] = folder.glob("gland_searcher-*.whl")
    return built


def test_the_wheel_holds_every_source_file_of_the_packages_and_nothing_else(wheel):
    tracked = run("git", "ls-files", *PACKAGES, cwd=ROOT).split()
    with zipfile.ZipFile(wheel) as archive:
        packed = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert sorted(packed) == sorted(tracked)


def test_the_installed_command_runs_the_installed_packages(wheel, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    # The dependencies come from this environment: torch alone would take gigabytes. Ours do not, as is checked.
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(
        f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})\n"
    )
    for package in PACKAGES:
        place = run(python, "-c", f"import {package}; print({package}.__file__)", cwd=tmp_path).strip()
        assert Path(place).is_relative_to(site), place
    command = tmp_path / "venv" / "bin" / "searcher"
    assert "unet-demo" in run(command, "studies", cwd=tmp_path)
    assert "valid" in run(command, "validate", "unet-broad", cwd=tmp_path)
