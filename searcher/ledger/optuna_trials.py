"""Reading all trials of a study out of Optuna's tables, ten thousand of them in a second.

Optuna's own reader (5.0) makes an object of every row: of a study of 10,000 trials of 10 epochs, 160,000 of them.
Here rows stay rows. The tables, and what a value in them means, are Optuna's models'; a test compares the readers.
"""

import json
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
import sqlalchemy.orm
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from searcher.ledger.optuna_internals import models, trial_times
from searcher.ledger.records import ResultRecord

__all__ = [
    "TrialTimes",
    "count_states",
    "find_study",
    "read_directions",
    "read_results",
    "read_times",
    "read_trial",
    "read_trials",
]

_MOST_IDS = 1000
"""How many numbers one statement may have; databases have limits of their own."""

_Column = sa.ColumnElement[Any] | sa.orm.InstrumentedAttribute[Any]
_Chosen = sa.ColumnElement[bool]
_Query = sa.Select[Any]


def find_study(connection: sa.Connection, name: str) -> int | None:
    """Return Optuna's id of the study with a name; None if there is none."""
    study = models.StudyModel
    return connection.scalar(sa.select(study.study_id).where(study.study_name == name))


def read_directions(connection: sa.Connection, study_id: int) -> list[StudyDirection]:
    """Return the direction of each of a study's objectives, in their order."""
    table = models.StudyDirectionModel
    query = sa.select(table.direction).where(table.study_id == study_id).order_by(table.objective)
    return list(connection.scalars(query))


def count_states(connection: sa.Connection, study_id: int, *, with_note: str | None = None) -> dict[str, int]:
    """Return the number of a study's trials in each state; states without trials are left out.

    Args:
        connection: In a transaction of its own.
        study_id: Optuna's number of the study.
        with_note: Key of a note; only trials that have it are counted. None to count all.
    """
    trial, user = models.TrialModel, models.TrialUserAttributeModel
    query = sa.select(trial.state, sa.func.count()).where(trial.study_id == study_id).group_by(trial.state)
    if with_note is not None:
        query = query.join(user, user.trial_id == trial.trial_id).where(user.key == with_note)
    return {state.name: count for state, count in connection.execute(query)}


def read_results(connection: sa.Connection, study_id: int) -> list[ResultRecord]:
    """Return number, parameters and values of a study's COMPLETE trials, ordered by number."""
    trial = models.TrialModel
    chosen = sa.and_(trial.study_id == study_id, trial.state == TrialState.COMPLETE)
    queries = _about(chosen)
    values, params = (
        _values(connection.execute(queries.values)),
        _params(connection.execute(queries.params)),
    )
    query = sa.select(trial.trial_id, trial.number).where(chosen).order_by(trial.number)
    return [
        ResultRecord(
            number=number,
            state=TrialState.COMPLETE.name,
            params={name: value for name, (value, _) in params.get(trial_id, {}).items()},
            value=next(iter(values.get(trial_id, ())), None),
            values=tuple(values.get(trial_id, ())),
        )
        for trial_id, number in connection.execute(query)
    ]


@dataclass(frozen=True, kw_only=True)
class TrialTimes:
    """When a trial began and ended, in UTC, as times without a zone."""

    number: int
    state: str
    started_at: datetime | None
    ended_at: datetime | None
    is_retry: bool
    """Whether it has epochs of another trial."""

    @property
    def is_done(self) -> bool:
        """Whether the trial counts towards the budget: it is COMPLETE or PRUNED."""
        return self.state in ("COMPLETE", "PRUNED")


def read_times(connection: sa.Connection, study_id: int) -> list[TrialTimes]:
    """Return when the trials of a study began and ended, in the order of their numbers.

    This is much faster than `read_trials`.

    Args:
        connection: A connection in a transaction of its own.
        study_id: Optuna's number of the study.
    """
    trial, user = models.TrialModel, models.TrialUserAttributeModel
    retries = set(
        connection.scalars(
            sa.select(user.trial_id)
            .join(trial, trial.trial_id == user.trial_id)
            .where(trial.study_id == study_id, user.key == "retry_of")
        )
    )
    query = sa.select(trial.trial_id, trial.number, trial.state, *trial_times())
    rows = connection.execute(query.where(trial.study_id == study_id).order_by(trial.number))
    return [
        TrialTimes(
            number=number, state=state.name, started_at=started, ended_at=ended, is_retry=trial_id in retries
        )
        for trial_id, number, state, started, ended in rows
    ]


def read_trials(
    connection: sa.Connection,
    study_id: int,
    *,
    states: Container[TrialState] | None = None,
    numbers: Collection[int] | None = None,
    ids: Collection[int] = (),
    after_id: int | None = None,
    in_utc: bool = False,
) -> list[FrozenTrial]:
    """Return trials of a study as Optuna's own objects, ordered by number.

    Args:
        connection: Connection in a transaction of its own.
        study_id: Optuna's id of the study.
        states: States of the trials; None for all.
        numbers: Numbers of the trials; None for all.
        ids: Ids of trials to return in addition to those after `after_id`.
        after_id: Return only trials with a higher id, and those in `ids`; None for all. If there are too many `ids` for
            a statement, all trials from the lowest of them on are returned.
        in_utc: Whether times are in UTC, with their zone. Otherwise they are in local time without a zone, as in
            Optuna, where an hour of each autumn occurs twice.
    """
    trial = models.TrialModel
    chosen: _Chosen = trial.study_id == study_id
    if states is not None:
        chosen = sa.and_(chosen, trial.state.in_([state for state in TrialState if state in states]))
    if numbers is not None:
        chosen = sa.and_(chosen, trial.number.in_(numbers))
    if after_id is not None:
        older = {each for each in ids if each <= after_id}
        if len(older) > _MOST_IDS:
            after_id = min(older) - 1
        elif older:
            chosen = sa.and_(chosen, sa.or_(trial.trial_id > after_id, trial.trial_id.in_(older)))
            after_id = None
    if after_id is not None:
        chosen = sa.and_(chosen, trial.trial_id > after_id)
    return _read(connection, _about(chosen), {}, in_utc=in_utc)


