"""Going on from a checkpoint is the same as not having stopped, wherever it stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from same_runs import assert_same, without_timings
from small_models import SMALL_MODELS

from searcher.data_pipeline.datasets import SyntheticGlands
from searcher.data_pipeline.store import prepare_store
from searcher.exceptions import CheckpointError
from searcher.models.registry import names
from searcher.study.objectives import Objective
from searcher.training import run_folder
from searcher.training.checkpoints import load_checkpoint
from searcher.training.failures import diagnose
from searcher.training.history import read_history
from searcher.training.learner import Learner
from searcher.training.reporter import NullReporter
from searcher.training.trainer import Trainer

DICE, LOSS = Objective("object_dice"), Objective("loss")

# Between them: every optimiser state, every schedule state, every source of random numbers, the average.
CONFIGS = {
    "sgd, plateau": {
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
        "schedule": {"name": "plateau", "plateau_patience": 1, "plateau_factor": 0.5},
    },
    "adamw, cosine, warm-up, average, dropout, batch norm, clipping": {
        "optimizer": {"name": "adamw", "lr": 3e-3, "weight_decay": 1e-2},
        "schedule": {"name": "cosine", "warmup_epochs": 1.5, "min_lr_fraction": 0.01},
        "model": {"dropout": 0.3, "norm": "batch"},
        "train": {"epochs": 5, "ema_decay": 0.99, "grad_clip_norm": 0.5},
    },
    "adam, constant": {"optimizer": {"name": "adam"}, "model": {"dropout": 0.3, "norm": "group"}},
}
NUM_EPOCHS = 5


@pytest.fixture(scope="module", params=CONFIGS, ids=CONFIGS.keys())
def whole(request, store, tiny, recorder, tmp_path_factory):
    """Return a configuration, and the folder and reports of a run of it that was never stopped."""
    sections = CONFIGS[request.param]
    config = tiny(**{**sections, "train": {"epochs": NUM_EPOCHS, **sections.get("train", {})}})
    run_dir = tmp_path_factory.mktemp("whole")
    reporter = recorder()
    with Trainer(config, DICE, store=store, run_dir=run_dir) as trainer:
        trainer.fit(reporter)
    return config, run_dir, without_timings(reporter.reports)


def history(run_dir):
    lines = read_history(run_dir / "metrics.jsonl")
    return without_timings(lines)


def assert_same_checkpoint(one, two):
    first, second = vars(load_checkpoint(one)[0]).copy(), vars(load_checkpoint(two)[0]).copy()
    for checkpoint in (first, second):
        checkpoint["metrics"] = without_timings([checkpoint["metrics"]])
    assert_same(first, second, "checkpoint")


def start(config, store, run_dir, recorder, *, num_epochs):
    with Trainer(config, DICE, store=store, run_dir=run_dir) as trainer:
        trainer.fit(recorder(stop_after=num_epochs))


def go_on(config, store, run_dir, recorder, *, resume_from):
    reporter = recorder()
    with Trainer(config, DICE, store=store, run_dir=run_dir, resume_from=resume_from) as trainer:
        outcome = trainer.fit(reporter)
        return outcome, without_timings(reporter.reports), trainer.best_checkpoint


@pytest.mark.parametrize("stopped_after", [1, 4])
def test_resuming_is_bit_identical_to_not_having_stopped(whole, store, recorder, tmp_path, stopped_after):
    config, whole_dir, expected = whole
    start(config, store, tmp_path, recorder, num_epochs=stopped_after)
    torch.rand(7)  # what the process draws meanwhile is of no consequence
    _, reports, _ = go_on(config, store, tmp_path, recorder, resume_from=tmp_path / "last.pt")
    assert reports == expected[stopped_after:]
    assert history(tmp_path) == history(whole_dir)
    assert_same_checkpoint(tmp_path / "last.pt", whole_dir / "last.pt")
    assert_same_checkpoint(tmp_path / "best.pt", whole_dir / "best.pt")


def test_the_rate_changes_in_these_runs(whole):
    # Otherwise they would show nothing about the schedule's state.
    config, _, reports = whole
    assert (len({report["lr"] for report in reports}) > 1) == (config.schedule.name != "constant")


def test_killed_in_mid_epoch_it_goes_on_from_the_epoch_before(whole, store, recorder, tmp_path, monkeypatch):
    config, whole_dir, expected = whole
    learn, steps = Learner.learn, []

    def die_in_the_third_epoch(self, batch):
        steps.append(1)
        if len(steps) == 8:  # three steps an epoch: the second step of the third
            raise KeyboardInterrupt
        return learn(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "learn", die_in_the_third_epoch)
        with pytest.raises(KeyboardInterrupt):
            start(config, store, tmp_path, recorder, num_epochs=NUM_EPOCHS)
    (tmp_path / "last.pt.tmp").write_bytes(b"what a kill -9 leaves of a checkpoint")
    _, reports, _ = go_on(config, store, tmp_path, recorder, resume_from=tmp_path / "last.pt")
    assert reports == expected[2:]
    assert history(tmp_path) == history(whole_dir)
    assert not (tmp_path / "last.pt.tmp").exists()


@pytest.mark.parametrize("name", names())
def test_every_registered_model_goes_on_bit_by_bit(name, store, tiny, recorder, tmp_path):
    plain = tiny(
        data={"samples_per_epoch": 4}, optimizer={"name": "sgd", "lr": 1e-3}, train={"batch_size": 2}
    )
    values = {**plain.to_dict(), "model": {"name": name, **SMALL_MODELS[name]}}
    values["train"] |= {"epochs": 2}
    config = type(plain).model_validate(values)
    whole = recorder()
    with Trainer(config, DICE, store=store, run_dir=tmp_path / "whole") as trainer:
        trainer.fit(whole)
    start(config, store, tmp_path / "one", recorder, num_epochs=1)
    torch.rand(7)  # what the process draws meanwhile is of no consequence
    _, reports, _ = go_on(config, store, tmp_path / "one", recorder, resume_from=tmp_path / "one" / "last.pt")
    assert reports == without_timings(whole.reports)[1:]
    assert len({report["loss"] for report in whole.reports}) == 2
    assert_same_checkpoint(tmp_path / "one" / "last.pt", tmp_path / "whole" / "last.pt")


@pytest.fixture
def config(tiny):
    return tiny(train={"epochs": 4}, optimizer={"lr": 1e-3})


def test_killed_between_an_epochs_line_and_its_checkpoint(store, config, recorder, tmp_path, monkeypatch):
    save, saves = run_folder.save_checkpoint, []

    def die_at_the_third(checkpoint, path):
        saves.append(1)
        if len(saves) == 3:
            raise KeyboardInterrupt
        return save(checkpoint, path)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "save_checkpoint", die_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            start(config, store, tmp_path, recorder, num_epochs=4)
    assert [line["epoch"] for line in history(tmp_path)] == [1, 2, 3]
    go_on(config, store, tmp_path, recorder, resume_from=tmp_path / "last.pt")
    assert [line["epoch"] for line in history(tmp_path)] == [1, 2, 3, 4]


def test_killed_between_last_and_best(store, tiny, recorder, tmp_path, monkeypatch):
    config = tiny(train={"epochs": 2}, optimizer={"lr": 1e-30})  # the first epoch is the best

    def die(file, path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "publish_checkpoint", die)
        with pytest.raises(KeyboardInterrupt):
            start(config, store, tmp_path, recorder, num_epochs=1)
    assert not (tmp_path / "best.pt").exists()
    _, _, best = go_on(config, store, tmp_path, recorder, resume_from=tmp_path / "last.pt")
    assert best.epoch == 1
    assert load_checkpoint(tmp_path / "best.pt", sha256=best.sha256)[0].epoch == 1


def test_going_on_in_another_folder_takes_history_and_best_along(store, tiny, recorder, tmp_path):
    config = tiny(optimizer={"lr": 1e-30}, train={"epochs": 3})  # the first epoch is the best
    old, new = tmp_path / "old", tmp_path / "new"
    start(config, store, old, recorder, num_epochs=2)
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    outcome, _, best = go_on(config, store, new, recorder, resume_from=old / "last.pt")
    assert [line["epoch"] for line in history(new)] == [1, 2, 3]
    assert (outcome.best_epoch, best.epoch, best.path) == (1, 1, new / "best.pt")
    assert load_checkpoint(new / "best.pt", sha256=best.sha256)[0].epoch == 1
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before


def test_a_best_checkpoint_that_is_gone_is_said(store, tiny, recorder, tmp_path, caplog):
    config = tiny(optimizer={"lr": 1e-30}, train={"epochs": 4})
    start(config, store, tmp_path / "old", recorder, num_epochs=3)
    (tmp_path / "old" / "best.pt").unlink()
    outcome, _, best = go_on(
        config, store, tmp_path / "new", recorder, resume_from=tmp_path / "old" / "last.pt"
    )
    assert outcome.best_epoch == 1
    assert best is None
    assert "the best checkpoint so far, of epoch 1, is not beside it" in caplog.text


def test_going_back_to_an_earlier_checkpoint_drops_what_came_later(store, config, recorder, tmp_path):
    start(config, store, tmp_path, recorder, num_epochs=2)
    shutil.copy(tmp_path / "last.pt", tmp_path / "second.pt")
    go_on(config, store, tmp_path, recorder, resume_from=tmp_path / "last.pt")
    first_time = history(tmp_path)
    go_on(config, store, tmp_path, recorder, resume_from=tmp_path / "second.pt")
    assert history(tmp_path) == first_time
    assert [line["epoch"] for line in first_time] == [1, 2, 3, 4]


def test_a_trial_that_is_over_is_over_at_once(store, tiny, recorder, tmp_path):
    config = tiny(optimizer={"lr": 1e-30}, train={"epochs": 9, "early_stop_patience": 2})
    reporter = recorder()
    with Trainer(config, DICE, store=store, run_dir=tmp_path) as trainer:
        ended = trainer.fit(reporter)
    again, reports, _ = go_on(config, store, tmp_path, recorder, resume_from=tmp_path / "last.pt")
    assert again == ended
    assert again.stop_reason == "plateau"
    assert reports == []


def test_the_early_stop_counts_on(store, tiny, recorder, tmp_path):
    config = tiny(optimizer={"lr": 1e-30}, train={"epochs": 9, "early_stop_patience": 3})
    start(config, store, tmp_path, recorder, num_epochs=3)  # two bad epochs
    outcome, reports, _ = go_on(config, store, tmp_path, recorder, resume_from=tmp_path / "last.pt")
    assert (outcome.stop_reason, outcome.epoch, len(reports)) == ("plateau", 4, 1)


@pytest.fixture
def stopped(store, config, recorder, tmp_path):
    start(config, store, tmp_path / "run", recorder, num_epochs=1)
    return tmp_path / "run" / "last.pt"


def test_another_configuration_is_refused(stopped, store, tiny, tmp_path):
    with pytest.raises(CheckpointError, match="continues only its own configuration"):
        Trainer(tiny(train={"epochs": 7}), DICE, store=store, run_dir=tmp_path / "new", resume_from=stopped)


def test_another_objective_is_refused(stopped, store, config, tmp_path):
    with pytest.raises(CheckpointError, match="objective must be the trial's loss, got object_dice"):
        Trainer(config, LOSS, store=store, run_dir=tmp_path / "new", resume_from=stopped)


def test_other_data_are_refused(stopped, config, tmp_path):
    other = prepare_store(SyntheticGlands(num_images=10, size_px=64, seed=1), tmp_path)
    with pytest.raises(CheckpointError, match="data fingerprint"):
        Trainer(config, DICE, store=other, run_dir=tmp_path / "new", resume_from=stopped)


def test_weights_that_do_not_fit_are_refused_in_one_line(stopped, store, config, tmp_path):
    content = torch.load(stopped, weights_only=True)
    content["model"]["classifier.weight"] = torch.zeros(2, 2)
    torch.save(content, stopped)
    with pytest.raises(CheckpointError, match="does not fit this version's network") as caught:
        Trainer(config, DICE, store=store, run_dir=tmp_path / "new", resume_from=stopped)
    assert "\n" not in str(caught.value)


def test_killed_for_real_it_goes_on_bit_by_bit(store, tiny, recorder, tmp_path):
    config = tiny(model={"dropout": 0.3})
    script = f"""
        import os, signal
        from pathlib import Path
        from searcher.data_pipeline.store import Store
        from searcher.study.config import TrialConfig
        from searcher.study.objectives import Objective
        from searcher.training.learner import Learner
        from searcher.training.reporter import NullReporter
        from searcher.training.trainer import Trainer

        learn, steps = Learner.learn, []
        def die_in_the_third_epoch(self, batch):
            steps.append(1)
            if len(steps) == 8:
                os.kill(os.getpid(), signal.SIGKILL)
            return learn(self, batch)
        Learner.learn = die_in_the_third_epoch
        config = TrialConfig.model_validate_json({config.model_dump_json()!r})
        store = Store.open(Path({str(store.path)!r}))
        Trainer(config, Objective("object_dice"), store=store, run_dir=Path({str(tmp_path / "run")!r})).fit(
            NullReporter()
        )
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=environment, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    _, reports, _ = go_on(config, store, tmp_path / "run", recorder, resume_from=tmp_path / "run" / "last.pt")
    with Trainer(config, DICE, store=store, run_dir=tmp_path / "whole") as trainer:
        trainer.fit(NullReporter())
    assert [report["epoch"] for report in history(tmp_path / "run")] == [1, 2, 3, 4]
    assert len(reports) == 2
    assert history(tmp_path / "run") == history(tmp_path / "whole")


