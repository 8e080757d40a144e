"""One trial: what it reports, keeps on disk, and when it ends."""

import dataclasses
import errno
import hashlib
import json
import math
import threading

import pytest
import torch
from same_runs import TIMINGS, without_timings
from small_models import SMALL_MODELS

from searcher.data_pipeline.datasets import SyntheticGlands
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.store import prepare_store
from searcher.exceptions import CheckpointError, NonFiniteLossError
from searcher.models.registry import names
from searcher.study.config import TrialConfig
from searcher.study.objectives import CLASS_METRICS, METRICS, Objective
from searcher.training import run_folder
from searcher.training.checkpoints import load_checkpoint
from searcher.training.history import read_history
from searcher.training.learner import Learner
from searcher.training.reporter import NullReporter
from searcher.training.trained import trained_model
from searcher.training.trainer import Trainer

DICE, LOSS = Objective("object_dice"), Objective("loss")


@pytest.fixture(scope="module")
def finished(store, tiny, recorder, tmp_path_factory):
    """Return a run of four epochs that went to its end: folder, configuration, recorder, outcome."""
    run_dir = tmp_path_factory.mktemp("run")
    config, reporter = tiny(), recorder()
    with Trainer(config, LOSS, store=store, run_dir=run_dir) as trainer:
        outcome = trainer.fit(reporter)
        files = trainer.last_checkpoint, trainer.best_checkpoint
    return run_dir, config, reporter, outcome, files


def test_every_epoch_is_reported_once_with_every_metric(finished):
    _, _, reporter, outcome, _ = finished
    assert reporter.epochs == [1, 2, 3, 4]
    for report in reporter.reports:
        assert report.keys() == {*METRICS.names(), "train_loss", "lr", *TIMINGS} - {*CLASS_METRICS}
        assert all(type(value) is float and math.isfinite(value) for value in report.values())
        assert 0 < report["eval_s"] < report["epoch_s"]
    assert outcome.stop_reason == "epochs"
    assert outcome.epoch == 4
    assert outcome.last_metrics == reporter.reports[-1]


def test_the_outcome_names_the_best_epoch(finished):
    _, _, reporter, outcome, _ = finished
    losses = [report["loss"] for report in reporter.reports]
    assert outcome.best_value == min(losses)
    assert outcome.best_epoch == 1 + losses.index(min(losses))


def test_the_files_of_a_run(finished):
    run_dir, config, reporter, outcome, (last, best) = finished
    assert sorted(path.name.partition(".out.")[0] for path in run_dir.iterdir()) == [
        "best.pt",
        "config.json",
        "events",  # TensorBoard's, with a time and the host behind it
        "last.pt",
        "metrics.jsonl",
        "previous-best.pt",  # the last epoch is the best, as the third was
        "previous.pt",
    ]
    assert TrialConfig.model_validate(json.loads((run_dir / "config.json").read_text())) == config
    assert read_history(run_dir / "metrics.jsonl") == [
        {"epoch": epoch, **report} for epoch, report in enumerate(reporter.reports, start=1)
    ]
    assert (last.path, last.epoch) == (run_dir / "last.pt", 4)
    assert (best.path, best.epoch, best.value) == (
        run_dir / "best.pt",
        outcome.best_epoch,
        outcome.best_value,
    )
    for file in (last, best):
        assert hashlib.sha256(file.path.read_bytes()).hexdigest() == file.sha256
        assert load_checkpoint(file.path, config_digest=config.digest())[1] == file


def test_the_best_checkpoint_holds_the_weights_that_gave_the_best_value(finished, store, tmp_path):
    _, config, _, outcome, (_, best) = finished
    with Trainer(config, LOSS, store=store, run_dir=tmp_path) as trainer:
        trainer.learner.model.load_state_dict(load_checkpoint(best.path)[0].weights())
        assert trainer._validator.validate(trainer.learner.model, epoch=0)["loss"] == outcome.best_value


