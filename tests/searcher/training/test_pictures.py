"""What a trained trial shows of itself: its worst validation images, and how it learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from searcher.data_pipeline.datasets import SyntheticGlands
from searcher.data_pipeline.store import prepare_store
from searcher.evaluation.official_metrics import compare, pooled
from searcher.study.objectives import Objective
from searcher.training import pictures
from searcher.training.checkpoints import load_checkpoint
from searcher.training.trained import trained_model
from searcher.training.trainer import Trainer


def train(config, store, folder, recorder, **more):
    """Train to the end and return the outcome."""
    with Trainer(config, Objective("object_dice"), store=store, run_dir=folder, **more) as trainer:
        outcome = trainer.fit(recorder())
        return outcome, trainer._val_indices


@torch.no_grad()
def dice_by_image(path, store, indices) -> dict[str, float]:
    """Return the object Dice of each image by a plain prediction, without the code under test."""
    model = trained_model(load_checkpoint(path)[0], device=torch.device("cpu"))
    scores = {}
    for index in indices:
        [prediction] = model.predict(torch.from_numpy(np.array(store.image(index)))[None])
        truth = np.array(store.labels(index), dtype=np.int32)
        scores[store.samples[index].id] = pooled([compare(truth, prediction.labels)])["object_dice"]
    return scores


def test_the_worst_validation_images_and_the_learning_curve_are_drawn(tmp_path, store, tiny, recorder):
    config = tiny(data={"val_fraction": 0.5}, train={"epochs": 2})
    outcome, indices = train(config, store, tmp_path, recorder, num_pictures=2)
    assert len(indices) > 2
    scores = dice_by_image(tmp_path / "best.pt", store, indices)
    worst = sorted(scores.items(), key=lambda item: item[1])[:2]
    assert list(outcome.pictures) == [
        *(f"worst-{rank}-dice-{dice:.3f}-{name}.jpg" for rank, (name, dice) in enumerate(worst, start=1)),
        "learning-curve.png",
    ]
    assert outcome.pictures_problem is None
    for name in outcome.pictures:
        with Image.open(tmp_path / name) as picture:
            picture.load()
            assert picture.size == ((64, 64) if name.endswith("jpg") else (880, 352))


def test_pictures_change_nothing_of_the_training(tmp_path, store, tiny, recorder):
    config = tiny(train={"epochs": 2})
    plain, _ = train(config, store, tmp_path / "plain", recorder)
    drawn, _ = train(config, store, tmp_path / "drawn", recorder, num_pictures=3)
    assert (plain.pictures, len(drawn.pictures)) == ((), 3)  # of two validation images, and the curve
    assert plain.best_value == drawn.best_value
    states = [load_checkpoint(tmp_path / name / "last.pt")[0].model for name in ("plain", "drawn")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_picture_that_cannot_be_drawn_fails_no_trial(tmp_path, store, tiny, recorder, monkeypatch):
    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures, "write_atomically", no_room)
    outcome, _ = train(tiny(train={"epochs": 1}), store, tmp_path, recorder, num_pictures=1)
    assert (outcome.stop_reason, outcome.pictures) == ("epochs", ())
    assert "No space left on device" in outcome.pictures_problem


def test_an_image_id_with_a_path_in_it_leads_nowhere_else(tmp_path, tiny, recorder):
    source = SyntheticGlands(num_images=4, size_px=64, seed=0)
    source.samples = tuple(replace(sample, id=f"../{sample.id} a") for sample in source.samples)
    store = prepare_store(source, tmp_path / "store")
    config = tiny(train={"epochs": 1}, data={"val_fraction": 0.4})
    outcome, _ = train(config, store, tmp_path / "run", recorder, num_pictures=1)
    [worst, _] = outcome.pictures
    assert (tmp_path / "run" / worst).resolve().parent == (tmp_path / "run").resolve()


@pytest.mark.parametrize("values", [[None, None], [0.5, None], []])
def test_a_curve_with_values_that_were_not_finite_is_drawn(tmp_path, values):
    history = [{"epoch": n + 1, "loss": value, "object_dice": value} for n, value in enumerate(values)]
    assert pictures.draw_learning_curve(history, tmp_path, best_epoch=1) == ["learning-curve.png"]
