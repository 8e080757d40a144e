"""What the ledger promises: one conformance suite; on both databases wherever a statement is a test's own."""

import math
import threading

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState
from small_ledger import ask, checkpoint, metrics, register, registration, write_checkpoint

from searcher.exceptions import DatabaseAwayError, StudyConflictError, UnknownStudyError, UserError
from searcher.ledger.ranking import best_trial
from searcher.ledger.retry_policy import RetryPolicy
from searcher.ledger.study_ledger import MAX_RETRIES

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what is decided in this process, after statements that other tests run on both databases."""


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
    assert (record.num_done, record.budget, record.directions) == (2, 4, ("maximize",))


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


@ON_SQLITE
def test_an_interruption_by_a_person_is_no_attempt(database):
    ledger = register(database)
    number = ask(ledger)
    for _ in range(MAX_RETRIES + 2):
        assert ledger.reconcile("interrupted", counts=False) == [number]
        number = ask(ledger)
    assert ledger.trial(number).user_attrs["attempt"] == 0


@ON_SQLITE
def test_a_retry_does_not_wait_behind_points_that_were_queued_before_it(database):
    """Else, with a budget of one trial, the second point would take the place of the first one's retry."""
    ledger = register(database)
    points = [{"optimizer.name": "adam", "optimizer.lr": lr} for lr in (0.01, 0.02)]
    ledger.enqueue(points)
    first = ask(ledger)
    ledger.fail(first, "its worker was lost", retry=True)
    assert ledger.trial(ask(ledger)).user_attrs["retry_of"] == first
    assert ledger.trial(ask(ledger)).params == points[1]


@ON_SQLITE
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
    ledger.reconcile("its driver is gone")
    retry = ask(ledger)
    ledger.inherit(retry, first, up_to_epoch=2)
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
        registration().begin_launch(database)
        ledger.enqueue(ledger.spec.enqueue)
    assert len(ledger.trials(TrialState.WAITING)) == 1
    assert ledger.trial(ask(ledger)).params == {"optimizer.name": "adam", "optimizer.lr": 0.01}
    ledger.enqueue(ledger.spec.enqueue)
    assert ledger.trials(TrialState.WAITING) == []


@ON_SQLITE
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


@ON_SQLITE
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


@ON_SQLITE
def test_an_unknown_study_gets_a_suggestion(database):
    register(database)
    with pytest.raises(UnknownStudyError, match="did you mean s"):
        database.study("ss")


@ON_SQLITE
def test_a_queued_point_that_was_not_drawn_yet_is_queued_again_as_it_was(database):
    ledger = register(database)
    ledger.enqueue(ledger.spec.enqueue)
    number = ledger.optuna_study.ask().number  # and the driver dies before the first parameter is drawn
    assert ledger.trial(number).params == {}
    ledger.reconcile("its driver is gone")
    assert ledger.trial(ask(ledger)).params == {"optimizer.name": "adam", "optimizer.lr": 0.01}


# ---- a step that is repeated, because its confirmation was lost --------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        lambda ledger, number: ledger.report(number, 2, metrics(0.5)),
        lambda ledger, number: ledger.checkpoint(number, checkpoint("last", epoch=2)),
        lambda ledger, number: ledger.note(number, config_digest="d"),
        lambda ledger, number: ledger.complete(number, 0.5, best_epoch=1, stop_reason="epochs"),
        lambda ledger, number: ledger.prune(number, 1),
        lambda ledger, number: ledger.fail(number, "its worker was lost", retry=True),
        lambda ledger, number: ledger.reconcile("its driver is gone"),
        lambda ledger, number: ledger.enqueue(ledger.spec.enqueue),
        lambda ledger, number: ledger.inherit(number, 0, up_to_epoch=2),
    ],
)
def test_a_step_that_is_repeated_changes_nothing(database, step):
    ledger = register(database)
    first = ask(ledger)
    for epoch in (1, 2):
        ledger.report(first, epoch, metrics(0.1))
    ledger.fail(first, "x", retry=False)
    number = ask(ledger)
    ledger.report(number, 1, metrics(0.25))
    ledger.checkpoint(number, checkpoint("last", epoch=1))

    def content():
        with database.engine.connect() as connection:
            tables = [name for name in sa.inspect(connection).get_table_names() if "version" not in name]
            return {name: connection.execute(sa.text(f'SELECT * FROM "{name}"')).all() for name in tables}

    before = content()
    step(ledger, number)
    once = content()
    assert once != before, "the step does something"
    step(ledger, number)
    assert content() == once


@ON_SQLITE
def test_a_trial_that_the_driver_never_got_to_know_fails_and_what_was_queued_for_it_is_queued_again(database):
    ledger = register(database)
    ledger.enqueue(ledger.spec.enqueue)
    lost = ledger.optuna_study.ask().number  # the answer never came
    number, params = ledger.begin_trial(running=[])
    assert number != lost
    left = ledger.trial(lost)
    assert left.state == TrialState.FAIL
    assert left.user_attrs["fail_reason"] == "the database went away while it began"
    again, params = ledger.begin_trial(running=[number])
    assert params == {"optimizer.name": "adam", "optimizer.lr": 0.01}
    assert [t.number for t in ledger.trials(TrialState.RUNNING)] == [number, again]


