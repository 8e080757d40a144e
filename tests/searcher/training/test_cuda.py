"""Training on a real GPU, skipped where there is none. Needs neither a cluster nor a database:

python -m pytest tests/searcher/training/test_cuda.py
"""

import numpy as np
import pytest
import torch

from searcher.data_pipeline.datasets import SyntheticGlands
from searcher.data_pipeline.store import prepare_store
from searcher.inference.predictor import Predictor
from searcher.study.config import OptimizerConfig, TrialConfig
from searcher.study.objectives import Objective
from searcher.training.checkpoints import load_checkpoint
from searcher.training.failures import diagnose
from searcher.training.reporter import NullReporter
from searcher.training.trained import trained_model
from searcher.training.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CUDA, CPU, LOSS = torch.device("cuda"), torch.device("cpu"), Objective("loss")
MODELS = {
    "plain": {"name": "unet", "base_channels": 4, "depth": 2},
    "pretrained": {"name": "unet", "encoder": "efficientnet_lite0", "base_channels": 4, "depth": 5, "head": "contour"},
    "mask_rcnn": {
        "name": "mask_rcnn", "backbone": "resnet18", "fpn_channels": 32, "box_layer": 64, "mask_layer": 32,
        "rpn_proposals": 100, "rpn_samples": 10_000, "box_samples": 10_000,
    },
}  # fmt: skip


def configuration(model, **train):
    """One whole image a crop; all that a detector could draw is drawn."""
    return TrialConfig.model_validate(
        {
            "data": {"num_threads": 1},
            "augment": {"preset": "none", "crop_px": 64},
            "model": model,
            "train": {"batch_size": 3, **train},
        }
    )


def losses(config, store, run_dir, device, **options):
    """Return the training loss of each epoch, and the trainer's files."""
    reports = []

    class Keeps(NullReporter):
        def report(self, epoch, metrics):
            reports.append(metrics["train_loss"])
            return super().report(epoch, metrics)

    with Trainer(config, LOSS, store=store, run_dir=run_dir, device=device, **options) as trainer:
        trainer.fit(Keeps())
        return reports, trainer.last_checkpoint, trainer.best_checkpoint


@pytest.mark.parametrize(
    ("name", "precision", "rtol"),
    [
        ("plain", "float32", 2e-3),  # convolutions are TF32's there
        ("plain", "auto", 2e-2),  # bfloat16
        ("pretrained", "float32", 5e-3),
        ("pretrained", "auto", 5e-2),
        ("mask_rcnn", "float32", 2e-2),  # of proposals that score alike, others may be kept
    ],
)
def test_a_gpu_begins_as_the_cpu_does(name, precision, rtol, store, tmp_path):
    config = configuration(MODELS[name], epochs=1, precision=precision)
    config = config.model_copy(update={"optimizer": OptimizerConfig(name="sgd", lr=1e-9)})
    [here], *_ = losses(config, store, tmp_path / "cpu", CPU)
    [there], *_ = losses(config, store, tmp_path / "cuda", CUDA)
    assert there == pytest.approx(here, rel=rtol)


@pytest.mark.parametrize("name", MODELS)
def test_a_network_of_the_gpu_predicts_on_the_cpu(name, store, tmp_path):
    _, _, best = losses(configuration(MODELS[name], epochs=2), store, tmp_path, CUDA)
    checkpoint, _ = load_checkpoint(best.path, sha256=best.sha256)
    image = np.array(store.image(0))
    labels = []
    for device in (CPU, CUDA):
        predictor = Predictor([trained_model(checkpoint, device=device)], device=device)
        labels.append(predictor.cut(predictor.see(image)).labels > 0)
    assert (labels[0] != labels[1]).mean() < 0.01


def test_a_stopped_run_goes_on(store, tiny, tmp_path):
    config = tiny()
    whole, *_ = losses(config, store, tmp_path / "whole", CUDA)

    class Stops(NullReporter):
        def report(self, epoch, metrics):
            decision = super().report(epoch, metrics)
            if epoch == 2:
                raise KeyboardInterrupt
            return decision

    folder = tmp_path / "stopped"
    with Trainer(config, LOSS, store=store, run_dir=folder, device=CUDA) as trainer:
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(Stops())
        last = trainer.last_checkpoint
    rest, *_ = losses(config, store, folder, CUDA, resume_from=last.path, resume_sha256=last.sha256)
    assert len(rest) == 2
    # A GPU adds in no fixed order, so that the last digits differ.
    assert rest == pytest.approx(whole[2:], rel=1e-2)


def test_a_batch_that_does_not_fit_fits_in_parts(tiny, tmp_path):
    glands = prepare_store(SyntheticGlands(num_images=10, size_px=256, seed=0), tmp_path / "stores")
    config = tiny(
        model={"base_channels": 16, "depth": 3, "norm": "group"}, augment={"crop_px": 256},
        train={"epochs": 1, "batch_size": 8, "precision": "float32"},
    )  # fmt: skip

    def peak_bytes(name, **options):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        losses(config, glands, tmp_path / name, CUDA, **options)
        return torch.cuda.max_memory_reserved()

    whole, parts = peak_bytes("whole"), peak_bytes("parts", micro_batches=8)
    assert parts < 0.7 * whole
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((parts + whole) / 2 / total)
    try:
        with pytest.raises(torch.OutOfMemoryError) as caught:
            losses(config, glands, tmp_path / "too-much", CUDA)
        assert diagnose(caught.value).cause == "memory"
        del caught
        losses(config, glands, tmp_path / "again", CUDA, micro_batches=8)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