def test_the_checkpoint_before_the_last_stays_and_is_as_good_to_go_on_from(store, tiny, recorder, tmp_path):
    """A driver that heard of epoch 2 only goes on after epoch 2, though the worker had written epoch 3."""
    first, again = recorder(), recorder()
    with Trainer(tiny(), DICE, store=store, run_dir=tmp_path / "first") as trainer:
        for _ in range(3):
            trainer.step(first)
    previous = tmp_path / "first" / "previous.pt"
    assert load_checkpoint(previous)[0].epoch == 2
    with Trainer(tiny(), DICE, store=store, run_dir=tmp_path / "again", resume_from=previous) as trainer:
        trainer.step(again)
    assert again.epochs == [3]
    assert without_timings(again.reports) == without_timings(first.reports[2:])
    assert history(tmp_path / "again") == history(tmp_path / "first")


@pytest.mark.parametrize("leave_bytes", [0, 65536], ids=["full", "half a checkpoint left"])
def test_a_disk_that_fills_costs_nothing_but_the_epoch(whole, store, recorder, small_disk, leave_bytes):
    config, whole_dir, expected = whole
    run_dir = small_disk.path / "run"
    heard = recorder()
    with Trainer(config, DICE, store=store, run_dir=run_dir) as trainer:
        trainer.step(heard)
        trainer.step(heard)
        checkpoints = {path.name: path.read_bytes() for path in run_dir.glob("*.pt")}
        # Giving up the checkpoint before the last makes room for another, unless somebody else keeps it.
        os.link(run_dir / "previous.pt", small_disk.path / "kept.pt")
        small_disk.fill(leave_bytes=leave_bytes)
        with pytest.raises(CheckpointError, match="No space left on device") as caught:
            trainer.step(heard)
    assert diagnose(caught.value).cause == "disk"
    assert heard.epochs == [1, 2]
    assert not list(run_dir.glob("*.tmp"))
    kept = {path.name: path.read_bytes() for path in run_dir.glob("*.pt")}
    for name in ("last.pt", "best.pt"):
        assert kept[name] == checkpoints[name]
    with pytest.raises(CheckpointError, match="No space left on device"):  # nor can it go on yet
        go_on(config, store, run_dir, recorder, resume_from=run_dir / "last.pt")
    assert {path.name: path.read_bytes() for path in run_dir.glob("*.pt")}["last.pt"] == checkpoints[
        "last.pt"
    ]
    small_disk.make_room()
    _, reports, _ = go_on(config, store, run_dir, recorder, resume_from=run_dir / "last.pt")
    assert reports == expected[2:]
    assert history(run_dir) == history(whole_dir)
    assert_same_checkpoint(run_dir / "last.pt", whole_dir / "last.pt")
    assert_same_checkpoint(run_dir / "best.pt", whole_dir / "best.pt")