@ON_SQLITE
def test_a_retry_that_was_queued_twice_is_noticed(database):
    ledger = register(database)
    first = ask(ledger)
    ledger.fail(first, "its worker was lost", retry=True)
    retry = ask(ledger)
    assert not ledger.queued_twice(retry)
    ledger.optuna_study.enqueue_trial(ledger.trial(first).params, user_attrs={"retry_of": first})
    assert ledger.queued_twice(ask(ledger))


# ---- retry policy ----------------------------------------------------------------------------------------------


def away(ledger, monkeypatch, *, times: int) -> None:
    """Let the database refuse as often as one that is being restarted."""
    write, left = type(ledger.database).write, [times]

    def refusing(self):
        if left[0]:
            left[0] -= 1
            raise DatabaseAwayError("--db s.db: is away: the database system is starting up")
        return write(self)

    monkeypatch.setattr(type(ledger.database), "write", refusing)


@ON_SQLITE
def test_a_database_that_is_away_is_waited_for_and_that_is_said_once(database, monkeypatch):
    said, stop = [], threading.Event()
    ledger = register(database, retry_policy=RetryPolicy(said.append, stop))
    number = ask(ledger)
    away(ledger, monkeypatch, times=4)
    ledger.report(number, 1, metrics(0.5))
    assert database.trials("s")[number].epochs == {1: metrics(0.5)}
    assert len(said) == 2
    assert "starting up; waiting for it, nothing is lost" in said[0]
    assert said[1].startswith("the database is back after ")


@ON_SQLITE
def test_a_step_that_is_made_of_steps_says_it_once_too(database, monkeypatch):
    said = []
    ledger = register(database, retry_policy=RetryPolicy(said.append, threading.Event()))
    number = ask(ledger)
    trial, left = ledger.database.optuna_storage.get_trial, [3]

    def refusing(trial_id):
        if left[0]:
            left[0] -= 1
            raise DatabaseAwayError("--db s.db: is away: server closed the connection unexpectedly")
        return trial(trial_id)

    monkeypatch.setattr(ledger.database.optuna_storage, "get_trial", refusing)
    ledger.prune(number, 1)
    assert len(said) == 2
    assert said[0].startswith("--db s.db: is away")
    assert said[1].startswith("the database is back after ")


@ON_SQLITE
def test_nobody_waits_for_a_database_once_the_launch_is_to_end_or_the_limit_is_reached(database, monkeypatch):
    said, stop = [], threading.Event()
    ledger = register(database, retry_policy=RetryPolicy(said.append, stop))
    number = ask(ledger)
    away(ledger, monkeypatch, times=10**9)
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(DatabaseAwayError):
        ledger.report(number, 1, metrics(0.5))
    ledger.retry_policy = RetryPolicy(said.append, threading.Event(), limit_s=0.3)
    with pytest.raises(DatabaseAwayError):
        ledger.report(number, 1, metrics(0.5))


@ON_SQLITE
def test_a_driver_that_was_cut_off_asks_first_whether_the_study_is_still_its_own(database, monkeypatch):
    """While it waited another driver may have taken over: its steps, such as failing unknown trials, must not land."""

    def taken_over():
        raise StudyConflictError("--study s: must have one driver at a time")

    said = []
    ledger = register(
        database, retry_policy=RetryPolicy(said.append, threading.Event(), before_again=taken_over)
    )
    number = ask(ledger)
    ledger.report(number, 1, metrics(0.5))  # not asked while the database answers
    away(ledger, monkeypatch, times=1)
    with pytest.raises(StudyConflictError):
        ledger.report(number, 2, metrics(0.6))
    assert database.trials("s")[number].epochs == {1: metrics(0.5)}
    assert len(said) == 1


def test_a_lost_best_checkpoint_is_noticed_when_a_retry_goes_on_from_a_later_one(database, tmp_path):
    ledger = register(database, root=tmp_path)
    number = ask(ledger)
    best = write_checkpoint(ledger, tmp_path, number, epoch=1, kind="best")
    write_checkpoint(ledger, tmp_path, number, epoch=2)
    ledger.fail(number, "its worker was lost", retry=True)
    retry = ask(ledger)
    assert ledger.resume_point(retry, tmp_path).lost_best is None
    best.write_bytes(best.read_bytes()[:-1])
    point = ledger.resume_point(retry, tmp_path)
    assert (point.checkpoint.epoch, point.damages) == (2, ())
    assert point.lost_best.startswith("s/trial-0000/best.pt of epoch 1: ")
    assert database.trials("s")[number].checkpoints["best"].problem in point.lost_best


