"""How many trials share a GPU, by hand; which configurations are measured; and real measurements on the CPU."""

import pytest
from tiny_study import TINY, tiny

from searcher.exceptions import SearcherError
from searcher.study.reader import parse_study
from searcher.training import memory_probe
from searcher.training.memory_probe import (
    MeasuredTrial,
    MemoryMeter,
    MemoryUse,
    largest_trial,
    params_and_use,
)

GIB = 2**30


def use(peak_gib: float, *, total_gib: float = 80, host_gib: float = 2, fits: bool = True) -> MemoryUse:
    return MemoryUse(
        device_name="GPU",
        is_gpu=True,
        total_bytes=int(total_gib * GIB),
        peak_bytes=int(peak_gib * GIB),
        host_bytes=int(host_gib * GIB),
        fits=fits,
    )


@pytest.mark.parametrize(
    ("peak_gib", "share", "num_trials", "gpus"),
    [
        (10, 0.1375, 7, 0.1428),  # 11 of 80 GiB; 1 / 7 = 0.142857
        (20, 0.275, 3, 0.3333),
        (24.24, 0.3333, 3, 0.3333),  # exactly the part that three get
        (24.242, 0.333327, 2, 0.5),  # 0.3333 is what Ray would count, which is less than that
        (36, 0.495, 2, 0.5),
        (37, 0.50875, 1, 1),
        (75, 1.03125, 1, 1),  # it ran, if without the margin
    ],
)
def test_as_many_trials_share_a_gpu_as_fit_with_a_margin_of_a_tenth(peak_gib, share, num_trials, gpus):
    measured = use(peak_gib)
    assert measured.share == pytest.approx(share, abs=1e-6)
    assert (measured.num_trials, measured.gpus) == (num_trials, gpus)
    assert measured.num_trials == 1 or measured.share <= measured.gpus


def test_what_does_not_fit_fits_no_times():
    assert use(79, fits=False).num_trials == 0
    assert use(79, fits=False).gpus == 1


@pytest.mark.parametrize(("host_gib", "memory_gib"), [(0.4, 0.5), (0.5, 1.0), (2, 2.5), (3.6, 4.0)])
def test_main_memory_is_rounded_up_to_half_a_gib(host_gib, memory_gib):
    assert use(1, host_gib=host_gib).memory_gib == memory_gib


SPACE = """
[space.train]
batch_size = { choices = [1, 4, 2] }
ema_decay = { low = 0.0, high = 0.9 }
[space.augment]
crop_px = { low = 32, high = 64, step = 32 }
preset = { choices = ["none", "standard"] }
[space.model]
base_channels = { choices = [8, 4] }
norm = { choices = ["none", "batch", "group"] }
dropout = { low = 0.0, high = 0.5, when = { "model.norm" = ["batch"] } }
"""


def space(text: str = SPACE):
    searched = ("base_channels", "norm", "batch_size", "crop_px", "preset")
    fixed = "\n".join(line for line in TINY.splitlines() if not line.startswith(searched))
    return parse_study(fixed + text, source="s.toml")


@pytest.fixture
def metered(monkeypatch):
    """Replaces the GPU: a trial takes what a function of its configuration says. Returns what was measured."""

    def replace(takes):
        configs = []

        class Meter:
            def __init__(self, store, *, device):
                pass

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

            def measure(self, config):
                configs.append(config)
                gib = takes(config)
                return use(min(gib, 80), fits=gib <= 80)

        monkeypatch.setattr(memory_probe, "MemoryMeter", Meter)
        return configs

    return replace


