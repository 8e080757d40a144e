"""The study's note in Optuna dashboard: what was launched, on what data, with which parent.

The format is Optuna dashboard's (`optuna_dashboard.save_note` and `get_note` in 0.21): Markdown in the study's system
attributes, cut into pieces. It is written here, so that a driver needs no dashboard to be installed.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import optuna

from searcher.ledger.tables import LaunchRow, StudyRow
from searcher.storage.object_store import below
from searcher.study.spec import StudySpec

__all__ = ["launch_text", "read_note", "study_text", "write_note"]

_VERSION = "dashboard:note_ver"
_PIECE = "dashboard:note_str:"
_PIECE_LENGTH = 2045
"""What Optuna dashboard takes, so that every database that Optuna knows can hold it."""


def read_note(storage: optuna.storages.BaseStorage, study_id: int) -> str:
    """Return a study's note in Optuna dashboard; empty if there is none."""
    pieces = _pieces(storage.get_study_system_attrs(study_id))
    return "".join(pieces[number] for number in sorted(pieces))


def write_note(storage: optuna.storages.BaseStorage, study_id: int, text: str) -> None:
    """Replace a study's note in Optuna dashboard.

    Args:
        storage: Optuna's storage.
        study_id: Optuna's id of the study.
        text: The note, as Markdown.
    """
    attrs = storage.get_study_system_attrs(study_id)
    before = _pieces(attrs)
    after = {
        n: text[n * _PIECE_LENGTH : (n + 1) * _PIECE_LENGTH] for n in range(-(-len(text) // _PIECE_LENGTH))
    }
    if {number: piece for number, piece in before.items() if piece} == after:
        return
    for number in sorted(before.keys() | after.keys()):
        storage.set_study_system_attr(study_id, f"{_PIECE}{number}", after.get(number, ""))
    storage.set_study_system_attr(study_id, _VERSION, int(attrs.get(_VERSION, 0)) + 1)


def study_text(row: StudyRow, spec: StudySpec, *, num_images: int, num_training_images: int) -> str:
    """Return the first part of a study's note as Markdown, which is written once.

    Args:
        row: The row of the study in our tables.
        spec: The study.
        num_images: Number of images in the data set, in all splits.
        num_training_images: Number of them for training and validation.
    """
    objectives = ", ".join(
        f"{name}, {direction}d"
        for name, direction in zip(
            (row.objective, *spec.study.secondary_objectives), spec.directions, strict=True
        )
    )
    lines = {
        "objective": objectives,
        "data": f"{_code(row.data_source)}: {num_images} images, {num_training_images} to train and validate on; "
        f"fingerprint {_code(row.data_fingerprint)}",
        **_parent(spec),
        **_priors(spec),
        "study file": _code(row.spec_source or spec.source),
        "checkpoints, logs": _code(f"{below(row.storage_root, row.name)}"),
    }
    table = "\n".join(f"| {name} | {text} |" for name, text in lines.items())
    about = " ".join(spec.study.description.split())
    parts = [f"# {row.name}", about, f"| | |\n|---|---|\n{table}", "## Launches"]
    return "\n\n".join(filter(None, parts)) + "\n"


def launch_text(launch: LaunchRow, command: str) -> str:
    """Return the line of a study's note about one launch, as Markdown.

    Args:
        launch: The row of the launch in our tables.
        command: Command line that the user typed. It contains no password.
    """
    versions = ", ".join(f"{name} {version}" for name, version in sorted(launch.versions.items()))
    revision = f"revision {_code(launch.git_revision)}, " if launch.git_revision else ""
    typed = f"{_code(command)}, " if command else ""
    return f"- {_moment(launch.started_at)}: {typed}process {launch.pid} on {launch.host}; {revision}{versions}\n"


def _parent(spec: StudySpec) -> dict[str, str]:
    parent = spec.parent
    if parent is None:
        return {}
    trials = f", its trials {', '.join(map(str, parent.trials))}" if parent.trials else ""
    sha256 = spec.fixed.get("warm_start.sha256")
    begins = f"; begins from checkpoint {_code(str(sha256))}" if sha256 else ""
    return {"parent": f"{parent.study}, {parent.how}{trials}{begins}"}


def _priors(spec: StudySpec) -> dict[str, str]:
    known = [
        f"{each.name} {each.prior!r} ({each.confidence})"
        for each in spec.space.parameters
        if each.prior is not None
    ]
    return {"priors": _code(", ".join(known))} if known else {}


def _pieces(attrs: Mapping[str, Any]) -> dict[int, str]:
    return {int(key.removeprefix(_PIECE)): str(text) for key, text in attrs.items() if key.startswith(_PIECE)}


def _code(text: str) -> str:
    """Return a text as code within a cell of a Markdown table."""
    return "`" + " ".join(text.split()).replace("`", "'").replace("|", "\\|") + "`"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
