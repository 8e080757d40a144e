"""What the ledger promises: one conformance suite, on both databases."""

import math
import threading
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from searcher.exceptions import StudyConflictError, UnknownStudyError
from searcher.ledger import lease as leases
from searcher.ledger.best import best_trial
from searcher.ledger.database import Database
from searcher.ledger.lease import Lease
from searcher.ledger.records import CheckpointRecord
from searcher.ledger.study_ledger import MAX_RETRIES, StudyLedger
from searcher.ledger.tables import LaunchRow, utc_now
from searcher.study.reader import parse_study

TEXT = """
[study]
name = "s"
objective = "object_dice"
trials = 4
[space.optimizer]
name = { choices = ["sgd", "adam"] }
lr = { low = 0.001, high = 0.1, log = true }
[[enqueue]]
optimizer.name = "adam"
optimizer.lr = 0.01
"""


def spec(**overrides):
    return parse_study(
        TEXT, source="s.toml", overrides={k.replace("__", "."): v for k, v in overrides.items()}
    )


def register(
    database: Database, study=None, *, fingerprint: str = "f" * 64, root: Path = Path("/nowhere/runs")
) -> StudyLedger:
    study = study or spec()
    StudyLedger.register(database, study, data_source="glas", data_fingerprint=fingerprint, storage_root=root)
    return StudyLedger(database, study, optuna.samplers.RandomSampler(seed=0))


def ask(ledger: StudyLedger) -> int:
    trial = ledger.optuna_study.ask()
    ledger.spec.space.suggest(trial)
    return trial.number


def metrics(value: float) -> dict[str, float]:
    return {"object_dice": value, "loss": 1 - value}


def checkpoint(kind: str, *, epoch: int) -> CheckpointRecord:
    uri = f"s/trial-0000/{kind}.pt"
    return CheckpointRecord(
        kind=kind, epoch=epoch, uri=uri, sha256=str(epoch) * 64, num_bytes=epoch, value=0.5
    )


def test_a_complete_trial_has_every_epoch_in_our_table_and_the_objective_in_optunas(database):
    ledger = register(database)
    number = ask(ledger)
    for epoch, value in ((1, 0.5), (2, 0.75), (3, 0.625)):
        ledger.report(number, epoch, metrics(value))
    ledger.complete(number, 0.75, best_epoch=2, stop_reason="epochs")

    [trial] = database.trials("s")
    assert (trial.state, trial.value, trial.num_epochs) == ("COMPLETE", 0.75, 3)
    assert trial.epochs[2] == {"object_dice": 0.75, "loss": 0.25}
    assert trial.notes["best_epoch"] == 2
    [seen_by_optuna] = optuna.load_study(study_name="s", storage=database.optuna_storage).trials
    assert seen_by_optuna.intermediate_values == {1: 0.5, 2: 0.75, 3: 0.625}


def test_a_report_that_comes_twice_is_there_once(database):
    ledger = register(database)
    number = ask(ledger)
    ledger.report(number, 1, metrics(0.5))
    ledger.report(number, 1, metrics(0.9))
    assert database.trials("s")[0].epochs == {1: metrics(0.5)}


def test_a_metric_that_is_not_finite_is_kept_as_missing(database):
    ledger = register(database)
    number = ask(ledger)
    ledger.report(number, 1, {"object_dice": 0.5, "loss": math.nan})
    assert database.trials("s")[0].epochs[1] == {"object_dice": 0.5, "loss": None}


def test_a_pruned_trial_has_its_last_value_and_epoch(database):
    ledger = register(database)
    number = ask(ledger)
    ledger.report(number, 1, metrics(0.5))
    ledger.report(number, 2, metrics(0.25))
    ledger.prune(number, 2)
    [trial] = database.trials("s")
    assert (trial.state, trial.value, trial.notes["pruned_epoch"]) == ("PRUNED", 0.25, 2)


def test_the_budget_counts_complete_and_pruned_trials_only(database):
    ledger = register(database)
    complete, pruned, failed, _running = (ask(ledger) for _ in range(4))
    ledger.report(complete, 1, metrics(0.5))
    ledger.complete(complete, 0.5, best_epoch=1, stop_reason="epochs")
    ledger.report(pruned, 1, metrics(0.5))
    ledger.prune(pruned, 1)
    ledger.fail(failed, "loss became nan", retry=False)
    assert ledger.num_done() == 2
    record = database.study("s")
    assert record.counts == {"COMPLETE": 1, "PRUNED": 1, "FAIL": 1, "RUNNING": 1}
    assert (record.num_done, record.budget, record.direction) == (2, 4, "maximize")