def test_the_reporter_hears_of_an_epoch_when_it_is_on_disk(store, tiny, tmp_path):
    class Looks(NullReporter):
        def report(self, epoch, metrics):
            assert load_checkpoint(tmp_path / "last.pt")[0].epoch == epoch
            assert read_history(tmp_path / "metrics.jsonl")[-1]["epoch"] == epoch
            assert trainer.last_checkpoint.epoch == epoch
            return super().report(epoch, metrics)

    with Trainer(tiny(train={"epochs": 2}), LOSS, store=store, run_dir=tmp_path) as trainer:
        trainer.fit(Looks())


def first_losses(config, store, run_dir, recorder, num_epochs=2):
    reporter = recorder(stop_after=num_epochs)
    with Trainer(config, LOSS, store=store, run_dir=run_dir) as trainer:
        trainer.fit(reporter)
    return [report["train_loss"] for report in reporter.reports]


def test_the_same_seed_gives_the_same_first_losses(finished, store, recorder, tmp_path):
    _, config, reporter, _, _ = finished
    again = first_losses(config, store, tmp_path, recorder)
    assert again == [report["train_loss"] for report in reporter.reports[:2]]


def test_the_number_of_stream_threads_changes_nothing(finished, store, tiny, recorder, tmp_path):
    _, _, reporter, _, _ = finished
    again = first_losses(tiny(data={"num_threads": 0}), store, tmp_path, recorder)
    assert again == [report["train_loss"] for report in reporter.reports[:2]]


def test_another_seed_gives_other_losses(finished, store, tiny, recorder, tmp_path):
    _, _, reporter, _, _ = finished
    other = first_losses(tiny(train={"seed": 1}), store, tmp_path, recorder, num_epochs=1)
    assert other[0] != reporter.reports[0]["train_loss"]


def test_a_trial_has_its_random_numbers_to_itself(finished, store, tiny, recorder, tmp_path):
    # Two trainers in turns, dropout in both, a reporter that draws: each trains as if alone.
    config = tiny(model={"dropout": 0.5})
    alone = first_losses(config, store, tmp_path / "alone", recorder)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two = recorder(), recorder()
    with (
        Trainer(config, LOSS, store=store, run_dir=tmp_path / "one") as first,
        Trainer(config, LOSS, store=store, run_dir=tmp_path / "two") as second,
    ):
        first.step(one)
        second.step(two)
        assert torch.equal(torch.rand(1), expected)
        second.step(two)
        first.step(one)
    assert [report["train_loss"] for report in one.reports] == alone
    assert [report["train_loss"] for report in two.reports] == alone


def test_training_learns_glands(store, tiny, recorder, tmp_path):
    config = tiny(
        data={"samples_per_epoch": 24},
        model={"base_channels": 8, "norm": "batch"},
        optimizer={"lr": 1e-2},
        train={"epochs": 8},
    )
    reporter = recorder()
    with Trainer(config, DICE, store=store, run_dir=tmp_path) as trainer:
        untrained = trainer._validator.validate(trainer.learner.evaluated, epoch=0)
        outcome = trainer.fit(reporter)
    best_pixel_dice = max(report["pixel_dice"] for report in reporter.reports)
    assert best_pixel_dice > max(0.75, untrained["pixel_dice"] + 0.1)
    assert outcome.best_value > untrained["object_dice"] + 0.1
    assert outcome.last_metrics["loss"] < untrained["loss"]


def test_it_ends_on_a_plateau(store, tiny, recorder, tmp_path):
    # A rate this small changes no float32 weight: the first epoch stays the best.
    config = tiny(optimizer={"lr": 1e-30}, train={"epochs": 9, "early_stop_patience": 2})
    reporter = recorder()
    with Trainer(config, DICE, store=store, run_dir=tmp_path) as trainer:
        outcome = trainer.fit(reporter)
    assert outcome.stop_reason == "plateau"
    assert (outcome.epoch, outcome.best_epoch) == (3, 1)
    assert reporter.epochs == [1, 2, 3]


def test_it_ends_when_the_reporter_says_so(store, tiny, recorder, tmp_path):
    with Trainer(tiny(), DICE, store=store, run_dir=tmp_path) as trainer:
        reporter = recorder(stop_after=2)
        outcome = trainer.fit(reporter)
        assert (outcome.stop_reason, outcome.epoch) == ("reporter", 2)
        assert trainer.step(reporter) == outcome
        assert reporter.epochs == [1, 2]
        assert trainer.last_checkpoint.epoch == 2