def test_a_disk_that_is_full_at_the_beginning_is_said_in_one_line(store, tiny, recorder, small_disk):
    small_disk.fill()
    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        start(tiny(), store, small_disk.path / "run", recorder, num_epochs=1)
    assert diagnose(caught.value).cause == "disk"
    assert "\n" not in str(caught.value)
    small_disk.make_room()
    start(tiny(), store, small_disk.path / "run", recorder, num_epochs=1)
    assert json.loads((small_disk.path / "run" / "config.json").read_text()) == tiny().to_dict()


def test_more_epochs_go_on_as_if_there_had_been_as_many_from_the_start(store, tiny, recorder, tmp_path):
    """A constant rate does not depend on the number of epochs; so 2 epochs and 2 more are 4."""
    sections = {"optimizer": {"name": "adam"}, "schedule": {"name": "constant"}}
    short, long = (tiny(**sections, train={"epochs": num}) for num in (2, 4))
    reporter = recorder()
    with Trainer(long, LOSS, store=store, run_dir=tmp_path / "whole") as trainer:
        trainer.fit(reporter)
    with Trainer(short, LOSS, store=store, run_dir=tmp_path / "short") as trainer:
        trainer.fit(NullReporter())
    reports = recorder()
    with Trainer(
        long, LOSS, store=store, run_dir=tmp_path / "long", resume_from=tmp_path / "short" / "last.pt"
    ) as trainer:
        trainer.fit(reports)
    assert without_timings(reports.reports) == without_timings(reporter.reports)[2:]
    with pytest.raises(CheckpointError, match="continues only its own configuration"):
        Trainer(
            short, LOSS, store=store, run_dir=tmp_path / "less", resume_from=tmp_path / "long" / "last.pt"
        )


def test_a_trial_that_went_on_to_more_epochs_keeps_the_best_of_those_before(store, tiny, recorder, tmp_path):
    """The first epoch is best, since the rate is then far too high; it is interrupted once more on its way."""
    sections = {"optimizer": {"name": "sgd", "lr": 1e-30}, "schedule": {"name": "constant"}}
    short, long = (tiny(**sections, train={"epochs": num}) for num in (1, 4))
    with Trainer(short, DICE, store=store, run_dir=tmp_path / "one") as trainer:
        trainer.fit(NullReporter())
    with Trainer(
        long, DICE, store=store, run_dir=tmp_path / "two", resume_from=tmp_path / "one" / "best.pt"
    ) as trainer:
        trainer.step(NullReporter())
    with Trainer(
        long, DICE, store=store, run_dir=tmp_path / "three", resume_from=tmp_path / "two" / "last.pt"
    ) as trainer:
        assert trainer.best_checkpoint is not None
        best, _ = load_checkpoint(trainer.best_checkpoint.path)
    assert best.epoch == 1
    assert best.config["train"]["epochs"] == 1