def test_a_trial_left_running_fails_with_its_reason_and_is_queued_again_at_most_twice(database):
    ledger = register(database)
    number = ask(ledger)
    params = ledger.trial(number).params
    for attempt in range(1, MAX_RETRIES + 1):
        assert ledger.reconcile("its driver is gone") == [number]
        left = ledger.trial(number)
        assert (left.state, left.user_attrs["fail_reason"]) == (TrialState.FAIL, "its driver is gone")
        retry = ask(ledger)
        assert ledger.trial(retry).params == params
        assert ledger.trial(retry).user_attrs["retry_of"] == number
        assert ledger.trial(retry).user_attrs["attempt"] == attempt
        number = retry
    assert ledger.reconcile("its driver is gone") == [number]
    assert ledger.trials(TrialState.WAITING) == []


def test_an_interruption_by_a_person_is_no_attempt(database):
    ledger = register(database)
    number = ask(ledger)
    for _ in range(MAX_RETRIES + 2):
        assert ledger.reconcile("interrupted", counts=False) == [number]
        number = ask(ledger)
    assert ledger.trial(number).user_attrs["attempt"] == 0


def test_a_driver_killed_between_queueing_the_retry_and_failing_the_trial_queues_it_once(database):
    ledger = register(database)
    number = ask(ledger)
    ledger.optuna_study.enqueue_trial(
        ledger.trial(number).params, user_attrs={"retry_of": number, "attempt": 1}
    )
    ledger.reconcile("its driver is gone")
    assert len(ledger.trials(TrialState.WAITING)) == 1


def test_a_retry_inherits_the_epochs_up_to_its_checkpoint(database):
    ledger = register(database)
    first = ask(ledger)
    for epoch in (1, 2, 3):
        ledger.report(first, epoch, metrics(epoch / 10))
    ledger.checkpoint(first, checkpoint("last", epoch=2))
    ledger.reconcile("its driver is gone")
    retry = ask(ledger)
    ledger.inherit(retry, first, up_to_epoch=ledger.last_checkpoint(first).epoch)
    assert database.trials("s")[retry].epochs == {1: metrics(0.1), 2: metrics(0.2)}


def test_the_newest_checkpoint_of_a_kind_replaces_the_one_before(database):
    ledger = register(database)
    number = ask(ledger)
    for epoch in (1, 2):
        ledger.checkpoint(number, checkpoint("best", epoch=epoch))
    assert database.trials("s")[number].checkpoints == {"best": checkpoint("best", epoch=2)}


def test_known_good_points_are_queued_once_over_many_launches(database):
    for _ in range(3):
        ledger = register(database)
        ledger.begin_launch(data_source="glas", storage_root=Path("/nowhere/runs"))
        ledger.enqueue(ledger.spec.enqueue)
    assert len(ledger.trials(TrialState.WAITING)) == 1
    assert ledger.trial(ask(ledger)).params == {"optimizer.name": "adam", "optimizer.lr": 0.01}
    ledger.enqueue(ledger.spec.enqueue)
    assert ledger.trials(TrialState.WAITING) == []


def test_equal_parameters_are_noticed_unless_the_first_attempt_failed(database):
    ledger = register(database)
    first = ask(ledger)
    for _ in range(2):
        ledger.optuna_study.enqueue_trial(ledger.trial(first).params)
    second = ask(ledger)
    assert ledger.trained_before(second) == first
    ledger.fail(first, "loss became nan", retry=False)
    ledger.fail(second, "equal", retry=False)
    assert ledger.trained_before(ask(ledger)) is None


@pytest.mark.parametrize(
    ("overrides", "difference"),
    [
        ({"study__objective": "loss"}, "study.objective was 'object_dice', got 'loss'"),
        ({"train__epochs": 7}, "train.epochs was 20, got 7"),
        ({"optimizer__lr": 0.01}, "space.optimizer.lr was 0.001 .. 0.1 log, got not set"),
    ],
)
def test_another_study_under_the_same_name_is_refused_with_the_difference(database, overrides, difference):
    register(database)
    with pytest.raises(StudyConflictError) as caught:
        register(database, spec(**overrides))
    assert difference in str(caught.value)
    assert "--set study.name=NAME" in str(caught.value)


