"""What the verbs that only look do without: each of these costs seconds, or tenths of one, at every call."""

import subprocess
import sys

HEAVY = {"alembic", "matplotlib", "plotly", "pyarrow", "ray", "scipy", "skimage", "torch"}


def test_whoever_looks_at_a_study_waits_for_no_package_that_shows_nothing(stored_study):
    number = stored_study.complete()
    calls = [
        [*call, "--study", "s"]
        for call in (["status"], ["trials"], ["best"], ["logs", "--trial", f"{number}"])
    ]
    code = f"""
import sys
from searcher.cli.main import main
for call in {calls!r}:
    assert main(call) == 0
    found = {HEAVY!r} & sys.modules.keys()
    assert not found, (call, found)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
