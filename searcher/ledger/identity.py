"""Whether a study in the database and a study file mean the same."""

from typing import Any

from searcher.ledger.tables import StudyRow
from searcher.study.renamed_keys import RENAMED
from searcher.study.spec import StudySpec, default_identity

__all__ = ["differences", "left_to_data_before"]

_NORMALISATION = "data.normalisation"
_CLASSES = "data.class_digest"


def differences(row: StudyRow, spec: StudySpec, data_fingerprint: str) -> list[str]:
    """Return the differences between a study file with its data and the study in the database, one line each.

    A key that a newer version added and the database lacks counts with its default. That is always the earlier
    behaviour.

    Args:
        row: The row of the study in our tables.
        spec: The study file now.
        data_fingerprint: Fingerprint of the data now.
    """
    new = spec.identity()
    model = str(new["model.name"])
    searched = {key.removeprefix("space.") for key in row.identity if key.startswith("space.")}
    defaults = {key: value for key, value in default_identity(model).items() if key not in searched}
    old = {**{key: defaults[key] for key in new if key in defaults}, **row.identity}
    if _NORMALISATION not in row.identity and new.get(_NORMALISATION) == "fixed":
        old[_NORMALISATION] = "fixed"  # what every study was before there was another
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    lines = [
        f"{RENAMED.get(key, key)} was {_shown(old.get(key))}, got {_shown(new.get(key))}" for key in changed
    ]
    if row.data_fingerprint == data_fingerprint and _CLASSES in changed:
        old_digest, new_digest = (str(each.get(_CLASSES, "none"))[:12] for each in (old, new))
        lines[changed.index(_CLASSES)] = (
            f"the classes of the objects were {old_digest}, got others on the same images ({new_digest})"
        )
    if row.data_fingerprint != data_fingerprint:
        lines.append(
            f"data was {row.data_source} ({row.data_fingerprint[:12]}), got other data ({data_fingerprint[:12]})"
        )
    return lines


def left_to_data_before(row: StudyRow, spec: StudySpec) -> str | None:
    """Return a difference if a study file sets the normalisation that the stored study leaves to its images.

    `differences` allows it, because studies from before normalisation continue like this. Other studies may have trials
    on normalised images.
    """
    if _NORMALISATION in row.identity or spec.identity().get(_NORMALISATION) != "fixed":
        return None
    return f"{_NORMALISATION} was 'auto', got 'fixed'"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        when = f" when {', '.join(value['when'])}" if value.get("when") else ""
        prior = f" prior {value['prior']}" if value.get("prior") else ""
        return f"{value['range']}{when}{prior}"
    return "not set" if value is None else repr(value)
