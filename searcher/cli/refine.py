"""`searcher refine`: what a search leaves to search, as a study file that a person can read, edit and launch."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searcher.api.writing import check_writable, write_text
from searcher.cli.options import Verbs, add_database, add_json, database_address

if TYPE_CHECKING:
    from searcher.lineage.resolve import Narrowing

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser("refine", help="narrow a study's ranges to what its best trials leave")
    parser.add_argument("study", metavar="STUDY", help="a study of the database")
    parser.add_argument(
        "--write",
        metavar="FILE",
        type=Path,
        help="write the narrowed study to a .toml file, for searcher launch --study FILE",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    add_database(parser)
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    _check_file(args.write, force=args.force)
    check_writable("--write", args.write)

    from searcher.cli.terminal import console, print_json, table
    from searcher.ledger.database import Database
    from searcher.lineage.resolve import narrow, read_parent

    with Database.open(database_address(args)) as database:
        narrowing = narrow(read_parent(database, args.study))
    if args.write is not None:
        _write(args.write, narrowing)
    if args.json:
        print_json(_record(narrowing))
        return 0
    refinement, shares = narrowing.refinement, narrowing.importances
    console.print(
        f"{narrowing.parent.record.name}: {len(refinement.best)} best of {refinement.num_complete} COMPLETE trials, "
        f"{', '.join(map(str, refinement.best))}, decide",
        markup=False,
        soft_wrap=True,
    )
    rows = [
        (
            each.name,
            f"{shares[each.name]:.2f}" if each.name in shares else "",
            str(each.old),
            "as it was" if each.new == each.old else str(each.new.narrowed()),
            each.reason,
        )
        for each in refinement.parameters
    ]
    console.print(table(["parameter", ">importance", "old", "new", "why"], rows))
    if args.write is not None:
        console.print(
            f"written to {args.write}; searcher launch --study {args.write}", markup=False, soft_wrap=True
        )
    return 0


def _check_file(path: Path | None, *, force: bool) -> None:
    from searcher.exceptions import UserError

    if path is None:
        return
    if path.suffix != ".toml":
        raise UserError(
            f"--write {path}: must end in .toml, got {path.name}; launch finds study files by that"
        )
    if path.exists() and not force:
        raise UserError(
            f"--write {path}: must not exist yet, got a file; choose another name, or add --force"
        )


def _write(path: Path, narrowing: "Narrowing") -> None:
    from dataclasses import replace

    from searcher.study.space import SearchSpace
    from searcher.study.spec import ParentSection

    spec, name = narrowing.parent.spec, narrowing.parent.record.name
    refinement = narrowing.refinement
    about = {"name": _narrowed_name(name), "description": f"What the best trials of {name} leave to search"}
    template = replace(
        spec,
        source=str(path),
        study=spec.study.model_copy(update=about),
        overrides={},
        enqueue=(),
        parent=ParentSection(study=name, how="refine"),
        space=SearchSpace(()),
    )
    header = [
        f"What {name} leaves to search, by the best {len(refinement.best)} of its {refinement.num_complete} COMPLETE "
        f"trials: {', '.join(map(str, refinement.best))}.",
        "Above each parameter: what its range was, how much it mattered, and why it is what it is. Edit at will.",
        "",
        f"  searcher launch --study {path.name}",
    ]
    write_text("--write", path, narrowing.study(template, header=header).text)


def _narrowed_name(name: str) -> str:
    """Return what to call what is left of a study: unet-broad becomes unet-narrow."""
    return f"{name.removesuffix('-broad')}-narrow"


def _record(narrowing: "Narrowing") -> dict[str, Any]:
    return {
        "study": narrowing.parent.record.name,
        "best": list(narrowing.refinement.best),
        "num_complete": narrowing.refinement.num_complete,
        "parameters": [
            {
                "name": each.name,
                "old": str(each.old),
                "new": str(each.new.narrowed()),
                "changed": each.new != each.old,
                "reason": each.reason,
                "importance": narrowing.importances.get(each.name),
            }
            for each in narrowing.refinement.parameters
        ],
    }
