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
    study: PathLike, chosen: Mapping[str, Value] | None, named: Mapping[str, int | None]
) -> StudySpec:
    """Return a study, read from its file or the package, with the given values instead of the file's.

    The plug-ins that the study names are imported.

    Args:
        study: A shipped study's name, or a .toml file.
        chosen: Values by dotted key, such as `train.epochs`.
        named: Numbers by dotted key, for keys that have an argument of their own: whole numbers of at least 1, or None
            for no number. A number here goes before one in `chosen`.

    Raises:
        UserError: The study or a value is invalid.
    """
    from searcher.study.catalog import load_study

    for key, value in named.items():
        check_count(key.rpartition(".")[2], value)
    fixed = {key: value for key, value in named.items() if value is not None}
    return load_study(os.fspath(study), {**(chosen or {}), **fixed})


def view_of_data(
    labels_are: str, patient_from: str, resample_um: float | None, not_annotated: int | None, val_region: str
) -> DataView:
    """Return the view of a data set that the arguments describe, after checking them.

    Args:
        labels_are: What label maps hold; see `DataView.labels_are`. Empty for one number per
            object, unless the label maps speak against it.
        patient_from: Regular expression whose one group finds the patient in an image's name. Empty to use the data
            set's own patients.
        resample_um: Side of a pixel to resample to, in micrometres; None to leave images as they are.
        not_annotated: Number that marks pixels without annotation in label maps; None for no such number.
        val_region: Part of each image for validation; see `DataView.val_region`. Empty for none.

    Raises:
        UserError: An argument is invalid.
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
    """Raise an error if a value is not one of the choices.

    Args:
        name: Name of the argument, for the message.
        value: Value of the argument.
        choices: The valid values.

    Raises:
        UserError: The value is none of the choices.
    """
    if value not in choices:
        known = ", ".join(choice or "''" for choice in choices)
        raise UserError(f"{name}: must be one of {known}, got {value!r}; choose one of them")


def check_count(name: str, value: int | None, *, least: int = 1) -> None:
    """Raise an error if a value is not a whole number, or too small; None is valid.

    Args:
        name: Name of the argument, for the message.
        value: Value of the argument.
        least: Smallest valid number.

    Raises:
        UserError: The value is no whole number of at least `least`.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise UserError(
            f"{name}: must be a whole number of at least {least}, got {value!r}; leave it out, or give one"
        )


def database_address(db: PathLike | None) -> "DatabaseAddress":
    """Return the address of the study database: of `db`, or else of the variable `SEARCHER_DB`.

    Workers do not inherit the variable: see `child_environment`.

    Raises:
        UserError: `db` is neither a path nor a URL, or names a file that cannot be read.
    """
    return database_place(db, read_setting("SEARCHER_DB"))
