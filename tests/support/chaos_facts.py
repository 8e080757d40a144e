"""What a study's database and folders say, read in plain SQL, and what must always be true of them.

Not through searcher's own readers: those are under test.
"""

import hashlib
import json
import socket
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

__all__ = [
    "Facts",
    "Trial",
    "assert_finished",
    "assert_no_open_launches",
    "assert_went_on",
    "digest_of",
    "dump",
    "engine_of",
    "look",
]


def engine_of(url: str) -> sa.Engine:
    """Return an engine on a database of a test: a URL, or the path of an SQLite file."""
    parsed = sa.make_url(url if "://" in url else f"sqlite:///{url}")
    return sa.create_engine(
        parsed.set(drivername="postgresql+psycopg") if parsed.host or parsed.query else parsed
    )


@dataclass(frozen=True)
class Trial:
    """One trial as both sets of tables have it."""

    number: int
    state: str
    params: dict[str, float]
    """As Optuna stores them: a choice is its index."""
    value: float | None
    steps: list[tuple[int, float]]
    """Optuna's intermediate values by step."""
    epochs: list[tuple[int, dict[str, float]]]
    """Our metrics by epoch."""
    notes: dict[str, Any]
    checkpoints: dict[str, dict[str, Any]]
    """Rows by kind."""

    @property
    def is_done(self) -> bool:
        """Whether it counts towards the budget."""
        return self.state in ("COMPLETE", "PRUNED")


@dataclass(frozen=True)
class Facts:
    """A study as it is in the database now."""

    trials: list[Trial]
    launches: list[dict[str, Any]]

    @property
    def states(self) -> Counter[str]:
        """Number of trials by state."""
        return Counter(trial.state for trial in self.trials)

    @property
    def num_trained(self) -> int:
        """Epochs that were trained; those that a retry took over, time by time the same, count once."""
        return len({metrics["epoch_s"] for trial in self.trials for _, metrics in trial.epochs})

    def failed(self) -> list[Trial]:
        """Return the trials that ended FAIL."""
        return [trial for trial in self.trials if trial.state == "FAIL"]

    def retries_of(self, number: int) -> list[Trial]:
        """Return the trials that resume a trial, or wait to."""
        return [trial for trial in self.trials if trial.notes.get("retry_of") == number]

    def summary(self) -> str:
        """Return one line for the table."""
        states = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
        return f"{len(self.launches)} launches; trials: {states}"


def look(url: str, name: str = "tiny") -> Facts:
    """Read a study; one that is not there yet has no trials and no launches."""
    engine = engine_of(url)
    try:
        with engine.connect() as connection:
            return _read(connection, name)
    except sa.exc.DatabaseError as error:
        if "no such table" in str(error) or "does not exist" in str(error):
            return Facts([], [])
        raise
    finally:
        engine.dispose()


