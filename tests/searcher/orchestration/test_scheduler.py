"""ASHA as the study sets it, and what it knows after a relaunch."""

from types import SimpleNamespace

from optuna.trial import TrialState, create_trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from tiny_study import tiny

from searcher.orchestration.trials.scheduler import build_scheduler


def decision(scheduler, name: str, epoch: int, value: float, past_values=None) -> str:
    trial = SimpleNamespace(trial_id=name, config={"job": SimpleNamespace(past_values=past_values or {})})
    scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"epoch": epoch, "objective": value})


def past(number: int, *values: float):
    trial = create_trial(
        state=TrialState.COMPLETE, value=min(values), intermediate_values=dict(enumerate(values, 1))
    )
    trial.number = number
    return trial


def test_a_relaunch_judges_new_trials_by_the_old_ones_curves():
    # The tiny study minimises its loss, with rungs at epochs 1, 2, 4 and reduction 2: the worse half stops.
    alone = build_scheduler(tiny(), [])
    assert decision(alone, "new", 1, 0.9) == TrialScheduler.CONTINUE, "nobody to compare with"
    relaunched = build_scheduler(tiny(), [past(0, 0.3, 0.2), past(1, 0.4, 0.3), past(2, 0.5, 0.4)])
    assert decision(relaunched, "bad", 1, 0.9) == TrialScheduler.STOP
    assert decision(relaunched, "good", 1, 0.1) == TrialScheduler.CONTINUE
    assert decision(relaunched, "later", 2, 0.9) == TrialScheduler.STOP


def test_a_maximised_objective_stops_the_low_ones():
    scheduler = build_scheduler(tiny(study__objective="object_dice"), [past(0, 0.9), past(1, 0.8)])
    assert decision(scheduler, "bad", 1, 0.1) == TrialScheduler.STOP
    assert decision(scheduler, "good", 1, 0.95) == TrialScheduler.CONTINUE


def test_no_pruner_and_no_room_to_prune_let_every_trial_finish():
    assert type(build_scheduler(tiny(pruner__name="none"), [])) is FIFOScheduler
    assert type(build_scheduler(tiny(train__epochs=2, pruner__grace_epochs=2), [])) is FIFOScheduler


def test_a_retry_fills_the_rungs_with_the_epochs_it_inherits_and_not_with_later_ones():
    # Rungs at epochs 1, 2, 4, 8. The retry was at 0.9 after epoch 1 and goes on after epoch 2. Ray's ASHA would put
    # its report of epoch 5 into the empty rung of epoch 1, and a new trial with 0.5 there would look the worse one.
    scheduler = build_scheduler(tiny(train__epochs=9), [])
    retry = SimpleNamespace(trial_id="retry", config={"job": SimpleNamespace(past_values={1: 0.9, 2: 0.8})})
    scheduler.on_trial_add(None, retry)
    for epoch in (3, 4, 5):
        scheduler.on_trial_result(None, retry, {"epoch": epoch, "objective": 0.1})
    assert decision(scheduler, "new", 1, 0.5) == TrialScheduler.CONTINUE
