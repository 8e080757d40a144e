"""What a search leaves to search, as a study file that a person can read, edit and launch."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from searcher.api.writing import check_writable, write_text
from searcher.exceptions import UserError

if TYPE_CHECKING:
    from searcher.ledger.database import Database
    from searcher.lineage.resolve import Narrowing

__all__ = ["check_study_file", "narrowed_study", "narrowing_record"]


def narrowed_study(database: "Database", name: str, *, write: Path | None) -> "Narrowing":
    """Return the narrowed search space that a study's best trials suggest.

    Args:
        database: The study database.
        name: Name of the study.
        write: File for the narrowed study, see `check_study_file`; None to write none.

    Raises:
        UserError: There is no such study, it has no COMPLETE trial, it searched no parameter, or the file cannot be
            written.
    """
    from searcher.lineage.resolve import narrow, read_parent_study

    narrowing = narrow(read_parent_study(database, name))
    if write is not None:
        _write(write, narrowing)
    return narrowing


def check_study_file(path: Path | None, *, force: bool) -> None:
    """Raise an error if a file cannot be written as a study file, before the work for it begins.

    Args:
        path: The file; None if there is none to write.
        force: Whether an existing file may be replaced.

    Raises:
        UserError: The name does not end in .toml, the file exists, or it cannot be written.
    """
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
    check_writable("--write", path)


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


def narrowing_record(narrowing: "Narrowing") -> dict[str, Any]:
    """Return a narrowing as plain values: each parameter's old and new range, importance, and the reason."""
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
