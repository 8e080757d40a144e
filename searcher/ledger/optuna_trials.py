"""Reading all trials of a study out of Optuna's tables, ten thousand of them in a second.

Optuna's own reader (5.0) makes an object of every row: of a study of 10,000 trials of 10 epochs, 160,000 of them.
Here rows stay rows. The tables, and what a value in them means, are Optuna's models'; a test compares the readers.
"""

import json
from collections.abc import Callable, Collection, Container, Iterator
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

__all__ = ["count_states", "find_study", "read_directions", "read_results", "read_trials"]

_Column = sa.ColumnElement[Any] | sa.orm.InstrumentedAttribute[Any]
_Chosen = sa.ColumnElement[bool]


def find_study(connection: sa.Connection, name: str) -> int | None:
    """Return Optuna's number of a study, None if it has none of that name."""
    study = models.StudyModel
    return connection.scalar(sa.select(study.study_id).where(study.study_name == name))


def read_directions(connection: sa.Connection, study_id: int) -> list[StudyDirection]:
    """Return the directions of a study's objectives, in their order."""
    table = models.StudyDirectionModel
    query = sa.select(table.direction).where(table.study_id == study_id).order_by(table.objective)
    return list(connection.scalars(query))


def count_states(connection: sa.Connection, study_id: int) -> dict[str, int]:
    """Return how many trials of a study are in each state that any is in."""
    trial = models.TrialModel
    query = sa.select(trial.state, sa.func.count()).where(trial.study_id == study_id).group_by(trial.state)
    return {state.name: count for state, count in connection.execute(query)}


def read_results(connection: sa.Connection, study_id: int) -> list[ResultRecord]:
    """Return what the COMPLETE trials of a study had and reached, by number, and nothing else of them."""
    trial = models.TrialModel
    chosen = sa.and_(trial.study_id == study_id, trial.state == TrialState.COMPLETE)
    values, params = _values(connection, chosen), _params(connection, chosen)
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


def read_trials(
    connection: sa.Connection,
    study_id: int,
    *,
    states: Container[TrialState] | None = None,
    numbers: Collection[int] | None = None,
    in_utc: bool = False,
) -> list[FrozenTrial]:
    """Return trials of a study, by number, as Optuna's own reader would.

    Args:
        connection: In a transaction of its own.
        study_id: Optuna's number of the study.
        states: In which states; None for all.
        numbers: Which; None for all.
        in_utc: Give times in UTC, with their zone. Otherwise they are in local time without a zone, as Optuna has them,
            where an hour of each autumn comes twice.
    """
    time_of = _in_utc if in_utc else _local
    trial = models.TrialModel
    chosen: _Chosen = trial.study_id == study_id
    if states is not None:
        chosen = sa.and_(chosen, trial.state.in_([state for state in TrialState if state in states]))
    if numbers is not None:
        chosen = sa.and_(chosen, trial.number.in_(numbers))
    query = sa.select(trial.trial_id, trial.number, trial.state, *trial_times())
    rows = connection.execute(query.where(chosen).order_by(trial.number)).all()
    # Trials before what they have: what a trial that has ended rests on was there before its end.
    values, params = _values(connection, chosen), _params(connection, chosen)
    user_attrs = _attributes(connection, chosen, models.TrialUserAttributeModel)
    system_attrs = _attributes(connection, chosen, models.TrialSystemAttributeModel)
    steps = _intermediate_values(connection, chosen)
    return [
        FrozenTrial(
            number=number,
            state=state,
            value=None,
            values=values.get(trial_id),
            datetime_start=time_of(started),
            datetime_complete=time_of(completed),
            params={name: value for name, (value, _) in params.get(trial_id, {}).items()},
            distributions={name: of for name, (_, of) in params.get(trial_id, {}).items()},
            user_attrs=user_attrs.get(trial_id, {}),
            system_attrs=system_attrs.get(trial_id, {}),
            intermediate_values=steps.get(trial_id, {}),
            trial_id=trial_id,
        )
        for trial_id, number, state, started, completed in rows
    ]


def _rows(
    connection: sa.Connection, chosen: _Chosen, table: type[Any], *columns: _Column, by: _Column
) -> Iterator[Any]:
    """Yield rows of a table about the chosen trials: the trial's id and the columns, in the order of `by`."""
    trial = models.TrialModel
    query = sa.select(table.trial_id, *columns).join(trial, trial.trial_id == table.trial_id)
    yield from connection.execute(query.where(chosen).order_by(by))


def _values(connection: sa.Connection, chosen: _Chosen) -> dict[int, list[float]]:
    table = models.TrialValueModel
    found: dict[int, list[float]] = {}
    for trial_id, value, kind in _rows(
        connection, chosen, table, table.value, table.value_type, by=table.objective
    ):
        found.setdefault(trial_id, []).append(table.stored_repr_to_value(value, kind))
    return found


def _params(connection: sa.Connection, chosen: _Chosen) -> dict[int, dict[str, tuple[Any, BaseDistribution]]]:
    table = models.TrialParamModel
    distribution: Callable[[str], BaseDistribution] = cache(json_to_distribution)
    found: dict[int, dict[str, tuple[Any, BaseDistribution]]] = {}
    for trial_id, name, value, text in _rows(
        connection,
        chosen,
        table,
        table.param_name,
        table.param_value,
        table.distribution_json,
        by=table.param_id,
    ):
        of = distribution(text)
        found.setdefault(trial_id, {})[name] = (of.to_external_repr(value), of)
    return found


def _attributes(connection: sa.Connection, chosen: _Chosen, table: type[Any]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for trial_id, key, text in _rows(connection, chosen, table, table.key, table.value_json, by=table.key):
        found.setdefault(trial_id, {})[key] = json.loads(text)
    return found


def _intermediate_values(connection: sa.Connection, chosen: _Chosen) -> dict[int, dict[int, float]]:
    table = models.TrialIntermediateValueModel
    found: dict[int, dict[int, float]] = {}
    for trial_id, step, value, kind in _rows(
        connection,
        chosen,
        table,
        table.step,
        table.intermediate_value,
        table.intermediate_value_type,
        by=table.step,
    ):
        found.setdefault(trial_id, {})[step] = table.stored_repr_to_intermediate_value(value, kind)
    return found


def _in_utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)


def _local(time: datetime | None) -> datetime | None:
    """Return local time without a zone, as Optuna gives it, of what it stores in UTC."""
    return None if time is None else time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
