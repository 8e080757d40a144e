"""Faults as scripts: each `NAME/run.sh` makes an input, uses `searcher` as a user would, and says what it saw.

Exit code 0: the product does what is right; 77: it cannot be shown on this machine; anything else is the fault.
The last line says which. A script finds `searcher` on PATH, its checkout in SEARCHER_HOME, and an empty TMPDIR. The
processes of those in this folder are forked (`tests/support/forks.py`).

    make cases                 # those in this folder; `make chaos` runs them too
    make cases CASES=DIR       # any other folder of such scripts
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from forks import Forks

HOME = Path(__file__).parents[2]
TIMEOUT_S = 600


@pytest.mark.case
@pytest.mark.timeout(TIMEOUT_S + 30)
def test_case(case: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    scripts = Path(sysconfig.get_path("scripts"))
    assert (scripts / "searcher").exists(), f"{scripts}: `searcher` must be installed; make install"
    scratch = (
        Path("/tmp") / f"c{os.getpid()}"
    )  # as short as a user's own; pytest's is too long for Ray's sockets
    scratch.mkdir()
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "SEARCHER_HOME": str(HOME),
        "SEARCHER_CACHE": str(tmp_path / "cache"),
        "TMPDIR": str(scratch),
        "PY": sys.executable,
    }
    if case.parent == Path(__file__).parent:
        forks: Forks = request.getfixturevalue("forks")
        environment |= forks.variables()
    with subprocess.Popen(
        ["bash", str(case / "run.sh")],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=TIMEOUT_S)
        finally:
            end_group(process.pid)
            shutil.rmtree(scratch)
    last = (output.strip().splitlines() or [""])[-1]
    if process.returncode == 77:
        pytest.skip(last)
    assert process.returncode == 0, output[-3000:]


def end_group(group: int) -> None:
    """End what a script left running."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