def test_numbers_are_at_their_largest_and_the_rest_is_tried_one_by_one(metered, tmp_path):
    configs = metered(
        lambda config: 10 + 2 * (config.model.norm == "batch") + (config.optimizer.name == "adamw")
    )
    largest = largest_trial(space(), tmp_path)
    assert {
        (c.train.batch_size, c.train.ema_decay, c.augment.crop_px, c.model.base_channels) for c in configs
    } == {(4, 0.9, 64, 8)}
    assert [(c.optimizer.name, c.model.norm) for c in configs] == [
        *(("sgd", "none"), ("adamw", "none"), ("adamw", "batch"), ("adamw", "group"))
    ]
    assert largest.use.peak_bytes == 13 * GIB
    assert (largest.params["optimizer.name"], largest.params["model.norm"]) == ("adamw", "batch")
    assert largest.params["model.dropout"] == 0.5, "searched with that norm alone"


def test_the_first_that_does_not_fit_ends_it(metered, tmp_path):
    configs = metered(lambda config: 90 if config.optimizer.name == "adamw" else 10)
    largest = largest_trial(space(), tmp_path)
    assert len(configs) == 2
    assert not largest.use.fits
    assert "optimizer.name=adamw" in params_and_use(largest)
    assert params_and_use(largest).endswith("takes more than there is of the 80.0 GiB of GPU")


def test_a_number_whose_0_leaves_the_choice_to_the_model_is_tried_with_it_too(metered, tmp_path):
    configs = metered(lambda config: 20 if config.model.input_scale == 0 else 10)
    text = '[study]\nname = "s"\n[model]\nname = "mask_rcnn"\n'
    text += "[space.model]\ninput_scale = { choices = [0.0, 1.5, 1.0] }"
    largest = largest_trial(parse_study(text, source="s.toml"), tmp_path)
    assert [config.model.input_scale for config in configs] == [1.5, 0.0]
    assert largest.params == {"model.input_scale": 0.0}


# ---- on the CPU, for real ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def meter(store):
    with MemoryMeter(store.path, device="cpu") as meter:
        yield meter


def test_a_network_of_four_times_the_channels_takes_more(meter):
    settings = {
        "augment__crop_px": 128,
        "train__batch_size": 4,
        "train__ema_decay": 0.9,
        "optimizer__name": "sgd",
    }
    few, many, again = (
        meter.measure(tiny(**settings, model__base_channels=channels).trial_config({}))
        for channels in (8, 32, 8)
    )
    assert not few.is_gpu
    assert few.device_name == "CPU"
    assert few.fits
    # What the first level's two convolutions give alone, before and after their norm, has 24 channels more in float32,
    # of 4 crops of 128 px: 4 * 128 * 128 * 24 * 4 bytes are 6 MiB.
    assert many.peak_bytes - few.peak_bytes > 4 * 6 * 2**20
    # A process that had measured the larger one would never have less again. A heap's pieces lie otherwise each time:
    # ten measurements of the smaller one were within 11 MiB of each other, the larger one has 150 MiB more.
    assert abs(again.peak_bytes - few.peak_bytes) < (many.peak_bytes - few.peak_bytes) / 4
    assert many.host_bytes == many.peak_bytes < many.total_bytes


def test_what_cannot_be_measured_is_said_in_one_line(meter):
    with pytest.raises(SearcherError) as error:
        meter.measure(tiny(data__folds=50).trial_config({}))  # of ten images
    assert str(error.value).startswith("the memory of a trial could not be measured: ")
    assert "\n" not in str(error.value)


def test_a_measurement_that_hangs_is_ended(store):
    """Within no time at all, no process has come to its answer."""
    with MemoryMeter(store.path, device="cpu", within_s=0.0) as hasty:
        with pytest.raises(
            SearcherError, match=r"could not be measured: no answer within 0 s; look whether the GPU"
        ):
            hasty.measure(tiny().trial_config({}))
        assert hasty._process is None


def test_only_what_matters_for_memory_is_named():
    measured = MeasuredTrial({"optimizer.lr": 0.1, "train.batch_size": 4, "model.dropout": 0.25}, use(2))
    assert (
        params_and_use(measured)
        == "train.batch_size=4 model.dropout=0.25 takes 2.00 GiB of the 80.0 GiB of GPU"
    )
