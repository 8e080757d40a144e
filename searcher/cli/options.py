"""Options that several verbs share. Imports nothing heavy."""

import argparse
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searcher.api.places import DEFAULT_DATABASE, database_place
from searcher.cli.folder_file import FolderOption
from searcher.exceptions import UserError
from searcher.settings import read_setting, take_setting, without_frame

if TYPE_CHECKING:
    from searcher.data_pipeline.datasets import SampleSource
    from searcher.data_pipeline.datasets.view import DataView
    from searcher.ledger.address import DatabaseAddress

__all__ = [
    "Verbs",
    "add_address",
    "add_data",
    "add_database",
    "add_json",
    "add_reading",
    "add_study",
    "add_training",
    "add_view",
    "data_folder",
    "data_view",
    "data_view_words",
    "database_address",
    "database_option",
    "open_source",
    "overrides",
    "positive_float",
    "positive_int",
    "ray_address",
    "storage_root",
    "storage_text",
    "trial_number",
]

Verbs = Any
"""What `ArgumentParser.add_subparsers` returns; its class is private."""

LABELS_ARE = ("instances", "binary", "binary-inverted", "binary-watershed", "classes")
"""`searcher.data_pipeline.datasets.view.LABELS_ARE`, without the import of NumPy."""


def positive_int(text: str) -> int:
    """Return an argument as an integer of at least 1, for argparse."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def trial_number(text: str) -> int:
    """Return a trial's number, 0 or more.

    Raises:
        argparse.ArgumentTypeError: The text is no such number.
    """
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a trial's number, got {text}")
    return int(text)


def positive_float(text: str) -> float:
    """Return an argument as a number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}") from None
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return value


