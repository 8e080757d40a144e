"""What is best in a study, and the pictures of it."""

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from searcher.api.writing import check_writable, write_bytes
from searcher.extras import need

if TYPE_CHECKING:
    from searcher.ledger.database import Database
    from searcher.ledger.records import ResultRecord, StudyRecord, TrialRecord
    from searcher.report.study import StudyPicture
    from searcher.study.rerank import Standing

__all__ = ["BestFound", "check_plot", "find_best", "picture_of", "write_plot"]


class BestFound(NamedTuple):
    """A study, its best trial, and what belongs to that: checkpoint, other runs, and the best compromises."""

    study: "StudyRecord"
    results: "list[ResultRecord]"
    best: "TrialRecord"
    path: str | None
    """Where its checkpoint lies; None if it was never written or was removed."""
    standings: "list[Standing]"
    """Of a rerank: what each candidate reached, the best first."""
    front: "list[TrialRecord]"
    """Of a study with several objectives: the best compromises."""


def find_best(database: "Database", name: str) -> BestFound:
    """Return the best trial of a study, and what belongs to it.

    Raises:
        UserError: There is no such study, or no trial of it is COMPLETE.
    """
    from searcher.exceptions import UserError
    from searcher.ledger.ranking import best_compromises, best_location, best_trial, rerank_standings
    from searcher.ledger.stored import stored_spec
    from searcher.study.rerank import CANDIDATE

    study, results = database.study(name), database.results(name)
    is_rerank = any(CANDIDATE in result.params for result in results)
    parent = stored_spec(database.study_row(name)).parent if is_rerank else None
    winner = best_trial(study, results)
    if winner is None:
        raise UserError(
            f"--study {name}: must have a COMPLETE trial, got {study.num_done} done and none complete; "
            "launch it again with more trials"
        )
    front = [each.number for each in best_compromises(study, results)] if study.secondary_objectives else []
    known = {each.number: each for each in database.trials(name, {winner.number, *front})}
    best = known[winner.number]
    return BestFound(
        study=study,
        results=results,
        best=best,
        path=best_location(study, best),
        standings=[] if parent is None else rerank_standings(study, results, parent.candidates),
        front=[known[number] for number in front],
    )


def check_plot(path: Path | None) -> None:
    """Raise an error if a file of pictures cannot be written, or does not end in .html or .png.

    Raises:
        UserError: The path is invalid, or the extra `plots` is not installed.
    """
    from searcher.exceptions import UserError

    if path is not None and path.suffix.lower() not in (".html", ".png"):
        raise UserError(f"--plot {path}: must end in .html or .png, got {path.name}; choose one of the two")
    check_writable("--plot", path)
    if path is not None:
        need("plots", f"--plot {path}")


def picture_of(database: "Database", found: BestFound) -> "StudyPicture":
    """Return the data that the pictures of a study show, read from the database."""
    from searcher.ledger.stored import stored_spec
    from searcher.lineage.resolve import ParentStudy, importances_of
    from searcher.report.study import StudyPicture, TriedTrial
    from searcher.study.space import SearchSpace

    study, objective = found.study, found.study.objective
    spec, trials = stored_spec(database.study_row(study.name)), database.trials(study.name)
    is_rerank = bool(found.standings)
    return StudyPicture(
        name=study.name,
        objectives=(objective, *study.secondary_objectives),
        directions=study.directions,
        space=SearchSpace(()) if is_rerank else spec.space,
        trials=[
            TriedTrial(
                number=each.number,
                state=each.state,
                params=each.params,
                value=each.value,
                values=each.values,
                curve={
                    epoch: value
                    for epoch, metrics in each.epochs.items()
                    if (value := metrics.get(objective)) is not None and isfinite(value)
                },
            )
            for each in trials
            if each.state != "WAITING"
        ],
        best=found.best.number,
        importances={} if is_rerank else importances_of(ParentStudy(spec=spec, record=study, trials=trials)),
    )


def write_plot(path: Path, picture: "StudyPicture") -> None:
    """Write the pictures of a study, as a web page (.html) or as one PNG."""
    from searcher.report.study_page import study_page
    from searcher.report.study_png import study_png

    is_page = path.suffix.lower() == ".html"
    write_bytes("--plot", path, study_page(picture).encode() if is_page else study_png(picture))
