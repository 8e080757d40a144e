"""Broad, narrow, rerank and fine-tune on a real Ray cluster; tests/chaos kills it in the middle."""

from pathlib import Path

import pytest
from tiny_study import LOW_RATES, child_text, tiny
from tiny_study import TINY as TWO_AT_A_TIME

from searcher.ledger.database import Database
from searcher.lineage.resolve import resolve
from searcher.study.spec import StudySpec

# One worker: starting a second takes longer than all trials together.
TINY = TWO_AT_A_TIME.replace("max_concurrent = 2", "max_concurrent = 1")
BROAD = TINY.replace("epochs = 4", "epochs = 1").replace("grace_epochs = 1", 'name = "none"')


def test_each_stage_takes_from_the_one_before(launch_tiny, tmp_path: Path):
    def launch(spec: StudySpec):
        with Database.open(str(tmp_path / "s.db"), create=True) as database:
            spec = resolve(spec, database, storage_root=tmp_path / "runs")
        result, listener, trials = launch_tiny(spec)
        assert result.outcome == "finished", result
        return spec, listener, trials

    launch(tiny(BROAD))
    narrow = child_text(
        "narrow", "tiny", "refine", "min_complete = 4", trials=4, rest="[search]\nexplore = 0.25"
    )
    spec, listener, trials = launch(tiny(narrow))
    assert any(
        "of tiny's trials are inside the narrowed space and imported" in line for line in listener.lines
    )
    assert trials[0].params == spec.enqueue[0], "the parent's best goes first"
    regions = [trial.notes.get("region") for trial in trials]
    assert regions.count("whole") == 1
    box = spec.space.narrow()
    assert all(box.contains(t.params) for t in trials if t.notes.get("region") == "narrow")

    again = child_text("again", "narrow", "rerank", "best = 2\nreplicates = 2", rest="[data]\nfolds = 2")
    _, _, trials = launch(tiny(again))
    assert [(t.params["data.fold"], t.state) for t in trials] == [(0, "COMPLETE")] * 2 + [(1, "COMPLETE")] * 2

    fine = child_text("fine", "again", "finetune", trials=1, rest=LOW_RATES)
    spec, _, [trial] = launch(tiny(fine))
    with Database.open(str(tmp_path / "s.db")) as database:
        row = database.study_row("fine")
        winner = database.trials("again")[row.parent_trial]
    assert spec.fixed["warm_start.sha256"] == winner.checkpoints["best"].sha256 == row.parent_sha256
    assert spec.trial_config(trial.params).data.fold == winner.params["data.fold"]
    assert trial.notes["warm_start"]["num_loaded"] > 20
    assert trial.epochs[1]["loss"] == pytest.approx(winner.value, rel=0.25)


def test_a_study_with_two_objectives_ends_with_the_best_compromises(launch_tiny, tmp_path: Path):
    from searcher.ledger.best import best_compromises, best_trial

    text = TINY.replace('objective = "loss"', 'objective = "loss"\nalso = ["seconds_per_image"]')
    result, _, trials = launch_tiny(tiny(text, study__trials=5, train__epochs=2))
    assert result.outcome == "finished"
    complete = [trial for trial in trials if trial.state == "COMPLETE"]
    for trial in complete:
        best = trial.epochs[trial.notes["best_epoch"]]
        assert trial.values == (best["loss"], best["seconds_per_image"])
    with Database.open(str(tmp_path / "s.db")) as database:
        study = database.study("tiny")
    assert (study.also, study.directions) == (("seconds_per_image",), ("minimize", "minimize"))
    front = best_compromises(study, trials)
    assert front[0].value == best_trial(study, trials).value
    assert front[-1].values[1] == min(trial.values[1] for trial in complete)
