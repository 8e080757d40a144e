"""What the database keeps of a launch: where and by whom it runs, and with which versions."""

import os
import platform
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

from searcher.ledger.clock import database_now
from searcher.ledger.liveness import own_process
from searcher.ledger.tables import LaunchRow
from searcher.study.config import MEANING

__all__ = ["NORMALISES", "this_launch"]

NORMALISES = "normalises"
"""Recorded of a launch whose version can normalise images; older ones could not."""

_RECORDED_VERSIONS = (
    "gland-searcher",
    "torch",
    "torchvision",
    "ray",
    "optuna",
    "albumentations",
    "numpy",
    "sqlalchemy",
)


def this_launch(study_id: int, job: str | None) -> LaunchRow:
    """Return a launch of a study by this process, which begins now by the database's clock; `job`: its Ray job."""
    process_space, process_started = own_process()
    return LaunchRow(
        study_id=study_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        process_started=process_started,
        process_space=process_space,
        started_at=database_now(),
        renewed_at=database_now(),
        versions=_versions(),
        git_revision=_git_revision(),
        job=job,
    )


def _versions() -> dict[str, str]:
    installed = {name: version(name) for name in _RECORDED_VERSIONS}
    return {"python": platform.python_version(), "meaning": str(MEANING), NORMALISES: "1", **installed}


def _git_revision() -> str | None:
    """Return the revision of the source tree that runs, None for an installed package."""
    here = Path(__file__).resolve().parent
    if not any((folder / ".git").exists() for folder in here.parents):
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()[
            :64
        ]
    except (OSError, subprocess.SubprocessError):
        return None
