"""What a study has cost and when its launch will be done, by hand calculations on fixed times."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from small_ledger import ask, register, spec

from searcher.ledger.lease import Lease
from searcher.ledger.optuna_internals import models
from searcher.ledger.study_progress import earlier_trials, study_progress
from searcher.ledger.tables import EpochRow, LaunchRow, StudyRow, utc_now

EPOCHS = {"object_dice": 0.5}


@pytest.fixture
def hour(database):
    """A launch that began an hour ago, of trials of 10 epochs on half a GPU. Two were done after 10 minutes and 10 and
    5 epochs, one was a retry, and one runs since 20 minutes and has 4 epochs."""
    study = spec(train__epochs=10, study__trials=6)
    ledger = register(database, study)
    with Lease.acquire(database, "s") as lease:
        lease.uses(0.5)
        for number, epochs in enumerate((10, 5, 3, 4)):
            assert ask(ledger) == number
            for epoch in range(1, epochs + 1):
                ledger.report(number, epoch, EPOCHS)
        ledger.complete(0, 0.5, best_epoch=1, stop_reason="epochs")
        ledger.prune(1, 5)
        ledger.note(2, retry_of=0)
        ledger.prune(2, 3)
        move_times(database)
        yield database


def move_times(database):
    now = utc_now()
    ago = {key: now - timedelta(minutes=key) for key in (20, 40, 50, 60)}
    trial = models.TrialModel
    began, ended = trial._datetime_start_utc.name, trial._datetime_complete_utc.name
    with database.write() as session:
        session.execute(sa.update(LaunchRow).values(started_at=ago[60]))
        for number, (start, end) in {0: (60, 50), 1: (50, 40), 2: (40, 20), 3: (20, None)}.items():
            times = {began: ago[start]} | ({} if end is None else {ended: ago[end]})
            session.execute(sa.update(trial.__table__).where(trial.number == number).values(times))
        session.execute(sa.update(EpochRow).values(recorded_at=now))


def test_a_study_says_what_it_cost_and_when_it_will_be_done(hour):
    """Epochs of 1 minute took (10 + 10) / 15 minutes; the running one's count too, 20 minutes for 4: 40 / 19 each.
    6 epochs are left of it. Of the 3 trials to do, it is one; the others take (10 + 5 + 10) / 3 epochs."""
    found = study_progress(hour, hour.study("s"))
    assert found.spent_s == pytest.approx(3600, abs=5)
    assert found.gpu_hours == pytest.approx(0.5 * (10 + 10 + 20 + 20) / 60, abs=0.01)
    assert [(epochs, round(seconds)) for epochs, seconds in earlier_trials(hour, "s")] == [
        (10, 600),
        (5, 600),
    ]
    epoch_s = 60 * 40 / 19
    assert found.left_s == pytest.approx((6 + 2 * 25 / 3) * epoch_s, rel=0.01)


def test_a_launch_with_hours_is_done_when_they_are_over_and_one_that_has_ended_has_nothing_left(hour):
    with hour.write() as session:
        session.execute(sa.update(StudyRow).values(overrides={"study.hours": 1.5, "train.epochs": 10}))
    assert study_progress(hour, hour.study("s")).left_s == pytest.approx(1800, abs=5)
    with hour.write() as session:
        session.execute(
            sa.update(LaunchRow).values(ended_at=utc_now(), outcome="finished", versions={"reason": "why"})
        )
    found = study_progress(hour, hour.study("s"))
    assert (found.left_s, found.gpu_hours) == (None, 0.0)
    assert hour.study("s").last_launch.reason == "why"
