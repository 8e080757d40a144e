"""Each name of Optuna's that it does not document, and what we need of it."""

from datetime import UTC
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from searcher.ledger.optuna_internals import (
    add_trial,
    begun_trial,
    id_of_study,
    id_of_trial,
    migrations_folder,
    models,
    revise_trial,
    storage_of_study,
    trial_times,
)


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    """The second study of a database, with one trial: numbers within it and in the database differ."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'optuna.db'}")
    optuna.create_study(storage=storage, study_name="first").ask()
    study = optuna.create_study(storage=storage, study_name="second")
    study.enqueue_trial({"x": 0.25})
    return study


def test_a_study_has_the_number_by_which_its_storage_knows_it(study):
    storage = storage_of_study(study)
    assert id_of_study(study) == storage.get_study_id_from_name("second") == 2


def test_a_trial_has_the_number_by_which_its_storage_knows_it_begun_or_read(study):
    trial = study.ask()
    assert (trial.number, id_of_trial(trial)) == (0, 2)
    assert id_of_trial(study.get_trials()[0]) == 2


def test_the_storage_of_a_study_sees_what_was_just_drawn(study):
    trial = study.ask()
    trial.suggest_float("x", 0.0, 1.0)
    assert storage_of_study(study).get_trial(id_of_trial(trial)).params == {"x": 0.25}


def test_the_columns_with_a_trials_times_are_in_utc(study):
    study.tell(study.ask(), 1.0)
    (trial,) = study.get_trials()
    query = sa.select(*trial_times()).where(models.TrialModel.trial_id == id_of_trial(trial))
    with storage_of_study(study)._backend.engine.connect() as connection:
        began, ended = connection.execute(query).one()
    assert began.replace(tzinfo=UTC) == trial.datetime_start.astimezone(UTC)
    assert ended.replace(tzinfo=UTC) == trial.datetime_complete.astimezone(UTC)


def test_the_newest_migration_is_the_revision_that_optuna_asks_for(study):
    head = storage_of_study(study)._backend.get_head_version()
    assert (migrations_folder() / f"{head}_.py").exists() or (migrations_folder() / f"{head}.py").exists()


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("StudyModel", "study_id study_name"),
        ("StudyDirectionModel", "study_id objective direction"),
        ("TrialModel", "trial_id number study_id state"),
        ("TrialValueModel", "trial_id objective value value_type"),
        ("TrialParamModel", "param_id trial_id param_name param_value distribution_json"),
        ("TrialIntermediateValueModel", "trial_id step intermediate_value intermediate_value_type"),
        ("TrialUserAttributeModel", "trial_id key value_json"),
        ("TrialSystemAttributeModel", "trial_id key value_json"),
    ],
)
def test_the_tables_have_the_columns_that_are_read_without_optuna(table, columns):
    assert set(columns.split()) <= set(dir(getattr(models, table)))


def test_a_running_trial_can_be_taken_up_by_its_number():
    study = optuna.create_study()
    number = study.ask().number
    begun_trial(study, number).report(0.5, 3)
    assert study.get_trials()[number].intermediate_values == {3: 0.5}


def test_a_finished_trial_in_memory_can_be_revised_and_samplers_see_it():
    study = optuna.create_study()
    study.tell(study.ask(), 1.0)
    study.tell(study.ask(), 2.0)
    revise_trial(study, 1, 0.5, {"std": 0.25})
    for deepcopy in (True, False):
        trial = study.get_trials(deepcopy=deepcopy)[1]
        assert (trial.value, trial.user_attrs) == (0.5, {"std": 0.25})


def test_a_revised_trial_can_come_to_nothing():
    study = optuna.create_study()
    study.tell(study.ask(), 1.0)
    revise_trial(study, 0, None, {})
    assert study.get_trials(states=[TrialState.COMPLETE]) == []


def test_a_trial_is_added_to_a_study_in_memory_without_a_copy():
    study, lr = optuna.create_study(), FloatDistribution(0.0, 1.0)
    for state, value in ((TrialState.COMPLETE, 1.0), (TrialState.RUNNING, None)):
        add_trial(study, create_trial(state=state, value=value, params={"lr": 0.5}, distributions={"lr": lr}))
    study.tell(1, 0.25)
    done, told = study.get_trials()
    assert done.distributions["lr"] is lr
    assert (done.number, done.value, told.number, told.value) == (0, 1.0, 1, 0.25)
