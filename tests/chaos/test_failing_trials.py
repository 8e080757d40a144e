"""Trials that fail by themselves: a loss that is not a number, memory that is not there, a mistake in a model."""

import re
from collections.abc import Callable

import pytest
from chaos_facts import Facts, Trial, assert_finished, assert_no_open_launches
from chaos_harness import Study, fault

_STEP = "searcher.models.unet:UNet.training_step"


def failed_by_themselves(facts: Facts) -> list[Trial]:
    """Return the failed trials but one that was running when the study stopped because of the others."""
    return [
        t for t in facts.failed() if not t.notes["fail_reason"].startswith("interrupted: the launch ended")
    ]


@pytest.mark.fault(
    "a loss that becomes NaN (learning rate 1e30)",
    holds="FAIL with loss, epoch, step and learning rate; after 5 in a row the study stops and says what they share",
)
def test_a_loss_that_is_not_a_number_fails_the_trial_and_five_the_study(
    new_study: Callable[..., Study], fact: Callable[[str], None]
):
    study = new_study(norm="none")
    options = ["optimizer.name=sgd", "optimizer.lr=1e30"]
    driver = study.start(*[word for option in options for word in ("--set", option)])
    output = driver.ends_with(1)
    facts = study.facts()
    assert len(failed_by_themselves(facts)) == 5
    assert set(facts.states) <= {"FAIL", "WAITING"}, facts.states
    for trial in failed_by_themselves(facts):
        reason = trial.notes["fail_reason"]
        assert re.match(r"(loss 'bce'|the gradients' norm) became (nan|inf) at epoch 1, step \d, ", reason), (
            reason
        )
        assert not facts.retries_of(trial.number), "the same parameters would fail again"
    shared = output.partition("5 trials failed in a row")[2]
    assert "became" in shared
    assert "optimizer.momentum" not in shared, "each drew another one"
    assert_no_open_launches(facts)
    fact(facts.summary())


@pytest.mark.fault(
    "an exception in a model",
    holds="FAIL with the exception and its place; after 5 in a row the study stops and says what they share",
)
def test_a_mistake_in_a_model_is_recorded_with_its_place(
    new_study: Callable[..., Study], fact: Callable[[str], None]
):
    study = new_study()
    output = study.start(faults=[fault("oops", _STEP, "raise", times=0)]).ends_with(1)
    facts = study.facts()
    assert set(facts.states) <= {"FAIL", "WAITING"}, facts.states
    for trial in failed_by_themselves(facts):
        assert "ChaosError: the model's own mistake at sitecustomize.py:" in trial.notes["fail_reason"]
        assert not facts.retries_of(trial.number)
    assert "5 trials failed in a row" in output
    assert "ChaosError: the model's own mistake" in output.partition("failed in a row")[2]
    assert_no_open_launches(facts)
    fact(facts.summary())


@pytest.mark.fault(
    "out of memory: torch's allocator refuses batches of more than 2 images",
    holds="FAIL with the reason; the same parameters once more with half the micro-batch, which succeeds",
)
def test_a_trial_out_of_memory_is_tried_again_with_half_the_micro_batch(
    new_study: Callable[..., Study], fact: Callable[[str], None]
):
    study = new_study(trials=2)  # of batches of 4 images
    study.finish(faults=[fault("memory", _STEP, "exhaust", times=0, larger=2)])
    facts = study.facts()
    failed = facts.failed()
    assert len(failed) == 2, facts.summary()
    for trial in failed:
        assert "memory" in trial.notes["fail_reason"]
        [retry] = facts.retries_of(trial.number)
        assert retry.is_done
        assert retry.params == trial.params
        assert retry.notes["micro_batches"] == 2
    assert_finished(facts, study.runs, budget=2, epochs=4)
    fact(facts.summary())


@pytest.mark.fault(
    "out of memory whatever the batch",
    holds="each set of parameters is tried twice, not more; the study stops and says that memory is what they share",
)
def test_a_study_without_enough_memory_stops_and_says_so(
    new_study: Callable[..., Study], fact: Callable[[str], None]
):
    study = new_study(trials=6)
    output = study.start(faults=[fault("memory", _STEP, "exhaust", times=0, larger=0)]).ends_with(1)
    facts = study.facts()
    assert set(facts.states) <= {"FAIL", "WAITING"}, facts.states
    for trial in failed_by_themselves(facts):
        assert "memory" in trial.notes["fail_reason"]
        if "retry_of" in trial.notes:
            assert trial.notes["micro_batches"] == 2
            assert not facts.retries_of(trial.number), "tried a third time"
    assert sum("retry_of" in trial.notes for trial in failed_by_themselves(facts)) == 5
    assert "memory" in output.partition("failed in a row")[2]
    assert_no_open_launches(facts)
    fact(facts.summary())
