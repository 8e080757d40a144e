"""Broad and narrow on a real Ray cluster; tests/chaos reranks and fine-tunes too, and is killed in the middle."""

from pathlib import Path

from tiny_study import TINY as TWO_AT_A_TIME
from tiny_study import child_text, tiny

from searcher.ledger.database import Database
from searcher.lineage.resolve import resolve
from searcher.study.spec import StudySpec

# One worker: starting a second takes longer than all trials together.
TINY = TWO_AT_A_TIME.replace("max_concurrent = 2", "max_concurrent = 1")
BROAD = TINY.replace("epochs = 4", "epochs = 1").replace("grace_epochs = 1", 'name = "none"')


def test_a_narrowed_study_takes_from_the_one_before(launch_tiny, tmp_path: Path):
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
