"""Commands of a fresh environment that the wheel was installed into."""

import subprocess
from pathlib import Path

__all__ = ["refused", "run"]


def run(*command: object, cwd: Path) -> str:
    """Return what a command printed; it must end well."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refused(*command: object, cwd: Path) -> str:
    """Return the one line with which a command refuses bad input."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout + done.stderr
    [line] = done.stderr.strip().splitlines()
    return line
