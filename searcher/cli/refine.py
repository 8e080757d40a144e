"""`searcher refine`: what a search leaves to search, as a study file that a person can read, edit and launch."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searcher.cli.options import Verbs, add_database, add_json, database_text

if TYPE_CHECKING:
    from searcher.lineage.resolve import Parent
    from searcher.study.refine import Refinement

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

    from searcher.cli.terminal import console, print_json, table
    from searcher.exceptions import UserError
    from searcher.ledger.database import Database
    from searcher.lineage.importance import importances
    from searcher.lineage.resolve import read_parent, tried
    from searcher.study.objectives import Objective
    from searcher.study.refine import refine

    with Database.open(database_text(args)) as database:
        parent = read_parent(database, args.study)
    trials, objective = tried(parent.trials), Objective(parent.record.objective)
    if not parent.complete:
        raise UserError(
            f"{args.study}: must have COMPLETE trials to refine, got none of {parent.record.num_done} done; "
            "launch it again with more trials"
        )
    if not parent.spec.space.parameters:
        raise UserError(f"{args.study}: must search something to refine, got no space; choose another study")
    model = parent.spec.trial_config({}).model.name
    refinement = refine(parent.spec.space, trials, objective, model=model)
    shares = importances(parent.spec.space, trials, objective.direction)
    if args.write is not None:
        _write(args.write, parent, refinement, shares)
    if args.json:
        print_json(_record(parent, refinement, shares))
        return 0
    console.print(
        f"{parent.record.name}: {len(refinement.best)} best of {refinement.num_complete} COMPLETE trials, "
        f"{', '.join(map(str, refinement.best))}, decide",
        markup=False,
        soft_wrap=True,
    )
    rows = [
        (
            each.name,
            f"{shares[each.name]:.2f}" if each.name in shares else "",
            str(each.old.widened() if each.old is not each.new else each.old),
            "as it was" if each.new == each.old else str(_alone(each.new)),
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
    if not path.absolute().parent.is_dir():
        raise UserError(f"--write {path}: its folder must exist, got {path.parent}; make it first")


def _write(path: Path, parent: "Parent", refinement: "Refinement", shares: dict[str, float]) -> None:
    from dataclasses import replace

    from searcher.lineage.resolve import reasons_of
    from searcher.study.derive import refined
    from searcher.study.spec import ParentSection
    from searcher.training.files import write_atomically

    record, name = parent.record, narrowed_name(parent.record.name)
    section = ParentSection(study=record.name, how="refine")
    template = replace(
        parent.spec,
        source=str(path),
        study=parent.spec.study.model_copy(
            update={"name": name, "description": f"What the best trials of {record.name} leave to search"}
        ),
        overrides={},
        enqueue=(),
        parent=section,
        space=replace(parent.spec.space, parameters=()),
    )
    study = refined(
        template,
        parent.spec,
        refinement,
        incumbent=parent.complete[0].params,
        reasons=reasons_of(refinement, shares),
        header=[
            f"What {record.name} leaves to search, by the best {len(refinement.best)} of its "
            f"{refinement.num_complete} COMPLETE trials: {', '.join(map(str, refinement.best))}.",
            "Above each parameter: what its range was, how much it mattered, and why it is what it is. Edit at will.",
            "",
            f"  searcher launch --study {path.name}",
        ],
    )
    write_atomically(path, lambda file: file.write(study.text.encode()))


def narrowed_name(name: str) -> str:
    """Return what to call what is left of a study: unet-broad becomes unet-narrow."""
    return f"{name.removesuffix('-broad')}-narrow"


def _alone(domain: Any) -> Any:
    from dataclasses import replace

    return replace(domain, whole=None)


def _record(parent: "Parent", refinement: "Refinement", shares: dict[str, float]) -> dict[str, Any]:
    return {
        "study": parent.record.name,
        "best": list(refinement.best),
        "num_complete": refinement.num_complete,
        "parameters": [
            {
                "name": each.name,
                "old": str(each.old),
                "new": str(_alone(each.new)),
                "changed": each.new != each.old,
                "reason": each.reason,
                "importance": shares.get(each.name),
            }
            for each in refinement.parameters
        ],
    }
