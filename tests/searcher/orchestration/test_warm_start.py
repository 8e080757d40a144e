"""A checkpoint to begin from, from the search through the worker back into the database; without Ray's cluster."""

import shutil
import threading

import optuna
import pytest
import torch
from new_database import new_database
from tiny_study import RecordingListener, tiny

from searcher.ledger.records import CheckpointRecord
from searcher.ledger.registration import Registration
from searcher.ledger.study_ledger import StudyLedger
from searcher.orchestration.cluster.resources import TrialResources
from searcher.orchestration.run_context import RunContext
from searcher.orchestration.trials.search import StudySearch
from searcher.orchestration.trials.trainable import TrialTrainable
from searcher.training.dataset import DataRequest
from searcher.training.trainer import Trainer


@pytest.fixture
def world(tmp_path, cache_dir):
    """Return a function that makes the search of a tiny study that begins warm, its ledger, and the checkpoint."""
    threads = torch.get_num_threads()
    spec = tiny(train__epochs=2)
    config = spec.trial_config({"optimizer.name": "adamw", "optimizer.lr": 0.01})
    data = DataRequest(None, str(cache_dir), config.data)
    store, root = data.prepare(), tmp_path / "runs"
    with Trainer(config, spec.objective, store=store, run_dir=root / "parent" / "trial-0000") as trainer:
        trainer.fit(Silent())
        file = trainer.best_checkpoint
    record = CheckpointRecord(
        kind="best", epoch=file.epoch, uri="parent/trial-0000/best.pt", sha256=file.sha256,
        num_bytes=file.num_bytes, value=file.value,
    )  # fmt: skip
    with new_database(tmp_path / "s.db") as database:

        def search(**changes):
            study = tiny(train__epochs=2, warm_start__sha256=file.sha256, **changes)
            Registration(
                spec=study, data_source="synthetic", data_fingerprint=store.fingerprint, storage_root=root
            ).register(database)
            ledger = StudyLedger(database, study, optuna.samplers.RandomSampler(seed=0))
            return ledger, StudySearch(
                ledger,
                RunContext(
                    spec=study,
                    data=data,
                    store=store,
                    storage_root=root,
                    resources=TrialResources(1.0, 0.0),
                    warm_start=record,
                ),
                listener=RecordingListener(),
                stop=threading.Event(),
            )

        yield search, root / record.uri
    torch.set_num_threads(threads)


class Silent:
    def report(self, epoch, metrics):
        from searcher.training.reporter import Decision

        return Decision.CONTINUE


def test_a_trial_begins_from_the_checkpoint_and_the_database_says_what_it_took(world):
    search, _ = world
    ledger, asks = search(model__head="distance")
    config = asks.suggest("a")
    worker = TrialTrainable(config)
    first, second = worker.step(), worker.step()
    worker.stop()
    assert second["message"].transfer is None
    asks.on_trial_result("a", first)
    asks.on_trial_complete("a", second)
    assert asks.fatal is None
    noted = ledger.trial(config["job"].number).user_attrs["warm_start"]
    assert noted["num_reset"] == 2
    assert noted["reset"] == {
        "classifier.weight": "2x2x1x1 here, 1x2x1x1 there",
        "classifier.bias": "2 here, 1 there",
    }
    assert ledger.trial(config["job"].number).state.name == "COMPLETE"


def test_a_retry_goes_on_without_the_parent_and_keeps_the_note(world):
    search, parent = world
    ledger, asks = search()
    asks.on_trial_result("a", run_once(asks.suggest("a")))
    asks.errored("a", "killed")
    shutil.rmtree(parent.parent)  # the same bytes may lie beside it
    config = asks.suggest("b")
    assert config["job"].resume_from is not None
    asks.on_trial_complete("b", run_once(config))
    assert asks.fatal is None
    trial = ledger.trial(config["job"].number)
    assert trial.state.name == "COMPLETE"
    assert trial.user_attrs["warm_start"]["num_reset"] == 0


def test_a_checkpoint_that_is_gone_fails_the_trial_in_one_line(world):
    search, parent = world
    ledger, asks = search()
    shutil.rmtree(parent.parent)  # the same bytes may lie beside it
    config = asks.suggest("a")
    asks.on_trial_complete("a", run_once(config))
    reason = ledger.trial(config["job"].number).user_attrs["fail_reason"]
    assert reason.startswith("parent/trial-0000/best.pt: must be the checkpoint of epoch")
    assert "\n" not in reason


def run_once(config):
    worker = TrialTrainable(config)
    result = worker.step()
    worker.stop()
    return result