def add_database(parser: argparse.ArgumentParser) -> None:
    """Add `--db`."""
    parser.add_argument(
        "--db",
        action=FolderOption,
        metavar="URL",
        help="study database: a file (SQLite), postgresql://user@host/name, or @FILE with the URL in it; "
        f"default $SEARCHER_DB, else searcher.toml's, else {DEFAULT_DATABASE}",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def add_data(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Add `--data`."""
    remark = "" if required else "; without it, synthetic glands"
    parser.add_argument(
        "--data",
        action=FolderOption,
        metavar="DIR|URI",
        required=required,
        help="a folder with images/ and labels/, a GlaS release, or another layout of docs/data.md; "
        f"or one in an object store (s3://BUCKET/FOLDER){remark}",
    )
    add_view(parser)


def add_view(parser: argparse.ArgumentParser) -> None:
    """Add the options that `data_view` reads."""
    group = parser.add_argument_group("how the data set is to be read")
    group.add_argument(
        "--labels-are",
        choices=LABELS_ARE,
        default="",
        help="what label maps hold: instances (one number per object), or masks and classes whose connected pieces "
        "are the objects; default: instances, refused where the evidence speaks against it",
    )
    group.add_argument(
        "--not-annotated",
        type=positive_int,
        metavar="N",
        help="label maps have N, 255 or 65535 say, where nothing is annotated, beside -1: no loss, no metric there; "
        "default: as dataset.toml says",
    )
    group.add_argument(
        "--patient-from",
        type=_pattern,
        metavar="REGEX",
        help="the patient is this expression's group in an image's name, e.g. '(P\\d+)_'; default: samples.csv or "
        "Grade.csv",
    )
    group.add_argument(
        "--val-region",
        default="",
        metavar="SIDE[:SHARE]",
        help="for one image or one patient: validate on this part of each training image, left, right, top or bottom, "
        "right:0.25 say; figures then say nothing about other patients",
    )
    group.add_argument(
        "--resample-um",
        type=positive_float,
        metavar="X",
        help="resample all images to pixels of X micrometres; default: images as they are",
    )


def _pattern(text: str) -> str:
    """Parse a regular expression with one group, for argparse."""
    try:
        groups = re.compile(text).groups
    except (re.error, RecursionError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"must be a regular expression, got {text!r}: {error}") from None
    if groups != 1:
        raise argparse.ArgumentTypeError(
            f"must have one group in brackets, the patient, as '(P\\d+)_' has, got {groups} in {text!r}"
        )
    return text


def data_view(args: argparse.Namespace) -> "DataView":
    """Return the view of the data set that the command line describes."""
    from searcher.data_pipeline.datasets.view import DataView

    return DataView(
        args.labels_are, args.patient_from or "", args.resample_um, args.not_annotated, args.val_region
    )


def data_view_words(args: argparse.Namespace) -> list[str]:
    """Return the options of `data_view` as words of a command line, for another process."""
    words = []
    for option, value in (
        ("--labels-are", args.labels_are),
        ("--not-annotated", args.not_annotated),
        ("--val-region", args.val_region),
        ("--patient-from", args.patient_from),
        ("--resample-um", args.resample_um),
    ):
        words += [f"{option}={value}"] if value else []
    return words


def add_reading(parser: argparse.ArgumentParser, *, study_required: bool = True) -> None:
    """Add the options of commands that read a study: `--study`, `--db`, `--json`."""
    remark = None if study_required else "one study; without it, all"
    parser.add_argument("--study", required=study_required, metavar="NAME", help=remark)
    add_database(parser)
    add_json(parser)


def add_study(parser: argparse.ArgumentParser, *, is_planned: bool = False) -> None:
    """Add the options of commands that use a study file and data: `--study`, `--data`, `--set`.

    Args:
        parser: Parser of the command.
        is_planned: Whether a study is planned for the data if none is named.
    """
    remark = "; without it, one is planned for --data" if is_planned else ""
    parser.add_argument(
        "--study",
        required=not is_planned,
        metavar="NAME|FILE",
        help=f"a shipped study, or a .toml file{remark}",
    )
    add_data(parser)
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set any key of the study file, e.g. model.base_channels=16; a searched one becomes fixed",
    )


def add_training(parser: argparse.ArgumentParser, *, is_planned: bool = False) -> None:
    """Add the options of commands that train: `--study`, `--data`, `--set`, `--storage`, `--epochs`.

    Args:
        parser: Parser of the command.
        is_planned: Whether a study is planned for the data if none is named.
    """
    add_study(parser, is_planned=is_planned)
    parser.add_argument(
        "--storage",
        action=FolderOption,
        metavar="DIR|URI",
        default="runs",
        help="folder of checkpoints and logs, or an object store (s3://BUCKET/FOLDER); default runs",
    )
    parser.add_argument("--epochs", type=positive_int, metavar="N", help="epochs of a trial (train.epochs)")


def overrides(args: argparse.Namespace) -> dict[str, Any]:
    """Return the values that the command line sets, by dotted key.

    Raises:
        UserError: A `--set` has no `=`.
    """
    from searcher.study.reader import parse_value
    from searcher.study.toml_text import shown

    chosen: dict[str, Any] = {}
    for setting in args.settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            where = setting if len(setting) <= 80 else f"{setting[:77]}..."
            raise UserError(
                f"--set {where}: must be KEY=VALUE, got {shown(setting)}; e.g. --set train.epochs=3"
            )
        chosen[key.strip()] = parse_value(text.strip())
    for key, value in (
        ("study.trials", getattr(args, "trials", None)),
        ("study.hours", getattr(args, "hours", None)),
        ("study.gpu_hours", getattr(args, "gpu_hours", None)),
        ("train.epochs", getattr(args, "epochs", None)),
    ):
        if value is not None:
            chosen[key] = value
    if args.plugins:
        chosen["plugins"] = [*chosen.get("plugins", []), *args.plugins]
    return chosen


def database_address(args: argparse.Namespace) -> "DatabaseAddress":
    """Return the address of the study database: of `--db`, of `SEARCHER_DB`, or the default file.

    `SEARCHER_DB` is removed from the environment, so that no process started from here, such as a Ray worker, inherits
    it.

    Raises:
        UserError: The command line contains a password, which the process list would show to everybody. Or the value is
            neither a path nor a URL, or names a file that cannot be read.
    """
    from_environment = take_setting("SEARCHER_DB")
    address = database_place(args.db, from_environment)
    if without_frame(args.db or "").startswith("@"):
        return address
    if args.db and address.holds_secret:
        raise UserError(
            "--db: must not hold a password, which the process list would show; "
            "put the whole URL into a file for --db @FILE, or into the environment variable SEARCHER_DB"
        )
    return address


def database_option(args: argparse.Namespace) -> str:
    """Return the value of `--db` for a process in another folder whose command everybody can read, such as a Ray job.

    Raises:
        UserError: The URL contains a password, or `database_address` refuses the value.
    """
    from searcher.ledger.address import parse_url

    text = without_frame(args.db or "") or read_setting("SEARCHER_DB") or DEFAULT_DATABASE
    if text.startswith("@"):
        return f"@{Path(text[1:]).absolute()}"
    address = parse_url(text)
    if address.holds_secret:
        raise UserError(
            f"{'--db' if args.db else 'SEARCHER_DB'}: must not hold a password where a Ray job is to use it, which "
            "everybody who reaches the cluster's dashboard could read; put the whole URL into a file that the "
            "cluster's head can read too, for --db @FILE"
        )
    is_path = address.is_sqlite and "://" not in text
    return str(Path(text).absolute()) if is_path else text


def ray_address(args: argparse.Namespace) -> str | None:
    """Return the address of the Ray cluster that the command line or `RAY_ADDRESS` names; None for a new cluster.

    The variables are removed from the environment, because Ray would prefer them to the address that it is called with.
    """
    take_setting("RAY_API_SERVER_ADDRESS")
    from_environment = take_setting("RAY_ADDRESS")
    return without_frame(args.address or "") or from_environment


def add_address(parser: argparse.ArgumentParser, what_for: str) -> None:
    """Add `--address`."""
    parser.add_argument("--address", metavar="RAY", help=f"{what_for}; default $RAY_ADDRESS")


def data_folder(args: argparse.Namespace) -> str | None:
    """Return the absolute path or the URI of the data set, valid on every machine; None if none was given.

    Raises:
        UserError: The URI contains a secret, or pyarrow does not support it.
    """
    from searcher.api.places import data_place

    return data_place(args.data)


def open_source(args: argparse.Namespace, *, strict: bool = True) -> "SampleSource":
    """Return the data set that `--data` names, after downloading it if it is in an object store.

    Raises:
        UserError: The object store cannot be used.
        DataError: There is no data set, or it is unusable.
    """
    from searcher.api.data_sets import opened
    from searcher.cli.terminal import progress_bar

    folder = data_folder(args)
    assert folder is not None
    return opened(folder, data_view(args), progress_bar, strict=strict)


def storage_text(args: argparse.Namespace) -> str:
    """Return the absolute path or the URI of the storage root, valid on every machine, as stored in the database.

    Raises:
        UserError: The URI contains a secret, or pyarrow does not support it.
    """
    from searcher.api.places import storage_place

    return storage_place(args.storage)


def storage_root(args: argparse.Namespace) -> Path:
    """Return the absolute path of the storage root on this machine; for an object store, that of its mirror.

    Raises:
        UserError: The path is not a writable folder, or the object store cannot be used.
    """
    from searcher.api.places import storage_folder

    return storage_folder(args.storage)
