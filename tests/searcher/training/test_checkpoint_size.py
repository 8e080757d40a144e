"""The size of a checkpoint is known before anything is trained."""

import subprocess
import sys
import textwrap

import pytest
import torch

from searcher.study.config import TrialConfig
from searcher.study.objectives import Objective
from searcher.training.checkpoint_size import checkpoint_bytes
from searcher.training.reporter import NullReporter
from searcher.training.trainer import Trainer

SETTINGS = {
    "sgd without momentum": ({}, {"name": "sgd", "momentum": 0.0}, 0.0),
    "sgd": ({"base_channels": 8}, {"name": "sgd", "momentum": 0.9}, 0.0),
    "adam": ({"base_channels": 8, "depth": 3}, {"name": "adam"}, 0.0),
    "adamw, average": ({"base_channels": 8, "depth": 3}, {"name": "adamw"}, 0.9),
    "adamw, average, batch norm": ({"norm": "batch", "depth": 4}, {"name": "adamw"}, 0.9),
    "group norm, bilinear": ({"norm": "group", "upsampling": "bilinear"}, {"name": "adamw"}, 0.0),
    "large": ({"base_channels": 32, "depth": 4}, {"name": "adamw"}, 0.0),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_it_is_the_size_of_the_file(store, tiny, tmp_path, name):
    model, optimizer, ema_decay = SETTINGS[name]
    config = tiny(
        data={"samples_per_epoch": 1},
        augment={"crop_px": 16},
        model=model,
        optimizer=optimizer,
        train={"epochs": 2, "batch_size": 1, "ema_decay": ema_decay},
    )
    with Trainer(config, Objective("loss"), store=store, run_dir=tmp_path) as trainer:
        trainer.step(NullReporter())
    actual = (tmp_path / "last.pt").stat().st_size
    assert checkpoint_bytes(config) == pytest.approx(actual, rel=0.05, abs=2048)


def test_what_is_frozen_has_no_moments():
    # Of 31 million weights AdamW keeps two moments only for the classifier's 65.
    model = {"model": {"depth": 4}}
    whole = checkpoint_bytes(TrialConfig.model_validate(model))
    frozen = checkpoint_bytes(TrialConfig.model_validate({**model, "warm_start": {"freeze": "all_but_head"}}))
    assert frozen == pytest.approx(whole / 3, rel=0.01)


def test_the_posters_network_by_hand():
    # Ronneberger et al.: 31.03 million weights with 64 channels and depth 4; weights and AdamW's two moments.
    assert checkpoint_bytes(TrialConfig()) == pytest.approx(3 * 4 * 31.03e6, rel=0.01)


def test_no_random_number_is_drawn():
    before = torch.get_rng_state()
    checkpoint_bytes(TrialConfig.model_validate({"model": {"base_channels": 3, "depth": 1}}))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_larger_than_any_memory_is_measured_without_it():
    # In a process of its own that may not have more than 2 GiB beyond what torch itself maps.
    script = """
        import resource
        from pathlib import Path
        from searcher.study.config import TrialConfig
        from searcher.training.checkpoint_size import checkpoint_bytes

        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = mapped + 2 * 2**30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        config = TrialConfig.model_validate({"model": {"base_channels": 1024, "depth": 5}})
        print(checkpoint_bytes(config))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 3 * 4 * 10e9  # more than ten billion weights
