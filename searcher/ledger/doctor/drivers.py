"""What a driver that is gone has left in the database."""

from collections.abc import Iterator

from searcher.exceptions import StudyFileError
from searcher.ledger.doctor.examined_study import ExaminedStudy
from searcher.ledger.doctor.finding import Finding
from searcher.ledger.stored import stored_spec
from searcher.ledger.study_ledger import StudyLedger
from searcher.ledger.watch import frozen_trials
from searcher.study.reader import parse_study
from searcher.study.spec import StudySpec
from searcher.times import local_text

__all__ = ["living_driver", "lost_launches", "orphaned_trials"]


def living_driver(examined: ExaminedStudy) -> Iterator[Finding]:
    """Yield a finding if a driver runs the study now; nothing of the study is fixed then."""
    driver = examined.driver
    if driver is not None:
        yield Finding(
            kind="driver",
            study=examined.name,
            where=f"process {driver.pid} on {driver.host}",
            what="runs the study",
            why="what it is writing changes while it is looked at, so nothing of this study is fixed",
            remedy="none needed",
            state="noted",
        )


def lost_launches(examined: ExaminedStudy) -> Iterator[Finding]:
    """Yield a finding for each launch without an end whose driver is gone."""
    for launch in examined.lost_launches:
        yield Finding(
            kind="launch",
            study=examined.name,
            where=f"launch of {local_text(launch.started_at)}, process {launch.pid} on {launch.host}",
            what="has no end, and its driver is gone",
            why="it reads as if it were still running",
            remedy="--fix writes down that it was lost; so does the next launch",
            fix=lambda: "written down as lost",  # by taking the lease, without which nothing is fixed
        )


def orphaned_trials(examined: ExaminedStudy) -> Iterator[Finding]:
    """Yield a finding if trials are RUNNING in the database although no driver runs the study."""
    running = [n for n, trial in (examined.trials or {}).items() if trial.state.name == "RUNNING"]
    if running and examined.driver is None:
        yield Finding(
            kind="trial",
            study=examined.name,
            where=_numbered(running),
            what="RUNNING, but no driver runs the study",
            why="it looks as if it were being trained, and nobody would ever end it",
            remedy="--fix makes it FAIL and queues its parameters again; so does the next launch",
            fix=lambda: _reconcile(examined),
        )


def _reconcile(examined: ExaminedStudy) -> str:
    left = StudyLedger(examined.database, _spec(examined)).reconcile("its driver ended without a word")
    trials = frozen_trials(examined.database, examined.name)
    queued = [trial.number for trial in trials if trial.user_attrs.get("retry_of") in left]
    dropped = len(left) - len(queued)
    parts = [f"{_numbered(left)} FAIL"]
    if queued:
        parts.append(f"queued again as {_numbered(queued)}; launch to go on")
    if dropped:
        parts.append(f"{dropped} not queued again, tried too often")
    return "; ".join(parts)


def _spec(examined: ExaminedStudy) -> StudySpec:
    """Return the study; where its text cannot be read any more, its name and objective, which is all it takes here."""
    try:
        return stored_spec(examined.row)
    except StudyFileError:
        text = f'[study]\nname = "{examined.name}"\nobjective = "{examined.row.objective}"\n'
        return parse_study(text, source=f"study {examined.name}")


def _numbered(numbers: list[int]) -> str:
    return f"trial {', '.join(map(str, numbers))}"