def test_a_stop_at_the_last_epoch_is_the_end_all_the_same(store, tiny, recorder, tmp_path):
    with Trainer(tiny(train={"epochs": 1}), DICE, store=store, run_dir=tmp_path) as trainer:
        assert trainer.fit(recorder(stop_after=1)).stop_reason == "epochs"


def test_a_diverging_loss_names_epoch_and_step_and_keeps_the_last_checkpoint(store, tiny, recorder, tmp_path):
    # A rate that explodes after three calm epochs of warm-up cannot be had from a schedule, so poison a weight.
    threads = set(threading.enumerate())
    reporter = recorder()
    trainer = Trainer(tiny(), LOSS, store=store, run_dir=tmp_path)
    trainer.step(reporter)
    before = (tmp_path / "last.pt").read_bytes()
    with torch.no_grad():
        trainer.learner.model.classifier.bias.fill_(math.nan)
    with pytest.raises(NonFiniteLossError, match=r"loss 'bce' became nan at epoch 2, step 1,") as caught:
        trainer.step(reporter)
    assert "train.grad_clip_norm" in str(caught.value)
    assert (tmp_path / "last.pt").read_bytes() == before
    assert reporter.epochs == [1]
    assert set(threading.enumerate()) == threads


def test_a_learning_rate_far_too_high_fails_as_a_diverged_trial(store, tiny, tmp_path):
    config = tiny(optimizer={"name": "sgd", "lr": 1e30}, train={"epochs": 2})
    with (
        Trainer(config, LOSS, store=store, run_dir=tmp_path) as trainer,
        pytest.raises(NonFiniteLossError, match=r"became (nan|inf)"),
    ):
        trainer.fit(NullReporter())


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_a_trial_that_fails_leaves_no_thread(store, tiny, tmp_path, monkeypatch, error):
    def fail(self, batch):
        raise error

    threads = set(threading.enumerate())
    trainer = Trainer(tiny(data={"num_threads": 2}), LOSS, store=store, run_dir=tmp_path)
    assert set(threading.enumerate()) > threads
    monkeypatch.setattr(Learner, "learn", fail)
    with pytest.raises(type(error)):
        trainer.step(NullReporter())
    assert set(threading.enumerate()) == threads


def test_a_trial_that_cannot_begin_leaves_no_thread(store, tiny, tmp_path):
    threads = set(threading.enumerate())
    with pytest.raises(CheckpointError):
        Trainer(tiny(), LOSS, store=store, run_dir=tmp_path, resume_from=tmp_path / "none.pt")
    assert set(threading.enumerate()) == threads


def test_closing_twice_is_fine_and_training_on_is_not(store, tiny, tmp_path):
    trainer = Trainer(tiny(), LOSS, store=store, run_dir=tmp_path)
    trainer.close()
    trainer.close()
    with pytest.raises(AssertionError, match="the trainer is closed"):
        trainer.step(NullReporter())


def test_one_patient_alone_cannot_be_split(tiny, tmp_path):
    lonely = prepare_store(SyntheticGlands(num_images=2, size_px=64, seed=0), tmp_path)
    with pytest.raises(DataError, match="split by patient"):
        Trainer(tiny(), LOSS, store=lonely, run_dir=tmp_path / "run")


def test_a_new_run_does_not_overwrite_an_earlier_one(finished, store):
    run_dir, config, *_ = finished
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    with pytest.raises(CheckpointError, match="must not overwrite"):
        Trainer(config, LOSS, store=store, run_dir=run_dir)
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before


def test_the_average_is_what_is_validated_and_kept(store, tiny, recorder, tmp_path):
    config = tiny(train={"epochs": 2, "ema_decay": 0.9})
    reporter = recorder()
    with Trainer(config, LOSS, store=store, run_dir=tmp_path) as trainer:
        trainer.fit(reporter)
        checkpoint, _ = load_checkpoint(tmp_path / "last.pt")
        trainer.learner.model.load_state_dict(checkpoint.weights())
        measured = trainer._validator.validate(trainer.learner.model, epoch=2)
    assert measured["loss"] == reporter.reports[-1]["loss"]
    assert not torch.equal(checkpoint.weights()["classifier.weight"], checkpoint.model["classifier.weight"])


