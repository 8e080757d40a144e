"""Validation, with models whose answers and losses are known: they read them off the images.

The images are made for it: red is the label, green the label that the model will predict, blue a number for the
loss.
"""

import numpy as np
import pytest
import torch

from searcher.data_pipeline.datasets import Sample
from searcher.data_pipeline.datasets.samples import RGB
from searcher.data_pipeline.store import prepare_store
from searcher.exceptions import NonFiniteLossError
from searcher.models.base import DenseModel, SegmentationModel
from searcher.models.settings import PostprocessSettings
from searcher.models.values import Prediction
from searcher.training.validation import Validator

CPU = torch.device("cpu")


class PaintedImages:
    """Three images of different sizes.

    First: two glands, 4x4 and 2x2, predicted perfectly. Second: one gland of 4x4, its upper half predicted.
    Third: nothing there, nothing predicted.
    """

    name, kind = "painted", "test"
    channels, dtype = RGB, "uint8"

    def __init__(self):
        self.samples = tuple(Sample(f"painted_{i}", "train", f"patient {i}", "") for i in range(3))
        first = np.zeros((12, 16, 3), dtype=np.uint8)
        first[2:6, 2:6, :2] = 1
        first[8:10, 10:12, :2] = 2
        second = np.zeros((8, 8, 3), dtype=np.uint8)
        second[2:6, 2:6, 0] = 1
        second[2:4, 2:6, 1] = 1
        third = np.zeros((16, 20, 3), dtype=np.uint8)
        self.images = [first, second, third]
        for image, blue in zip(self.images, (10, 20, 60), strict=True):
            image[..., 2] = blue

    def fingerprint(self):
        return "painted"

    def read(self, index):
        return self.images[index], self.images[index][..., 0].astype(np.int32)


class ReadsTheAnswer(SegmentationModel):
    """Predicts the green channel; its losses are the mean of the blue channel, and 1."""

    postprocess_keys = ()

    def __init__(self):
        super().__init__()
        self.postprocess = PostprocessSettings()
        self.seen = []

    def parts(self):
        raise NotImplementedError

    def training_step(self, batch):
        assert not self.training
        assert batch.images.dtype is torch.uint8
        assert batch.labels.dtype is torch.int32
        self.seen.append(tuple(batch.images.shape))
        assert torch.equal(batch.images[..., 0].int(), batch.labels)
        return {"blue": batch.images[..., 2].float().mean(), "one": torch.tensor(1.0)}

    def predict(self, images):
        assert not self.training
        labels = images[0, ..., 1].int().numpy()
        return [Prediction(labels=labels, scores=np.ones(labels.max(), dtype=np.float32))]


class DenseReadsTheAnswer(ReadsTheAnswer, DenseModel):
    """The same by way of a map of the green channel."""

    kind_of_maps = "green"

    def predict_maps(self, images):
        assert not self.training
        self.seen.append(tuple(images.shape))
        return images[..., 1].float()[:, None] / 255

    def instance_maps(self, maps):
        raise NotImplementedError

    def instances_from_maps(self, maps):
        labels = np.rint(maps[0] * 255).astype(np.int32)
        return Prediction(labels=labels, scores=np.ones(labels.max(), dtype=np.float32))


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    return prepare_store(PaintedImages(), tmp_path_factory.mktemp("painted"))


def measure(store, model, indices=(0, 1, 2), **tiling):
    metrics = Validator(store, indices, device=CPU, dtype=torch.float32, **tiling).validate(model, epoch=3)
    assert metrics.pop("seconds_per_image") > 0
    return metrics


MODELS = pytest.mark.parametrize("model", [ReadsTheAnswer, DenseReadsTheAnswer])


@MODELS
def test_a_perfect_prediction(painted, model):
    assert measure(painted, model(), indices=[0]) == {
        "loss": 11.0,
        "loss_blue": 10.0,
        "loss_one": 1.0,
        "object_f1": 1.0,
        "object_dice": 1.0,
        "object_hausdorff": 0.0,
        "pixel_dice": 1.0,
        **dict.fromkeys(("ap50", "ap", "pq", "aji"), 1.0),
    }


@MODELS
def test_the_metrics_are_pooled_over_the_images_and_the_loss_is_their_mean(painted, model):
    # Glands of 16, 4, 16 px; found 16, 4, 8 px. The half gland: covers 8 of 16, no more than half, so a false
    # positive; Dice 2*8/(16+8) = 2/3; its missing last row is 2 px from the nearest found one.
    values = measure(painted, model())
    assert values["loss"] == pytest.approx((11 + 21 + 61) / 3)
    assert values["object_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    dice_of_glands = (16 * 1 + 4 * 1 + 16 * 2 / 3) / 36
    dice_of_found = (16 * 1 + 4 * 1 + 8 * 2 / 3) / 28
    assert values["object_dice"] == pytest.approx((dice_of_glands + dice_of_found) / 2)
    assert values["object_hausdorff"] == pytest.approx((16 * 2 / 36 + 8 * 2 / 28) / 2)
    assert values["pixel_dice"] == pytest.approx(2 * 28 / (36 + 28))


def test_images_go_through_whole_one_at_a_time(painted):
    model = ReadsTheAnswer()
    measure(painted, model)
    assert model.seen == [(1, 12, 16, 3), (1, 8, 8, 3), (1, 16, 20, 3)]


def test_a_dense_model_sees_tiles_and_gives_the_same_answer(painted):
    whole, tiled = DenseReadsTheAnswer(), DenseReadsTheAnswer()
    assert measure(painted, tiled, tile_px=7, tile_overlap_px=3) == pytest.approx(measure(painted, whole))
    assert {shape[1:3] for shape in tiled.seen} == {(7, 7)}


def test_the_loss_of_an_image_in_tiles_is_their_mean(painted):
    class Counts(DenseReadsTheAnswer):
        def training_step(self, batch):
            return {"share": (batch.labels > 0).float().mean()}

    # 12 tiles that do not overlap; 20 of the image's 192 pixels are of a gland.
    assert measure(painted, Counts(), [0], tile_px=4, tile_overlap_px=0)["loss"] == pytest.approx(20 / 192)


def test_a_model_that_is_not_dense_sees_whole_images_whatever_the_tiles(painted):
    model = ReadsTheAnswer()
    measure(painted, model, tile_px=7, tile_overlap_px=3)
    assert model.seen == [(1, 12, 16, 3), (1, 8, 8, 3), (1, 16, 20, 3)]


def test_a_loss_that_is_not_finite_names_loss_epoch_and_image(painted):
    class Diverges(ReadsTheAnswer):
        def training_step(self, batch):
            losses = super().training_step(batch)
            return losses | {"one": torch.tensor(float("inf") if batch.images.shape[1] == 8 else 0.0)}

    with pytest.raises(NonFiniteLossError) as caught:
        measure(painted, Diverges())
    assert str(caught.value) == "validation loss 'one' became inf at epoch 3, image 'painted_1'"


def test_an_error_of_the_comparison_is_not_lost(painted):
    class WrongSize(ReadsTheAnswer):
        def predict(self, images):
            return super().predict(images[:, :5])

    with pytest.raises(ValueError, match="same shape"):
        measure(painted, WrongSize())


def test_no_graph_is_built(painted):
    class Remembers(ReadsTheAnswer):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))
            self.losses = []

        def training_step(self, batch):
            self.losses.append(self.weight * 2)
            return {"weight": self.losses[-1]}

    model = Remembers()
    assert measure(painted, model)["loss"] == 2.0
    assert not any(loss.requires_grad for loss in model.losses)