def read_trial(connection: sa.Connection, trial_id: int) -> FrozenTrial | None:
    """Return the trial with an id, as Optuna's own object; None if there is none."""
    found = _read(connection, _about_one(), {"trial_id": trial_id}, in_utc=False)
    return found[0] if found else None


@dataclass(frozen=True)
class _Queries:
    """Statements about chosen trials. Each row of the others begins with the trial's number in the database."""

    trials: _Query
    values: _Query
    params: _Query
    user_attrs: _Query
    system_attrs: _Query
    steps: _Query


def _queries(chosen: _Chosen, rows_of: Callable[[type[Any]], Callable[[_Query], _Query]]) -> _Queries:
    """Return the statements.

    Args:
        chosen: Which trials.
        rows_of: Of a table, what adds to a statement that its rows are about those.
    """
    trial, value, param = models.TrialModel, models.TrialValueModel, models.TrialParamModel
    user, system = models.TrialUserAttributeModel, models.TrialSystemAttributeModel
    step = models.TrialIntermediateValueModel

    def rows(table: type[Any], *columns: _Column, by: _Column) -> _Query:
        return rows_of(table)(sa.select(table.trial_id, *columns)).order_by(by)

    about = sa.select(trial.trial_id, trial.number, trial.state, *trial_times())
    return _Queries(
        trials=about.where(chosen).order_by(trial.number),
        values=rows(value, value.value, value.value_type, by=value.objective),
        params=rows(
            *(param, param.param_name, param.param_value, param.distribution_json), by=param.param_id
        ),
        user_attrs=rows(user, user.key, user.value_json, by=user.key),
        system_attrs=rows(system, system.key, system.value_json, by=system.key),
        steps=rows(step, step.step, step.intermediate_value, step.intermediate_value_type, by=step.step),
    )


def _about(chosen: _Chosen) -> _Queries:
    trial = models.TrialModel

    def rows_of(table: type[Any]) -> Callable[[_Query], _Query]:
        return lambda query: query.join(trial, trial.trial_id == table.trial_id).where(chosen)

    return _queries(chosen, rows_of)


@cache
def _about_one() -> _Queries:
    """Made once: to make the statements takes as long as to carry them out."""
    one: sa.BindParameter[int] = sa.bindparam("trial_id")
    return _queries(
        models.TrialModel.trial_id == one, lambda table: lambda query: query.where(table.trial_id == one)
    )


def _read(
    connection: sa.Connection, queries: _Queries, given: Mapping[str, Any], *, in_utc: bool
) -> list[FrozenTrial]:
    time_of = _in_utc if in_utc else _local
    # Trials before what they have: what a trial that has ended rests on was there before its end.
    trials: Iterable[Any] = connection.execute(queries.trials, given).all()
    values_of = _values(connection.execute(queries.values, given))
    params_of = _params(connection.execute(queries.params, given))
    user_of = _attributes(connection.execute(queries.user_attrs, given))
    system_of = _attributes(connection.execute(queries.system_attrs, given))
    steps_of = _steps(connection.execute(queries.steps, given))
    return [
        FrozenTrial(
            number=number,
            state=state,
            value=None,
            values=values_of.get(trial_id),
            datetime_start=time_of(started),
            datetime_complete=time_of(completed),
            params={name: value for name, (value, _) in params_of.get(trial_id, {}).items()},
            distributions={name: of for name, (_, of) in params_of.get(trial_id, {}).items()},
            user_attrs=user_of.get(trial_id, {}),
            system_attrs=system_of.get(trial_id, {}),
            intermediate_values=steps_of.get(trial_id, {}),
            trial_id=trial_id,
        )
        for trial_id, number, state, started, completed in trials
    ]


def _values(rows: Iterable[Any]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for trial_id, value, kind in rows:
        found.setdefault(trial_id, []).append(models.TrialValueModel.stored_repr_to_value(value, kind))
    return found


def _params(rows: Iterable[Any]) -> dict[int, dict[str, tuple[Any, BaseDistribution]]]:
    distribution: Callable[[str], BaseDistribution] = cache(json_to_distribution)
    found: dict[int, dict[str, tuple[Any, BaseDistribution]]] = {}
    for trial_id, name, value, text in rows:
        of = distribution(text)
        found.setdefault(trial_id, {})[name] = (of.to_external_repr(value), of)
    return found


def _attributes(rows: Iterable[Any]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for trial_id, key, text in rows:
        found.setdefault(trial_id, {})[key] = json.loads(text)
    return found


def _steps(rows: Iterable[Any]) -> dict[int, dict[int, float]]:
    value_of = models.TrialIntermediateValueModel.stored_repr_to_intermediate_value
    found: dict[int, dict[int, float]] = {}
    for trial_id, step, value, kind in rows:
        found.setdefault(trial_id, {})[step] = value_of(value, kind)
    return found


def _in_utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)


def _local(time: datetime | None) -> datetime | None:
    """Return local time without a zone, as Optuna gives it, of what it stores in UTC."""
    return None if time is None else time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