def test_bfloat16_trains_close_to_float32(finished, store, tiny, recorder, tmp_path):
    _, _, reporter, _, _ = finished
    low = first_losses(tiny(train={"precision": "bfloat16"}), store, tmp_path, recorder, num_epochs=1)
    high = reporter.reports[0]["train_loss"]
    assert low[0] != high
    assert low[0] == pytest.approx(high, rel=0.02)  # bfloat16 has 8 bits: steps of 0.4%


def test_a_compiled_network_trains_like_a_plain_one(finished, store, tiny, recorder, tmp_path, monkeypatch):
    # The eager backend: torch traces the network as for any backend, but compiles no C++ in a test.
    compile_module = torch.nn.Module.compile
    compiled = []

    def compile_eagerly(self):
        compiled.append(self)
        compile_module(self, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_eagerly)
    _, _, reporter, _, _ = finished
    losses = first_losses(tiny(train={"compile": True}), store, tmp_path, recorder, num_epochs=1)
    assert len(compiled) == 1
    assert losses[0] == pytest.approx(reporter.reports[0]["train_loss"], rel=1e-5)
    weights = load_checkpoint(tmp_path / "last.pt")[0].weights()
    assert "classifier.weight" in weights  # no prefix of a wrapper


@pytest.mark.parametrize("name", names())
def test_every_registered_model_trains(store, tiny, tmp_path, name):
    values = tiny(train={"epochs": 1}, data={"samples_per_epoch": 3}).to_dict()
    config = TrialConfig.model_validate(values | {"model": {"name": name, **SMALL_MODELS[name]}})
    with Trainer(config, DICE, store=store, run_dir=tmp_path) as trainer:
        assert math.isfinite(trainer.fit(NullReporter()).last_metrics["train_loss"])


def test_failing_to_write_a_checkpoint_fails_the_trial(store, tiny, tmp_path, monkeypatch):
    def fail(checkpoint, path):
        raise CheckpointError(f"{path}: could not be written")

    monkeypatch.setattr(run_folder, "save_checkpoint", fail)
    with (
        Trainer(tiny(), LOSS, store=store, run_dir=tmp_path) as trainer,
        pytest.raises(CheckpointError),
    ):
        trainer.step(NullReporter())


def test_an_outcome_is_a_value(finished):
    outcome = finished[3]
    assert dataclasses.replace(outcome) == outcome
    epoch = without_timings([outcome.last_metrics])[0]
    assert epoch.keys() == {*METRICS.names(), "train_loss", "lr"} - {*CLASS_METRICS}


def test_a_trial_in_micro_batches_trains_like_a_whole_one_and_goes_on_with_another_number(
    finished, store, recorder, tmp_path
):
    _, config, reporter, _, _ = finished  # no norm, cross-entropy: equal up to rounding
    one, two = recorder(stop_after=2), recorder()
    with Trainer(config, LOSS, store=store, run_dir=tmp_path, micro_batches=2) as trainer:
        trainer.fit(one)
    with Trainer(
        config, LOSS, store=store, run_dir=tmp_path, resume_from=tmp_path / "last.pt", micro_batches=3
    ) as trainer:
        trainer.fit(two)
    assert one.epochs + two.epochs == reporter.epochs
    losses = [report["train_loss"] for report in one.reports + two.reports]
    # Adam divides by the root of the squared gradients: where these are tiny, rounding grows to whole steps.
    assert losses == pytest.approx([report["train_loss"] for report in reporter.reports], rel=1e-3)


TUNING = {"postprocess": True}


