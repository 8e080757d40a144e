"""`searcher plan`: a first study for a data set, planned from its images and objects."""

import argparse
import os
from pathlib import Path

from searcher.api.writing import check_writable, write_text
from searcher.cli.options import Verbs, add_data, add_json, data_folder, data_view
from searcher.cli.streams import output
from searcher.exceptions import UserError

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("plan")
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
    parser.add_argument(
        "--from",
        type=Path,
        dest="bundle",
        metavar="BUNDLE",
        help="train the network of this bundle on, instead of a new one",
    )
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    files = _files(args.write)
    folder = data_folder(args)
    assert folder is not None
    from searcher.api.planning import plan_data
    from searcher.cli.terminal import console, print_json, progress_bar

    plan = plan_data(
        folder, data_view(args), lambda: progress_bar("preparing images"), name=args.name, bundle=args.bundle
    )
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