def _read(connection: sa.Connection, name: str) -> Facts:
    def rows(query: str, **values: Any) -> list[dict[str, Any]]:
        return [dict(row._mapping) for row in connection.execute(sa.text(query), {"name": name, **values})]

    trials = []
    of_study = "FROM trials JOIN studies USING (study_id) WHERE study_name = :name ORDER BY number"
    for row in rows(f"SELECT trial_id, number, state {of_study}"):
        key = {"id": row["trial_id"]}
        values = rows("SELECT value FROM trial_values WHERE trial_id = :id", **key)
        params = rows("SELECT param_name, param_value FROM trial_params WHERE trial_id = :id", **key)
        steps = rows(
            "SELECT step, intermediate_value FROM trial_intermediate_values WHERE trial_id = :id ORDER BY step",
            **key,
        )
        notes = rows("SELECT key, value_json FROM trial_user_attributes WHERE trial_id = :id", **key)
        where = "study_id = (SELECT id FROM searcher_studies WHERE name = :name) AND trial = :number"
        number = {"number": row["number"]}
        epochs = rows(f"SELECT epoch, metrics FROM searcher_epochs WHERE {where} ORDER BY epoch", **number)
        checkpoints = rows(f"SELECT * FROM searcher_checkpoints WHERE {where}", **number)
        trials.append(
            Trial(
                number=row["number"],
                state=row["state"],
                params={param["param_name"]: param["param_value"] for param in params},
                value=values[0]["value"] if values else None,
                steps=[(step["step"], step["intermediate_value"]) for step in steps],
                epochs=[(epoch["epoch"], _json(epoch["metrics"])) for epoch in epochs],
                notes={note["key"]: json.loads(note["value_json"]) for note in notes},
                checkpoints={checkpoint["kind"]: checkpoint for checkpoint in checkpoints},
            )
        )
    launches = rows(
        "SELECT * FROM searcher_launches WHERE study_id = (SELECT id FROM searcher_studies WHERE name = :name) "
        "ORDER BY id"
    )
    return Facts(trials, launches)


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def assert_finished(facts: Facts, storage: Path, *, budget: int, epochs: int) -> None:
    """What holds of a study that has come to its end, whatever happened on the way.

    Args:
        facts: The study.
        storage: Storage root.
        budget: Trials that had to be done.
        epochs: Epochs of a trial that was not stopped early.
    """
    done = [trial for trial in facts.trials if trial.is_done]
    assert len(done) == budget, facts.states
    assert facts.states["RUNNING"] == 0, facts.states
    assert len({json.dumps(trial.params, sort_keys=True) for trial in done}) == budget, (
        "parameters trained twice"
    )
    for trial in done:
        _assert_whole(trial, storage, epochs)
    for trial in facts.trials:
        assert len(facts.retries_of(trial.number)) <= (trial.state == "FAIL"), (
            f"trial {trial.number} queued twice"
        )
    for trial in facts.failed():
        assert trial.notes.get("fail_reason"), f"trial {trial.number} failed without a reason"
    assert_no_open_launches(facts)


def _assert_whole(trial: Trial, storage: Path, epochs: int) -> None:
    """A finished trial: every epoch once in both sets of tables, alike, and its files as they are recorded."""
    where = f"trial {trial.number} {trial.state}"
    length = len(trial.epochs)
    assert [epoch for epoch, _ in trial.epochs] == list(range(1, length + 1)), where
    assert [step for step, _ in trial.steps] == list(range(1, length + 1)), where
    assert [value for _, value in trial.steps] == [metrics["loss"] for _, metrics in trial.epochs], where
    if trial.state == "COMPLETE":
        assert length == epochs, where
        assert trial.value == min(metrics["loss"] for _, metrics in trial.epochs), where
    else:
        assert length == trial.notes["pruned_epoch"] < epochs, where
        assert trial.value == trial.epochs[-1][1]["loss"], where
    assert "best" in trial.checkpoints, where
    for kind, checkpoint in trial.checkpoints.items():
        if checkpoint["removed_at"] is None:
            assert digest_of(storage / checkpoint["uri"]) == checkpoint["sha256"], f"{where}, {kind}"
            assert checkpoint["problem"] is None, f"{where}, {kind}"


def digest_of(path: Path) -> str:
    """Return a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_no_open_launches(facts: Facts) -> None:
    """No launch lacks its end, but one whose driver runs on this host."""
    for launch in facts.launches:
        if launch["ended_at"] is None:
            assert launch["host"] == socket.gethostname()
            assert psutil.pid_exists(launch["pid"]), f"launch {launch['id']} has no end"


def dump(url: str) -> dict[str, list[str]]:
    """Return the content of every table, row by row as text."""
    engine = engine_of(url)
    try:
        with engine.connect() as connection:
            tables = sa.inspect(connection).get_table_names()
            return {
                name: sorted(map(repr, connection.execute(sa.text(f'SELECT * FROM "{name}"')).all()))
                for name in sorted(tables)
            }
    finally:
        engine.dispose()


def assert_went_on(facts: Facts) -> int:
    """Check that retries took over what was trained, wall-clock figures included; return how many epochs that saved."""
    by_number = {trial.number: trial for trial in facts.trials}
    saved = 0
    for trial in facts.trials:
        ancestor = trial
        while "retry_of" in ancestor.notes and (ancestor is trial or "last" not in ancestor.checkpoints):
            ancestor = by_number[ancestor.notes["retry_of"]]
        if not trial.is_done or ancestor is trial or "last" not in ancestor.checkpoints:
            continue
        trained = ancestor.checkpoints["last"]["epoch"]
        assert trial.params == ancestor.params
        assert trial.epochs[:trained] == ancestor.epochs[:trained], (
            f"trial {trial.number} of {ancestor.number}"
        )
        saved += trained
    return saved
