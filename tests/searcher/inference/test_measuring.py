"""All metrics of a split, against values worked out by hand; the metrics themselves have their own tests."""

import pytest
import torch
from toy_models import RedIsProbability

from searcher.inference.measuring import measure_split, see_all
from searcher.inference.predictor import Predictor


def test_a_split_is_measured_as_a_whole_and_image_by_image(painted):
    predictor = Predictor(
        [RedIsProbability()], device=torch.device("cpu")
    )  # 0.5: glands exact, and the speck
    steps = []
    seen = see_all(predictor, painted, [1, 0], lambda done, total: steps.append((done, total)))
    assert steps == [(1, 2), (2, 2)]
    found = measure_split(predictor, seen)
    assert found.num_images == 2
    assert found.pooled["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1))
    assert found.mean["f1"] == pytest.approx((1 + 2 * 1 / (2 * 1 + 1)) / 2)
    # Found pixels: 36 + 36 + 2, of which the speck's 2 have no partner.
    assert found.pooled["object_dice"] == pytest.approx((1 + 72 / 74) / 2)
    assert [image.id for image in found.images] == ["painted_1", "painted_0"]
    assert found.images[1].metrics == {
        "f1": 1.0,
        "object_dice": 1.0,
        "object_hausdorff": 0.0,
        "pixel_dice": 1.0,
        **dict.fromkeys(("ap50", "ap", "pq", "aji"), 1.0),
    }
    assert [(image.num_true, image.num_predicted) for image in found.images] == [(1, 2), (1, 1)]
    assert found.num_touched_by_empty_rule == 0
    assert 0 < found.poster["object_dice"] < 1
    assert found.strata.keys() == {"benign", "malignant"}
    assert found.strata["benign"].pooled["f1"] == 1


def test_the_time_of_an_image_is_that_of_seeing_and_cutting(painted, monkeypatch):
    predictor = Predictor([RedIsProbability()], device=torch.device("cpu"))
    ticks = iter([10.0, 12.0, 20.0, 20.5])  # before and after seeing, before and after cutting
    monkeypatch.setattr("searcher.inference.measuring.time.perf_counter", lambda: next(ticks))
    [image] = measure_split(predictor, see_all(predictor, painted, [0])).images
    assert image.seconds == 2.5
