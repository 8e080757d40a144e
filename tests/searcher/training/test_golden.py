"""A refactoring gives the same losses.

`golden/unet.txt` holds the losses of a tiny U-Net on synthetic glands. To write it anew after a change that is
meant to change them:

    GOLDEN=write python -m pytest tests/searcher/training/test_golden.py

and say in the commit why they changed.

The tolerance of 0.5%: other CPUs, numbers of threads and releases of torch add float32 numbers in another order
(with two threads instead of one, or without AVX, the 12 steps end 0.06% apart), and another release of OpenCV may
draw or resample a pixel differently. What a refactoring breaks moves them by more: see the last test.
"""

import os
from pathlib import Path

import pytest

from searcher.study.objectives import Objective
from searcher.training.trainer import Trainer

GOLDEN = Path(__file__).parent / "golden" / "unet.txt"
TOLERANCE = 0.005


def losses(config, store, run_dir, recorder):
    reporter = recorder()
    with Trainer(config, Objective("loss"), store=store, run_dir=run_dir, device="cpu") as trainer:
        trainer.fit(reporter)
    return [(report["train_loss"], report["loss"]) for report in reporter.reports]


def golden():
    rows = [line.split() for line in GOLDEN.read_text().splitlines() if not line.startswith("#")]
    return [(float(train_loss), float(loss)) for _, train_loss, loss in rows]


def golden_config(tiny, **changes):
    sections = {
        "model": {"norm": "batch", "loss": "bce+dice"},
        "optimizer": {"name": "adamw", "lr": 3e-3, "weight_decay": 0.1},
        "schedule": {"name": "cosine", "warmup_epochs": 1.0},
    }
    return tiny(**{name: {**sections.get(name, {}), **changes.get(name, {})} for name in sections | changes})


def test_the_losses_are_the_golden_ones(store, tiny, recorder, tmp_path):
    measured = losses(golden_config(tiny), store, tmp_path, recorder)
    if os.environ.get("GOLDEN") == "write":
        rows = [f"{epoch} {a:.6f} {b:.6f}\n" for epoch, (a, b) in enumerate(measured, start=1)]
        GOLDEN.write_text("# epoch, train_loss, validation loss; written by test_golden.py\n" + "".join(rows))
    for epoch, (ours, expected) in enumerate(zip(measured, golden(), strict=True), start=1):
        assert ours == pytest.approx(expected, rel=TOLERANCE), f"epoch {epoch}"


@pytest.mark.parametrize(
    "change",
    [
        {"schedule": {"warmup_epochs": 0.0}},
        {"augment": {"preset": "none"}},
        {"train": {"seed": 1}},
        {"train": {"ema_decay": 0.5}},
        {"optimizer": {"lr": 2e-3}},
    ],
    ids=str,
)
def test_the_tolerance_tells_small_changes_apart(store, tiny, recorder, tmp_path, change):
    measured = losses(golden_config(tiny, **change), store, tmp_path, recorder)
    assert any(
        ours != pytest.approx(expected, rel=TOLERANCE)
        for ours, expected in zip(measured, golden(), strict=True)
    )