def test_post_processing_is_tuned_after_the_last_epoch_and_travels_with_the_best_checkpoint(
    store, tiny, recorder, tmp_path
):
    config = tiny(train={"epochs": 2}, tuning=TUNING)
    reporter = recorder()
    with Trainer(config, DICE, store=store, run_dir=tmp_path) as trainer:
        outcome = trainer.fit(reporter)
        file = trainer.best_checkpoint
    assert reporter.epochs == [1, 2], "tuning is no epoch"
    assert outcome.tuned is not None
    best, loaded = load_checkpoint(tmp_path / "best.pt", sha256=file.sha256)
    assert loaded == file
    assert best.tuned == outcome.tuned
    assert (best.epoch, best.value) == (outcome.best_epoch, outcome.best_value)
    # Before tuning it is what the epoch was validated with, and after it no worse.
    assert outcome.tuned["value_before"] == pytest.approx(outcome.best_value)
    assert outcome.tuned["value"] >= outcome.best_value
    reported = [load_checkpoint(path)[0] for path in tmp_path.glob("*.pt") if path.name != "best.pt"]
    assert best.epoch in {each.epoch for each in reported if each.tuned is None}, "what was reported is there"

    model = trained_model(best, device=torch.device("cpu"))
    assert model.postprocess.model_dump() == outcome.tuned["postprocess"]
    assert not model.training


def test_a_trial_that_is_over_tunes_once_and_again_when_it_resumes(store, tiny, recorder, tmp_path):
    config = tiny(train={"epochs": 1}, tuning=TUNING)
    with Trainer(config, DICE, store=store, run_dir=tmp_path) as trainer:
        outcome = trainer.fit(recorder())
        sha256 = trainer.best_checkpoint.sha256
        assert trainer.step(recorder()) == outcome
        assert trainer.best_checkpoint.sha256 == sha256
    # Killed before anybody heard of it: the resumed trial comes to the same end.
    resumed = Trainer(config, DICE, store=store, run_dir=tmp_path, resume_from=tmp_path / "last.pt")
    with resumed:
        assert resumed.step(recorder()).tuned == outcome.tuned
        assert load_checkpoint(tmp_path / "best.pt")[0].tuned == outcome.tuned


def test_tuning_that_fails_costs_no_trained_trial(store, tiny, recorder, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise torch.OutOfMemoryError("no room for another network")

    monkeypatch.setattr("searcher.training.checkpoint_tuning.tune_postprocess", fails)
    config = tiny(train={"epochs": 1}, tuning=TUNING)
    with Trainer(config, DICE, store=store, run_dir=tmp_path) as trainer:
        outcome = trainer.fit(recorder())
        assert trainer.step(recorder()) == outcome, "not tried again and again"
        file = trainer.best_checkpoint
    assert (outcome.stop_reason, outcome.tuned) == ("epochs", None)
    assert "no room for another network" in outcome.tuning_problem
    assert load_checkpoint(tmp_path / "best.pt", sha256=file.sha256)[0].tuned is None


def test_a_disk_that_is_full_when_it_tunes_is_a_reason_to_go_on_later(
    store, tiny, recorder, tmp_path, monkeypatch
):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    config = tiny(train={"epochs": 1}, tuning=TUNING)
    with monkeypatch.context() as patched:
        patched.setattr("searcher.training.checkpoint_tuning.tune_postprocess", full)
        with (
            Trainer(config, DICE, store=store, run_dir=tmp_path) as trainer,
            pytest.raises(OSError, match="No space"),
        ):
            trainer.fit(recorder())
    with Trainer(config, DICE, store=store, run_dir=tmp_path, resume_from=tmp_path / "last.pt") as trainer:
        assert trainer.step(recorder()).tuned is not None


def test_a_trial_that_is_stopped_early_is_not_tuned(store, tiny, recorder, tmp_path):
    with Trainer(tiny(tuning=TUNING), DICE, store=store, run_dir=tmp_path) as trainer:
        outcome = trainer.fit(recorder(stop_after=1))
    assert (outcome.stop_reason, outcome.tuned) == ("reporter", None)
    assert load_checkpoint(tmp_path / "best.pt")[0].tuned is None


def test_a_checkpoint_of_another_version_says_so(store, tiny, recorder, tmp_path):
    with Trainer(tiny(train={"epochs": 1}), DICE, store=store, run_dir=tmp_path) as trainer:
        trainer.fit(recorder())
    checkpoint, _ = load_checkpoint(tmp_path / "best.pt")
    for changed in (
        {"config": {**checkpoint.config, "unheard": {}}},
        {"ema": None, "model": {}},
        {"tuned": {"postprocess": {}}},
    ):
        with pytest.raises(CheckpointError, match="does not fit this version of searcher"):
            trained_model(dataclasses.replace(checkpoint, **changed), device=torch.device("cpu"))
