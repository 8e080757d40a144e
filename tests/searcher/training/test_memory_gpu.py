"""Memory on a real GPU: what is measured, what is refused, and that a trial keeps to its part.

Needs no Ray and no Optuna, so that it runs on a bare machine with a GPU. With `-s` it prints what it measured.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from searcher.data_pipeline.store import Store
from searcher.study.catalog import load_study
from searcher.training.dataset import DataRequest
from searcher.training.device import keep_to_share
from searcher.training.failures import diagnose
from searcher.training.memory_probe import MemoryMeter, largest_trial, params_and_use

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

GIB = 2**30


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Store:
    """Twelve images about as large as GlaS's largest, 522 x 775 px."""
    settings = load_study("unet-demo", {"data.synthetic_images": 12, "data.synthetic_size_px": 640})
    return DataRequest(None, str(tmp_path_factory.mktemp("stores")), settings.trial_config({}).data).prepare()


def unet(**settings):
    overrides = {
        "train.batch_size": 4,
        "model.base_channels": 32,
        "model.norm": "batch",
        "model.upsampling": "bilinear",
    }
    return load_study("unet-broad", {**overrides, **settings}).trial_config({})


def test_more_channels_and_larger_batches_take_more(images):
    with MemoryMeter(images.path) as meter:
        use, wider, larger, again = (
            meter.measure(unet(**changes))
            for changes in ({}, {"model.base_channels": 64}, {"train.batch_size": 8}, {})
        )
    print(use, wider, larger, sep="\n")
    assert use.is_gpu
    assert use.device_name == torch.cuda.get_device_name()
    assert use.total_bytes == torch.cuda.mem_get_info()[1]
    assert use.fits
    assert wider.peak_bytes > 1.3 * use.peak_bytes
    assert larger.peak_bytes > 1.3 * use.peak_bytes
    # The second time, the context has the kernels of everything that ran meanwhile.
    assert abs(again.peak_bytes - use.peak_bytes) < 0.5 * GIB, "nothing is left of the ones before"
    assert use.peak_bytes < 0.5 * use.total_bytes, "less than half of the device, or the test says nothing"


def test_more_than_the_device_has_is_an_answer(images):
    with MemoryMeter(images.path) as meter:
        # By its batch: a network that is too large takes minutes to draw its weights.
        use = meter.measure(unet(**{"model.base_channels": 64, "train.batch_size": 512}))
        assert not use.fits
        assert use.num_trials == 0
        assert meter.measure(unet()).fits, "and the next one is measured as if nothing had been"


@pytest.mark.parametrize(
    ("study", "settings"), [("unet-broad", {}), ("maskrcnn-broad", {"model.weights": "coco"})]
)
def test_the_largest_trial_of_a_broad_study_is_found(images, study, settings):
    spec = load_study(study, settings)
    measured = []
    largest = largest_trial(spec, images.path, heard=measured.append)
    for each in measured:
        print(f"{each.use.peak_bytes / GIB:7.2f} GiB  {each.deciding}")
    print(
        params_and_use(largest),
        largest.use,
        f"{largest.use.num_trials} trials, resources.gpus={largest.use.gpus:g}",
    )
    assert all(each.use.is_gpu for each in measured)
    assert largest.use.peak_bytes == max(each.use.peak_bytes for each in measured)
    assert largest.params["train.batch_size"] == {"unet-broad": 6, "maskrcnn-broad": 4}[study]


def _greedy(share: float) -> str:
    """Take memory until there is none, as a process of its own; return what it got and why it ended."""
    keep_to_share(torch.device("cuda"), share)
    held = []
    try:
        while True:
            held.append(torch.empty(GIB // 4, dtype=torch.uint8, device="cuda"))
    except torch.OutOfMemoryError as error:
        return f"{len(held) * 0.25} {diagnose(error).cause}"


def test_a_trial_does_not_take_more_than_its_part():
    share = 0.05
    code = f"from test_memory_gpu import _greedy; print(_greedy({share}))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); {code}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    took_gib, cause = done.stdout.split()
    limit_gib = share * torch.cuda.mem_get_info()[1] / GIB
    assert limit_gib - 0.25 < float(took_gib) <= limit_gib
    assert cause == "memory", "which is what tries the trial again in smaller parts"
