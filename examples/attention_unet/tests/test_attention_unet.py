"""The network and the loss do what training relies on."""

import numpy as np
import optuna
import pytest
import torch
from attention_unet import AttentionUNet, LatinHypercube, Tversky, open_archives

from searcher.data_pipeline import DataError, open_dataset
from searcher.testing import check_dataset, check_loss, check_model


@pytest.mark.parametrize("settings", [{}, {"head": "contour", "loss": "ce+tversky", "channels": 1}], ids=str)
def test_the_network_does_what_training_relies_on(settings):
    check_model(AttentionUNet, **settings)


def test_the_loss_does_what_training_relies_on():
    check_loss(Tversky)
    check_loss("tversky", alpha=0.9, beta=0.1)


def test_a_missed_pixel_costs_more_than_one_too_many():
    """Of 4 pixels 2 are there. By hand: 1 - (1 + 1) / (1 + 0.7 + 1) and 1 - (2 + 1) / (2 + 0.3 + 1)."""
    target = torch.tensor([1.0, 1.0, 0.0, 0.0])
    missed, too_many = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert Tversky().of_region(missed, target).item() == pytest.approx(1 - 2 / 2.7)
    assert Tversky().of_region(too_many, target).item() == pytest.approx(1 - 3 / 3.3)
    assert Tversky(alpha=1.0).of_region(too_many, target).item() == pytest.approx(1 - 3 / 4)


def archive(path, *, num=3, **changed):
    rng = np.random.default_rng(0)
    arrays = {
        "images": rng.integers(0, 256, (num, 16, 24, 3), dtype=np.uint8),
        "masks": rng.integers(0, 3, (num, 16, 24), dtype=np.uint16),
        "patients": np.array([f"p{n % 2}" for n in range(num)]),
    } | changed
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return arrays


def test_the_layout_is_a_data_set(tmp_path):
    arrays = archive(tmp_path / "train.npz")
    archive(tmp_path / "test.npz", num=1)
    source = open_dataset(tmp_path)
    check_dataset(source)
    assert [(each.id, each.split, each.group) for each in source.samples][2:] == [
        ("train_2", "train", "p0"),
        ("test_0", "test", "p0"),
    ]
    image, labels = source.read(1)
    assert np.array_equal(image, arrays["images"][1])
    assert np.array_equal(labels, arrays["masks"][1])


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"patients": None}, "must hold images, masks, patients, lacks patients"),
        (
            {"masks": np.zeros((3, 16, 23), np.int32)},
            r"masks must be integers \[3, 16, 24\] and patients \[3\], got",
        ),
        ({"images": np.zeros((3, 16, 24, 3))}, "images must be uint8"),
    ],
)
def test_an_archive_that_does_not_fit_is_one_line(tmp_path, changed, rule):
    archive(tmp_path / "train.npz", **changed)
    with pytest.raises(DataError, match=rule):
        open_archives(tmp_path, strict=True)


def test_another_folder_is_of_another_layout(tmp_path):
    assert open_archives(tmp_path, strict=True) is None


def test_each_interval_is_visited_once_and_a_second_launch_goes_on():
    def launched(num):
        sampler = LatinHypercube(study_seed=3, num_intervals=5)
        known = optuna.create_study(sampler=sampler, storage=storage, study_name="s", load_if_exists=True)
        return [
            (
                t.suggest_float("x", 1.0, 32.0, log=True),
                t.suggest_int("n", 1, 10),
                t.suggest_categorical("c", "ab"),
            )
            for t in (known.ask() for _ in range(num))
        ]

    storage = optuna.storages.InMemoryStorage()
    drawn = launched(2) + launched(3)
    # A fifth of 1 to 32 on a logarithmic scale is a doubling; two of ten integers are one of five intervals.
    assert sorted(int(np.log2(x)) for x, _, _ in drawn) == [0, 1, 2, 3, 4]
    assert sorted((n - 1) // 2 for _, n, _ in drawn) == [0, 1, 2, 3, 4]
    assert {c for _, _, c in drawn} == {"a", "b"}
    storage = optuna.storages.InMemoryStorage()
    assert launched(5) == drawn
