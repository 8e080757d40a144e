"""Reading many trials: the same as Optuna's own reader says, without an object for each row, no more than needed."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages._rdb import models
from optuna.trial import TrialState, create_trial
from small_ledger import ask, metrics, register

from searcher.api.best_trial import find_best
from searcher.ledger import optuna_trials
from searcher.ledger.ranking import best_trial

KINDS = (
    models.TrialParamModel,
    models.TrialValueModel,
    models.TrialIntermediateValueModel,
    models.TrialUserAttributeModel,
)


@contextmanager
def statements(database) -> Iterator[list[str]]:
    """Keep the statements that our engine and Optuna's run."""
    seen: list[str] = []

    def keep(_connection, _cursor, statement, *_):
        seen.append(statement)

    engines = (database.engine, database.optuna_storage.engine)
    for engine in engines:
        sa.event.listen(engine, "before_cursor_execute", keep)
    yield seen
    for engine in engines:
        sa.event.remove(engine, "before_cursor_execute", keep)


@contextmanager
def objects_made() -> Iterator[list[object]]:
    """Keep what Optuna's own models make of rows."""
    made: list[object] = []

    def keep(loaded, _context):
        made.append(loaded)

    for kind in KINDS:
        sa.event.listen(kind, "load", keep)
    yield made
    for kind in KINDS:
        sa.event.remove(kind, "load", keep)


def fill(database, num_trials: int) -> None:
    """Give the small study that many COMPLETE trials; the value of trial n is n / 100."""
    ledger = register(database)
    for number in range(ledger.num_done(), num_trials):
        assert ask(ledger) == number
        ledger.report(number, 1, metrics(number / 100))
        ledger.complete(number, number / 100, best_epoch=1, stop_reason="epochs")


def test_it_reads_what_optunas_own_reader_does(database):
    study = optuna.create_study(
        study_name="o", storage=database.optuna_storage, directions=["minimize", "maximize"]
    )
    distributions = {
        "name": CategoricalDistribution(["sgd", None, True, 3]),
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "depth": IntDistribution(2, 6, step=2),
    }
    for name, values in (("sgd", [1.5, -2.0]), (None, [math.inf, -math.inf]), (3, [0.0, 1e-300])):
        study.add_trial(
            create_trial(
                values=values,
                params={"lr": 0.013, "name": name, "depth": 4},
                distributions=distributions,
                user_attrs={"a": [1, {"b": None}], "z": "ä"},
                system_attrs={"s": 1},
                intermediate_values={3: 0.25, 1: math.inf, 2: -math.inf, 10: 0.5},
            )
        )
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"fail_reason": "nan"}))
    study.enqueue_trial({"lr": 0.02}, user_attrs={"enqueued": True})
    running = study.ask()
    running.suggest_float("lr", 1e-4, 1e-1, log=True)
    study.ask()
    optuna.create_study(study_name="other", storage=database.optuna_storage).ask()
    storage, study_id = database.optuna_storage, study._study_id

    def own(storage, study_id, states=None):
        return optuna.storages.RDBStorage._get_trials(storage, study_id, states, set(), -1)

    assert len(own(storage, study_id)) == 6
    for states in (None, (TrialState.COMPLETE,), (TrialState.RUNNING, TrialState.FAIL), ()):
        ours, theirs = storage.get_all_trials(study_id, states=states), own(storage, study_id, states=states)
        assert ours == theirs
        assert [list(trial.params) for trial in ours] == [list(trial.params) for trial in theirs]
    study.tell(running, state=TrialState.PRUNED)
    everything = storage.get_all_trials(study_id)
    assert everything == own(storage, study_id)
    one = optuna.storages.RDBStorage.get_trial
    for trial in everything:
        assert storage.get_trial(trial._trial_id) == one(storage, trial._trial_id) == trial


def test_an_epoch_without_a_value_is_nan_as_with_optuna(database):
    study = optuna.create_study(study_name="o", storage=database.optuna_storage)
    trial = study.ask()
    trial.report(math.nan, 7)
    [read] = database.optuna_storage.get_all_trials(study._study_id)
    assert list(read.intermediate_values) == [7]
    assert math.isnan(read.intermediate_values[7])


def test_a_study_or_a_trial_that_is_not_there_is_optunas_key_error(database):
    with pytest.raises(KeyError):
        database.optuna_storage.get_all_trials(4711)
    with pytest.raises(KeyError):
        database.optuna_storage.get_trial(4711)


@pytest.mark.parametrize(
    ("ids", "after"), [((), -1), ((), 3), ((1, 2), 3), ((2, 5), 3), ((1,), -1), ((3,), 6)]
)
def test_the_trials_after_one_and_those_included_are_optunas(database, ids, after):
    fill(database, 6)
    theirs = optuna.storages.RDBStorage._get_trials(database.optuna_storage, 1, None, set(ids), after)
    assert database.optuna_storage._get_trials(1, None, set(ids), after) == theirs


def test_more_numbers_than_a_statement_takes_are_read_all_the_same(database, monkeypatch):
    monkeypatch.setattr(optuna_trials, "_MOST_IDS", 1)
    fill(database, 5)
    found = database.optuna_storage._get_trials(1, None, {2, 3}, 4)
    assert [trial.number for trial in found] == [1, 2, 3, 4], "from the lowest on"


def test_all_trials_are_read_without_an_object_for_each_row(database):
    fill(database, 6)
    study = optuna.load_study(study_name="s", storage=database.optuna_storage)
    with objects_made() as made:
        assert len(database.trials("s")) == 6
        assert len(database.optuna_storage.get_all_trials(1)) == 6
        assert len(study.get_trials()) == 6, "through Optuna's cache"
        assert database.optuna_storage.get_trial(3).number == 2
    assert made == []


def test_how_far_a_study_is_takes_the_same_statements_for_any_number_of_trials(database):
    fill(database, 2)
    with statements(database) as few:
        database.study("s")
        database.results("s")
    fill(database, 5)
    with statements(database) as many:
        study = database.study("s")
        best = best_trial(study, database.results("s"))
    assert study.counts == {"COMPLETE": 5}
    assert (best.number, best.value) == (4, 0.04)
    assert many == few
    for table in ("searcher_epochs", "trial_intermediate_values"):
        assert not any(table in each for each in many), table
    about_notes = [each for each in many if "trial_user_attributes" in each]
    assert all("count(" in each for each in about_notes), "counted in the database, and not read"


def test_the_best_trial_is_read_whole_and_no_other(database):
    fill(database, 3)
    with statements(database) as seen:
        found = find_best(database, "s")
    assert found.best == database.trials("s")[2]
    assert found.best.epochs == {1: metrics(0.02)}
    about_epochs = [each for each in seen if "FROM searcher_epochs" in each]
    assert len(about_epochs) == 1
    assert "searcher_epochs.trial IN" in about_epochs[0]


def test_trials_are_read_by_number(database):
    fill(database, 4)
    every = database.trials("s")
    assert [each.number for each in every] == [0, 1, 2, 3]
    assert database.trials("s", [3, 1, 99]) == [every[1], every[3]]
    assert database.trials("s", []) == []
    assert database.study("s").num_trials == 4
    assert [each.params for each in database.results("s")] == [each.params for each in every]
