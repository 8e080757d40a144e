"""What notebooks give to functions, checked and turned into what the rooms below take."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from searcher.api.places import database_place
from searcher.data_pipeline.datasets.view import LABELS_ARE, DataView
from searcher.exceptions import UserError
from searcher.settings import read_setting
from searcher.study.space import Value
from searcher.study.spec import StudySpec

if TYPE_CHECKING:
    from searcher.ledger.address import DatabaseAddress

__all__ = ["PathLike", "check_choice", "check_count", "database_address", "study_spec", "view_of_data"]

PathLike = str | os.PathLike[str]


def study_spec(
    study: PathLike, chosen: Mapping[str, Value] | None, named: Mapping[str, float | None]
) -> StudySpec:
    """Return a study with what was chosen instead of its file's values.

    Args:
        study: A shipped study's name, or a .toml file.
        chosen: Values by dotted key.
        named: The same of keys that have an argument of their own; None for one that was left out.

    Raises:
        UserError: The study or a value cannot be used.
    """
    from searcher.study.catalog import load_study

    for key, value in named.items():
        check_count(key.rpartition(".")[2], value)
    fixed = {key: value for key, value in named.items() if value is not None}
    return load_study(os.fspath(study), {**(chosen or {}), **fixed})


def view_of_data(
    labels_are: str, patient_from: str, resample_um: float | None, not_annotated: int | None, val_region: str
) -> DataView:
    """Return how a data set is to be read.

    Args:
        labels_are: What label maps hold; see `DataView.labels_are`. Empty for one number per
            object, unless the label maps speak against it.
        patient_from: Regular expression with one group, which finds the patient in an image's name. Empty for
            what the data set says.
        resample_um: Side of a pixel to resample to, in micrometres; None to leave images as they are.
        not_annotated: Number that label maps have where nothing is annotated; None for no such number.
        val_region: Part of each image that validates; see `DataView.val_region`. Empty for none.

    Raises:
        UserError: One of them cannot be that.
    """
    check_choice("labels_are", labels_are, ("", *LABELS_ARE))
    if patient_from:
        try:
            groups = re.compile(patient_from).groups
        except re.error as error:
            raise UserError(
                f"patient_from: must be a regular expression, got {patient_from!r}: {error}; correct it"
            ) from None
        if groups != 1:
            raise UserError(
                f"patient_from: must have one group in brackets, the patient, as '(P\\d+)_' has, got {groups} in "
                f"{patient_from!r}; correct it"
            )
    if resample_um is not None and not 0 < resample_um < float("inf"):
        raise UserError(
            f"resample_um: must be a number of micrometres above 0, got {resample_um!r}; leave it out, or give one"
        )
    if not_annotated is not None and (type(not_annotated) is not int or not_annotated < 1):
        raise UserError(
            f"not_annotated: must be a whole number of at least 1, got {not_annotated!r}; leave it out where "
            "label maps have -1"
        )
    return DataView(
        labels_are,  # type: ignore[arg-type]  # checked above
        patient_from,
        resample_um,
        not_annotated,
        val_region,
    )


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value that is none of the choices.

    Args:
        name: The argument, for the message.
        value: What it was given.
        choices: What it can be.

    Raises:
        UserError: It is none.
    """
    if value not in choices:
        known = ", ".join(choice or "''" for choice in choices)
        raise UserError(f"{name}: must be one of {known}, got {value!r}; choose one of them")


def check_count(name: str, value: int | None, *, least: int = 1) -> None:
    """Refuse what is no whole number, or too small; None is fine.

    Args:
        name: The argument, for the message.
        value: What it was given.
        least: The smallest number that it can be.

    Raises:
        UserError: It is that.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise UserError(
            f"{name}: must be a whole number of at least {least}, got {value!r}; leave it out, or give one"
        )


def database_address(db: PathLike | None) -> "DatabaseAddress":
    """Return where the study database lies. Workers do not inherit `SEARCHER_DB`: see `child_environment`.

    Raises:
        UserError: It is no path and no URL, or a file that cannot be read.
    """
    return database_place(db, read_setting("SEARCHER_DB"))
