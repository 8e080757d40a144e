"""What the database keeps of a launch: where and by whom it runs, and with which versions."""

import os
import platform
import socket
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from searcher.ledger.clock import database_now
from searcher.ledger.liveness import own_process
from searcher.ledger.tables import LaunchRow
from searcher.plugins import loaded_plugins
from searcher.study.config import MEANING

__all__ = ["NORMALISES", "changed_plugins", "this_launch"]

NORMALISES = "normalises"
"""Recorded of a launch whose version can normalise images; older ones could not."""

_PLUGIN = "plug-in "
"""How what is recorded of a plug-in begins."""
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
    """Return the row of a new launch of a study by this process; it starts now, by the database's clock.

    Args:
        study_id: Id of the study's row in our tables.
        job: Id of the Ray job of which this process is the driver; None if it is no job.
    """
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
    ours = {"python": platform.python_version(), "meaning": str(MEANING), NORMALISES: "1"}
    return {**ours, **installed, **_plugin_versions()}


def _plugin_versions() -> dict[str, str]:
    """Return version and digest of each plug-in of this process, by its file's or module's name."""
    return {
        f"{_PLUGIN}{Path(plugin.source).name}": f"{plugin.version} {plugin.sha256[:12]}".strip()
        for plugin in loaded_plugins()
    }


def changed_plugins(launches: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each plug-in whose files differ from those with which earlier trials were trained.

    Args:
        launches: Versions of each launch, oldest first and this one last; see `Database.versions`.
    """
    lines = []
    *before, now = launches
    for name, found in now.items():
        earlier = [each[name] for each in before if name in each]
        if name.startswith(_PLUGIN) and earlier and earlier[-1] != found:
            lines.append(
                f"{name} is {found}, was {earlier[-1]} at the launch before: trials of both are compared as if they "
                "were alike; if they are not, begin anew with --set study.name=NAME"
            )
    return lines


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
