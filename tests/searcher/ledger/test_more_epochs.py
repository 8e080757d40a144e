"""More epochs for a finished study: which trials go on, what is refused, and what a killed driver leaves."""

import pytest
from optuna.trial import TrialState
from stored_study import StoredStudy

from searcher.exceptions import StudyConflictError
from searcher.ledger.more_epochs import CONTINUES
from searcher.ledger.study_ledger import StudyLedger
from searcher.study.catalog import load_study


@pytest.fixture
def finished(database, tmp_path):
    """Seven COMPLETE trials of one epoch; the best are 5 with 0.9 and 2 with 0.8. One more was stopped."""
    study = StoredStudy(database, tmp_path, train__epochs=1, study__trials=8)
    for value in (0.1, 0.2, 0.8, 0.3, 0.4, 0.9, 0.5):
        study.complete(value)
    stopped = study.begin()
    study.ledger.report(stopped, 1, {"object_dice": 0.95})
    study.ledger.prune(stopped, 1)
    return study


def raised(study: StoredStudy, **overrides: object) -> StudyLedger:
    """Begin a launch with three epochs, as the driver does."""
    more = {"train.epochs": 3, **{key.replace("__", "."): value for key, value in overrides.items()}}
    spec = load_study(str(study.file), study.overrides | more)
    again = type(study.registration)(
        spec=spec, data_source="synthetic glands", data_fingerprint="f" * 64, storage_root=study.root
    )
    again.register(study.database)
    again.begin_launch(study.database)
    return StudyLedger(study.database, spec)


def test_the_best_fifth_goes_on_from_its_checkpoints_and_counts_for_itself(finished):
    """A fifth of 7 COMPLETE trials is 2, rounded up."""
    ledger = raised(finished)
    assert ledger.num_to_do() == 0
    assert ledger.continue_best() == [5, 2]
    assert ledger.num_to_do() == 2
    number, params = ledger.begin_trial(running=[])
    assert ledger.trained_before(number) is None, "it is not the same as the one that it continues"
    assert not ledger.queued_twice(number)
    assert params == ledger.trial(5).params
    point = ledger.resume_point(number, finished.root)
    assert (point.trial, point.checkpoint.kind) == (5, "best")
    ledger.inherit(number, 5, up_to_epoch=1)
    for epoch in (2, 3):
        ledger.report(number, epoch, {"object_dice": 0.9 + epoch / 100})
    ledger.complete(number, 0.93, best_epoch=3, stop_reason="epochs")
    assert (ledger.num_done(), ledger.num_to_do()) == (8, 1)
    record = finished.database.study("s")
    assert (record.num_done, record.num_continued, record.num_going_on) == (8, 1, 1)
    assert ledger.trial(5).values == [0.9], "it stays as it was"
    assert [*ledger.trial(number).intermediate_values] == [1, 2, 3]


def test_who_goes_on_is_decided_once_and_a_retry_is_one_of_them(finished):
    ledger = raised(finished)
    assert ledger.continue_best() == [5, 2]
    assert raised(finished).continue_best() == [], "the next launch has them in its queue"
    number, _ = ledger.begin_trial(running=[])
    other, _ = ledger.begin_trial(running=[number])
    assert ledger.fail(number, "its worker was lost", retry=True)
    again, _ = ledger.begin_trial(running=[other])
    assert ledger.trial(again).user_attrs[CONTINUES] == 5
    assert ledger.num_to_do() == 2
    assert ledger.resume_point(again, finished.root).trial == 5
    ledger.fail(again, "a bug", retry=False)
    assert ledger.num_to_do() == 1, "one that fails for good is not replaced by another"
    assert raised(finished).continue_best() == []


def test_a_driver_that_was_killed_between_deciding_and_queueing_queues_the_same(finished):
    ledger = raised(finished)
    ledger.optuna_study.set_user_attr("continued", {"3": [2, 0]})
    assert ledger.continue_best() == [2, 0]
    waiting = ledger.trials(TrialState.WAITING)
    assert [trial.user_attrs["retry_of"] for trial in waiting] == [2, 0]


def test_a_study_that_is_not_finished_or_has_no_checkpoints_stays_as_it_was(finished, database):
    with pytest.raises(
        StudyConflictError, match=r"^--study s: must stay .* was 'object_dice', got 'object_f1'; "
    ):
        raised(finished, study__objective="object_f1")
    database_row = database.study_row("s")
    assert database_row.identity["train.epochs"] == 1
    finished.ledger.collect(7, keep_best=1)
    ledger = raised(finished)
    assert ledger.continue_best() == [5], "only its checkpoint is kept"


def test_without_checkpoints_or_before_the_end_more_epochs_are_refused(database, tmp_path):
    study = StoredStudy(database, tmp_path, train__epochs=1, study__trials=2)
    study.complete(0.4)
    with pytest.raises(
        StudyConflictError, match=r"^--epochs 3: must be given to a finished study, got 1 of 2 trials"
    ):
        raised(study)
    study.complete(0.5)
    from searcher.ledger.retention import collect

    collect(database, "s", keep_best=0)
    with pytest.raises(
        StudyConflictError, match=r"^--epochs 3: must have the checkpoints .* got none of 1: "
    ):
        raised(study)
    assert database.study_row("s").identity["train.epochs"] == 1
