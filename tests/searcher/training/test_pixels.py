"""What is left to the images' depth and channels, from the configuration to a checkpoint."""

import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from searcher.data_pipeline.datasets.samples import Sample
from searcher.data_pipeline.datasets.view import DataView
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.normalisation import Normalisation, levels_of
from searcher.data_pipeline.store import Store, normalised, prepare_store
from searcher.study.config import DataConfig, TrialConfig
from searcher.study.objectives import Objective
from searcher.training.checkpoints import load_checkpoint
from searcher.training.data_check import check_data
from searcher.training.dataset import DataRequest
from searcher.training.pixels import pixels_of
from searcher.training.trainer import Trainer

OLD = {
    "4219f4f03941481b8d36b134045e9a64dd4c680548f55b1e70d3181533c6a34c": {},
    "726458143f750b66b924933b036d0f7aab560d3b9104bec4df354580b8321c36": {"model": {"name": "mask_rcnn"}},
}
"""Digests that the release before normalisation gave, and what of."""


@pytest.mark.parametrize(("digest", "values"), OLD.items())
def test_configurations_of_before_keep_their_digests(digest: str, values: dict) -> None:
    assert TrialConfig.model_validate(values).digest() == digest


@pytest.mark.parametrize(
    "values",
    [
        {"normalisation": "fixed"},
        {"normalisation": "percentile", "low_percentile": 2.0},
        {"high_percentile": 99.0},
    ],
)
def test_what_is_said_is_written_down_and_read_again(values: dict) -> None:
    config = TrialConfig.model_validate({"data": values})
    assert TrialConfig.model_validate(config.to_dict()) == config
    assert (config.digest() == TrialConfig().digest()) == (values == {"normalisation": "fixed"})


@pytest.mark.parametrize(("low", "high"), [(50.0, 50.0), (60.0, 50.0)])
def test_percentiles_must_be_in_order(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="low_percentile must be below high_percentile, got low_percentile="):
        TrialConfig.model_validate({"data": {"low_percentile": low, "high_percentile": high}})


@pytest.fixture(scope="module")
def dark(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Six dark grey images of 64 px in 8 bit, each at an exposure of its own, of six patients."""
    return prepare_store(_Dark(), tmp_path_factory.mktemp("stores"))


class _Dark:
    name, kind, licence, pixel_size_um = "dark", "arrays", "", None
    channels, dtype = ("red", "green", "blue"), "uint8"
    samples = tuple(Sample(f"i{n}", "train", f"p{n}", "") for n in range(6))

    def fingerprint(self) -> str:
        return "d" * 64

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.zeros((64, 64), np.int32)
        labels[8:24, 8:24], labels[36:56, 30:54] = 1, 2
        noise = np.random.default_rng(index).normal(20, 4, (64, 64))
        grey = (noise + 180 * (labels > 0)).clip(0, 255) / (index + 1)
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2), labels


def test_a_normalised_store_has_each_image_as_its_own_levels_make_it(dark: Store) -> None:
    wanted = Normalisation("percentile", 5, 95)
    seen = normalised(dark, wanted)
    for index in (3, 0, 3):
        image = dark.image(index)
        assert np.array_equal(seen.image(index), levels_of(image, wanted).apply(image))
        assert not seen.image(index).flags.writeable
    assert (seen.fingerprint, seen.samples, seen.dtype) == (dark.fingerprint, dark.samples, "uint8")
    seen.compare()  # what is stored is as it was written
    again = pickle.loads(pickle.dumps(seen))
    assert np.array_equal(again.image(1), seen.image(1))
    other = normalised(seen, Normalisation("percentile", 0, 100))
    image = dark.image(2)
    assert np.array_equal(other.image(2), levels_of(image, Normalisation("percentile", 0, 100)).apply(image))
    assert normalised(seen, Normalisation()) is dark


def test_photographs_are_the_store_itself(store: Store) -> None:
    facts = pixels_of(TrialConfig(), store)
    assert facts.normalisation == Normalisation()
    assert facts.are_photographs
    assert facts.remarks(TrialConfig()) == []
    assert normalised(store, facts.normalisation) is store


def test_what_was_taken_and_what_augmentation_leaves_out_is_said(dark: Store) -> None:
    request = DataRequest("DATA", "unused", DataConfig(), DataView(patient_from="unused"))
    lines = check_data(dark, request, TrialConfig())
    assert any(
        "normalisation is percentile 1 to 99.8, since images are 8 bit fluorescence" in line for line in lines
    )
    assert any("augment.preset=standard: hue and staining mean nothing" in line for line in lines)


def test_a_full_disk_is_one_line(dark: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = normalised(dark, Normalisation("percentile"))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(
        DataError, match=r"must have room for normalised images, .* No space left on device; make room"
    ):
        seen.image(0)


def test_a_checkpoint_says_how_its_images_were_normalised_and_a_resumed_trial_keeps_it(
    dark: Store, tiny, recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(train={"epochs": 2})
    with Trainer(config, Objective("loss"), store=dark, run_dir=tmp_path, device="cpu") as trainer:
        trainer.step(recorder())
    checkpoint, file = load_checkpoint(tmp_path / "last.pt")
    assert checkpoint.config["data"]["normalisation"] == "percentile"
    assert checkpoint.config_digest == checkpoint.meaning == config.digest()
    with Trainer(
        config, Objective("loss"), store=dark, run_dir=tmp_path, device="cpu", resume_from=file.path
    ) as trainer:
        trainer.step(recorder())
    assert load_checkpoint(tmp_path / "last.pt")[0].epoch == 2

    # A trial that was begun before there was normalisation goes on with images as they are.
    older = {**checkpoint.config, "data": {"num_threads": 1}}
    assert pixels_of(config, dark, older).normalisation == Normalisation()
    assert pixels_of(config, dark, checkpoint.config).normalisation == Normalisation("percentile")