def test_other_data_under_the_same_name_is_refused(database):
    register(database)
    with pytest.raises(
        StudyConflictError, match=r"data was glas \(ffffffffffff\), got other data \(eeeeeeeeeeee\)"
    ):
        register(database, fingerprint="e" * 64)


def test_budget_and_resources_may_change(database):
    register(database)
    ledger = register(database, spec(study__trials=9, resources__cpus=2, search__sampler="gp"))
    assert database.study("s").budget == 4, "not before the lease is held"
    ledger.begin_launch(data_source="glas", storage_root=Path("/nowhere/runs"))
    assert database.study("s").budget == ledger.spec.study.trials == 9


def test_a_new_study_refuses_a_folder_with_trials_it_does_not_know(database, tmp_path):
    (tmp_path / "s" / "trial-0000").mkdir(parents=True)
    with pytest.raises(
        StudyConflictError, match="must hold no trials of a study that the database does not know"
    ):
        register(database, root=tmp_path)


def test_best_is_the_best_complete_trial_the_earliest_of_equals(database):
    ledger = register(database)
    for value in (0.5, 0.75, 0.75):
        number = ask(ledger)
        ledger.report(number, 1, metrics(value))
        ledger.complete(number, value, best_epoch=1, stop_reason="epochs")
    pruned = ask(ledger)
    ledger.report(pruned, 1, metrics(0.99))
    ledger.prune(pruned, 1)
    assert best_trial(database.study("s"), database.trials("s")).number == 1


def test_an_unknown_study_gets_a_suggestion(database):
    register(database)
    with pytest.raises(UnknownStudyError, match="did you mean s"):
        database.study("ss")


def test_the_second_driver_is_refused_with_the_first_ones_host_and_process(database):
    register(database)
    with Lease.acquire(database, "s") as first:
        with pytest.raises(StudyConflictError, match=r"process \d+ on .+ has run it for 0:00:0"):
            Lease.acquire(database, "s")
        first.ends_as("finished")
    launch = database.study("s").last_launch
    assert (launch.outcome, launch.ended_at is not None) == ("finished", True)
    Lease.acquire(database, "s").release()
    assert database.study("s").last_launch.outcome == "failed", "an end that nobody vouched for"


def test_a_queued_point_that_was_not_drawn_yet_is_queued_again_as_it_was(database):
    ledger = register(database)
    ledger.enqueue(ledger.spec.enqueue)
    number = ledger.optuna_study.ask().number  # and the driver dies before the first parameter is drawn
    assert ledger.trial(number).params == {}
    ledger.reconcile("its driver is gone")
    assert ledger.trial(ask(ledger)).params == {"optimizer.name": "adam", "optimizer.lr": 0.01}


def test_another_storage_root_needs_the_checkpoints_there(database, tmp_path):
    ledger = register(database)
    ledger.checkpoint(ask(ledger), checkpoint("last", epoch=1))
    with pytest.raises(
        StudyConflictError, match=r"must hold the study's checkpoints.*--storage /nowhere/runs"
    ):
        register(database, root=tmp_path)
    (tmp_path / "s" / "trial-0000").mkdir(parents=True)
    (tmp_path / "s" / "trial-0000" / "last.pt").touch()
    register(database, root=tmp_path)


def test_a_driver_whose_study_was_taken_over_hears_of_it_and_leaves_the_launch_alone(database, monkeypatch):
    register(database)
    monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.05)
    taken = threading.Event()
    with Lease.acquire(database, "s") as lease:
        lease.on_lost(taken.set)
        with database.write() as session:
            session.execute(sa.update(LaunchRow).values(ended_at=utc_now(), outcome="lost"))
        assert taken.wait(10)
        assert lease.is_lost
        lease.ends_as("finished")
    assert database.study("s").last_launch.outcome == "lost"


def test_a_launch_whose_process_is_gone_shows_as_lost(database):
    register(database)
    lease = Lease.acquire(database, "s")
    with database.write() as session:
        session.execute(
            sa.update(LaunchRow).values(process_started=1.0)
        )  # as if the number had passed to another
    assert database.study("s").last_launch.outcome == "lost"
    lease.release()