def test_a_study_deleted_from_optunas_tables_is_said_in_one_line(database):
    ledger = register(database)
    number = ask(ledger)
    optuna.delete_study(study_name="s", storage=database.optuna_storage)
    for step in (
        lambda: ledger.report(number, 1, metrics(0.5)),
        lambda: ledger.begin_trial(running=[number]),
        lambda: ledger.complete(number, 0.5, best_epoch=1, stop_reason="epochs"),
        lambda: database.study("s"),
        lambda: register(database),
    ):
        with pytest.raises(StudyConflictError, match="was deleted from them, its trials with it"):
            step()


# ---- checkpoints -------------------------------------------------------------------------------------------


def test_the_last_checkpoint_of_a_trial_becomes_the_previous_one(database):
    ledger = register(database)
    number = ask(ledger)
    for epoch in (1, 2, 3):
        ledger.checkpoint(number, checkpoint("last", epoch=epoch))
    kept = database.trials("s")[number].checkpoints
    assert {kind: record.epoch for kind, record in kept.items()} == {"last": 3, "previous": 2}
    assert kept["previous"].sha256 == "2" * 64
    assert kept["previous"].uri.endswith("/previous.pt")


@pytest.fixture
def interrupted(database, tmp_path):
    """A ledger with a trial that wrote checkpoints of epochs 1 to 3 and failed, and the number of its retry."""
    ledger = register(database, root=tmp_path)
    number = ask(ledger)
    for epoch in (1, 2, 3):
        ledger.report(number, epoch, metrics(epoch / 10))
        write_checkpoint(ledger, tmp_path, number, epoch=epoch)
    ledger.fail(number, "its worker was lost", retry=True)
    return ledger, ask(ledger)


@ON_SQLITE
def test_a_retry_goes_on_from_the_last_checkpoint(interrupted, tmp_path):
    ledger, retry = interrupted
    point = ledger.resume_point(retry, tmp_path)
    assert (point.checkpoint.epoch, point.trial, point.damages) == (3, 0, ())


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip_a_bit, "s/trial-0000/last.pt of epoch 3: sha256 is "),
        (
            lambda path: path.write_bytes(path.read_bytes()[:7]),
            "s/trial-0000/last.pt of epoch 3: 7 bytes, recorded 15",
        ),
        (lambda path: path.unlink(), "s/trial-0000/last.pt of epoch 3: missing"),
    ],
)
def test_a_damaged_checkpoint_is_written_down_and_the_one_before_is_taken(
    interrupted, database, tmp_path, damage, said
):
    ledger, retry = interrupted
    damage(tmp_path / "s" / "trial-0000" / "last.pt")
    point = ledger.resume_point(retry, tmp_path)
    assert (point.checkpoint.epoch, point.trial) == (2, 0)
    [told] = point.damages
    assert told.startswith(said)
    assert database.trials("s")[0].checkpoints["last"].problem == told.partition(": ")[2]
    assert database.trials("s")[0].checkpoints["previous"].problem is None


@ON_SQLITE
def test_the_recorded_bytes_count_under_whatever_name_they_lie(interrupted, tmp_path):
    """The worker wrote epoch 4 and was killed before the driver heard of it."""
    ledger, retry = interrupted
    last = tmp_path / "s" / "trial-0000" / "last.pt"
    last.replace(last.with_name("previous.pt"))
    last.write_bytes(b"epoch 4, unheard of")
    point = ledger.resume_point(retry, tmp_path)
    assert (point.checkpoint.epoch, point.damages) == (3, ())


@ON_SQLITE
def test_a_retry_interrupted_before_its_first_epoch_goes_on_from_the_first_attempts_checkpoint(
    interrupted, tmp_path
):
    ledger, retry = interrupted
    ledger.fail(retry, "its worker was lost", retry=True)
    again = ask(ledger)
    assert ledger.ancestors(again) == [retry, 0]
    point = ledger.resume_point(again, tmp_path)
    assert (point.checkpoint.epoch, point.trial) == (3, 0)


@ON_SQLITE
def test_without_any_whole_checkpoint_a_retry_begins_anew(interrupted, tmp_path):
    ledger, retry = interrupted
    for path in (tmp_path / "s" / "trial-0000").glob("*.pt"):
        flip_a_bit(path)
    point = ledger.resume_point(retry, tmp_path)
    assert (point.checkpoint, len(point.damages)) == (None, 2)


@ON_SQLITE
def test_a_checkpoint_outside_the_storage_root_is_refused(interrupted, database, tmp_path):
    ledger, retry = interrupted
    with database.write() as session:
        session.execute(sa.text("UPDATE searcher_checkpoints SET uri = '../../etc/passwd'"))
    with pytest.raises(UserError, match="every file must lie below it"):
        ledger.resume_point(retry, tmp_path)


def test_a_retry_after_too_little_memory_takes_its_batch_in_parts_and_so_do_those_after_it(database):
    ledger = register(database)
    number = ask(ledger)
    assert ledger.fail(number, "out of memory", retry=True, counts=False, micro_batches=2)
    retry = ask(ledger)
    assert ledger.trial(retry).user_attrs["micro_batches"] == 2
    ledger.fail(retry, "its worker was lost", retry=True)
    assert ledger.trial(ask(ledger)).user_attrs == {"retry_of": retry, "attempt": 1, "micro_batches": 2}
