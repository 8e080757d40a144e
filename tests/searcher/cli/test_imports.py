"""What the verbs that only look do without: each of these costs seconds, or tenths of one, at every call."""

import subprocess
import sys

import pytest

HEAVY = {"alembic", "albumentations", "matplotlib", "plotly", "pyarrow", "ray", "scipy", "skimage", "torch"}
DATABASE = {"optuna", "sqlalchemy"}
PIXELS = {"cv2", "numpy"}
PRINTING = {"pydantic", "rich"}


def _assert_imports_none(calls: list[list[str]], packages: set[str]) -> None:
    """Run verbs in one process of their own, and look after each at what it has imported."""
    code = f"""
import sys
from searcher.cli.main import main
for call in {calls!r}:
    try:
        code = main(call)
    except SystemExit as ended:
        code = ended.code
    assert not code, (call, code)
    found = {packages!r} & sys.modules.keys()
    assert not found, (call, found)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_whoever_looks_at_a_study_waits_for_no_package_that_shows_nothing(stored_study):
    number = stored_study.complete()
    looks = [["status"], ["trials"], ["best"], ["logs", "--trial", f"{number}"]]
    _assert_imports_none([[*look, "--study", "s"] for look in looks], HEAVY | {"cv2"})


@pytest.mark.parametrize(
    ("calls", "packages"),
    [
        ([["--help"], ["launch", "--help"], ["status", "--help"]], HEAVY | DATABASE | PIXELS | PRINTING),
        ([["studies"], ["validate", "unet-broad"]], HEAVY | DATABASE | PIXELS),
    ],
    ids=["help", "study files"],
)
def test_help_and_study_files_need_neither_pixels_nor_a_database(calls, packages):
    _assert_imports_none(calls, packages)
