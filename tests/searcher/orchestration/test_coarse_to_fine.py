"""A narrowed study and one of two objectives on a real Ray cluster; tests/chaos goes the whole way, and is killed."""

import math
from pathlib import Path

from new_database import new_database
from tiny_study import TINY as TWO_AT_A_TIME
from tiny_study import child_text, tiny

from searcher.data_pipeline.datasets import SyntheticGlands
from searcher.ledger.database import Database
from searcher.ledger.registration import Registration
from searcher.ledger.study_ledger import StudyLedger
from searcher.lineage.resolve import resolve
from searcher.orchestration.trials.samplers import build_sampler
from searcher.training.dataset import DataRequest

# One worker: starting a second takes longer than all trials together.
TINY = TWO_AT_A_TIME.replace("max_concurrent = 2", "max_concurrent = 1")


def register_parent(database: Database, cache_dir: Path, root: Path) -> None:
    """Write down the study `tiny` with its four trials, as a driver does; what they learned is made up."""
    spec = tiny(TINY)
    store = DataRequest(None, str(cache_dir), spec.trial_config({}).data).prepare()
    Registration(
        spec=spec,
        data_source=SyntheticGlands.name,
        data_fingerprint=store.fingerprint,
        storage_root=root,
    ).register(database)
    ledger = StudyLedger(database, spec, build_sampler(spec, num_trials=0))
    for _ in range(4):
        number, params = ledger.begin_trial(running=())
        loss = abs(math.log10(params["optimizer.lr"] / 1e-2))
        ledger.report(number, 1, {"loss": loss})
        ledger.complete(number, loss, best_epoch=1, stop_reason="epochs")


def test_a_narrowed_study_takes_from_the_one_before(launch_tiny, cache_dir, tmp_path: Path):
    narrow = child_text(
        "narrow", "tiny", "refine", "min_complete = 4", trials=4, rest="[search]\nexplore = 0.25"
    )
    with new_database(tmp_path / "s.db") as database:
        register_parent(database, cache_dir, tmp_path / "runs")
        spec = resolve(tiny(narrow), database, storage_root=tmp_path / "runs")
    result, listener, trials = launch_tiny(spec)
    assert result.outcome == "finished", result
    assert any(
        "of tiny's trials are inside the narrowed space and imported" in line for line in listener.lines
    )
    assert trials[0].params == spec.enqueue[0], "the parent's best goes first"
    regions = [trial.notes.get("region") for trial in trials]
    assert regions.count("whole") == 1
    box = spec.space.narrow()
    assert all(box.contains(t.params) for t in trials if t.notes.get("region") == "narrow")


def test_a_study_with_two_objectives_ends_with_the_best_compromises(launch_tiny, tmp_path: Path):
    from searcher.ledger.ranking import best_compromises, best_trial

    text = TINY.replace(
        'objective = "loss"', 'objective = "loss"\nsecondary_objectives = ["seconds_per_image"]'
    )
    result, _, trials = launch_tiny(tiny(text, study__trials=5, train__epochs=2))
    assert result.outcome == "finished"
    complete = [trial for trial in trials if trial.state == "COMPLETE"]
    for trial in complete:
        best = trial.epochs[trial.notes["best_epoch"]]
        assert trial.values == (best["loss"], best["seconds_per_image"])
    with Database.open(str(tmp_path / "s.db")) as database:
        study = database.study("tiny")
    assert (study.secondary_objectives, study.directions) == (
        ("seconds_per_image",),
        ("minimize", "minimize"),
    )
    front = best_compromises(study, trials)
    assert front[0].value == best_trial(study, trials).value
    assert front[-1].values[1] == min(trial.values[1] for trial in complete)
