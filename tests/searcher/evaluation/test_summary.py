"""All figures of a set of images, against hand calculations, and intervals against resampling in plain loops."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from searcher.evaluation.glas import poster
from searcher.evaluation.official_metrics import METRICS, compare, mean, metric_names, pooled
from searcher.evaluation.summary import ImageMetrics, summarise


def dots(*counts):
    """Results of images with so many true and so many predicted dots, 3 px apart, each hit exactly while there are
    both."""
    results = []
    for number, (num_true, num_predicted) in enumerate(counts):
        truth, prediction = np.zeros((3, 60), np.int32), np.zeros((3, 60), np.int32)
        truth[1, 1 : 3 * num_true : 3] = np.arange(1, num_true + 1)
        prediction[1, 1 : 3 * num_predicted : 3] = np.arange(1, num_predicted + 1)
        results.append(ImageMetrics(id=str(number), comparison=compare(truth, prediction)))
    return results


def random_images(count, seed=0):
    rng = np.random.default_rng(seed)
    results = []
    for number in range(count):
        truth, prediction = np.zeros((2, 40, 50), np.int32)
        for labels in (truth, prediction):
            for label in range(1, int(rng.integers(0, 6)) + 1):
                top, left = rng.integers(0, 35, 2)
                labels[top : top + rng.integers(2, 15), left : left + rng.integers(2, 15)] = label
        results.append(ImageMetrics(id=str(number), comparison=compare(truth, prediction)))
    return results


def test_counts_by_hand():
    """True 2, 4, 6; predicted 3, 4, 3. Errors 1, 0, -3; the mean of the true ones is 4, squared deviations 4, 0, 4."""
    counts = summarise(dots((2, 3), (4, 4), (6, 3))).counts
    assert counts["ratio"].value == pytest.approx((2 / 3 + 1 + 3 / 6) / 3)
    assert counts["mae"].value == pytest.approx((1 + 0 + 3) / 3)
    assert counts["bias"].value == pytest.approx((1 + 0 - 3) / 3)
    assert counts["r2"].value == pytest.approx(1 - (1 + 0 + 9) / (4 + 0 + 4))


def test_counts_of_images_without_objects():
    """Nothing on both sides is counted rightly, nothing on one side is not."""
    assert summarise(dots((0, 0), (0, 0))).counts["ratio"].value == 1
    assert summarise(dots((0, 2), (3, 0))).counts["ratio"].value == 0


@pytest.mark.parametrize("counts", [[(3, 3), (3, 4)], [(3, 4)], [(0, 0), (0, 0)]])
def test_r2_is_undefined_where_all_images_have_equally_many(counts):
    found = json.loads(json.dumps(summarise(dots(*counts)).to_dict(), allow_nan=False))
    assert found["counts"]["r2"] == {"value": None, "low": None, "high": None}
    assert found["counts"]["mae"]["value"] is not None


def test_resamples_that_leave_r2_undefined_are_passed_over():
    """Of two images half of the resamples have one of them twice; the others all have both: an interval of no width."""
    r2 = summarise(dots((2, 3), (4, 4))).counts["r2"]
    assert r2.value == pytest.approx(1 - 1 / 2)
    assert (r2.low, r2.high) == pytest.approx((r2.value, r2.value))


def test_one_image_has_no_interval():
    summary = summarise(dots((2, 3)))
    assert summary.intervals["pooled"]["f1"] == (None, None)
    assert (summary.counts["mae"].value, summary.counts["mae"].low) == (1, None)


def test_intervals_equal_resampling_in_plain_loops():
    """The same images drawn, one resample after the other, and every figure made from scratch."""
    images = random_images(12)
    summary = summarise(images, num_resamples=400, seed=3)
    rng = np.random.default_rng(3)
    draws = {"pooled": [], "mean": []}
    r2 = []
    for _ in range(400):
        chosen = [images[i] for i in rng.integers(12, size=12)]
        draws["pooled"].append(pooled([image.comparison for image in chosen]))
        draws["mean"].append(mean([image.comparison for image in chosen]))
        true = np.array([image.num_true for image in chosen])
        predicted = np.array([image.num_predicted for image in chosen])
        r2.append(1 - ((true - predicted) ** 2).sum() / ((true - true.mean()) ** 2).sum())
    for how, of in draws.items():
        for name in METRICS:
            expected = np.percentile([each[name] for each in of], [2.5, 97.5])
            assert summary.intervals[how][name] == pytest.approx(expected), (how, name)
    assert (summary.counts["r2"].low, summary.counts["r2"].high) == pytest.approx(
        np.percentile(r2, [2.5, 97.5])
    )


def test_equal_seeds_give_equal_intervals_and_blocks_do_not_matter(monkeypatch):
    images = random_images(9)
    once = summarise(images).intervals
    assert summarise(images).intervals == once
    assert summarise(images, seed=1).intervals != once
    monkeypatch.setattr("searcher.evaluation.bootstrap._DRAWN_AT_ONCE", 100)
    assert summarise(images).intervals == once


def test_strata_are_measured_apart():
    good, bad, unknown = random_images(3, seed=5)
    images = [
        ImageMetrics(id=image.id, comparison=image.comparison, stratum=stratum)
        for image, stratum in ((good, "malignant"), (bad, "benign"), (unknown, ""))
    ]
    found = summarise(images).strata
    assert list(found) == ["benign", "malignant", "unknown"]
    assert found["malignant"].pooled == pooled([good.comparison])
    assert found["benign"].num_images == 1
    assert summarise([good, bad]).strata == {}


def test_the_shape_that_others_read():
    images = dots((2, 3), (4, 4))
    plain = summarise(images).to_dict()
    assert list(plain) == [
        "num_images",
        "pooled",
        "mean",
        "intervals",
        "counts",
        "num_touched_by_empty_rule",
        "images",
    ]
    assert list(plain["pooled"]) == list(plain["mean"]) == list(plain["intervals"]["pooled"])
    assert tuple(plain["pooled"]) == metric_names()
    assert list(plain["counts"]) == ["ratio", "mae", "bias", "r2", "num_true", "num_predicted"]
    assert (plain["counts"]["num_true"], plain["counts"]["num_predicted"]) == (6, 7)
    assert plain["images"][0] == {
        "id": "0", "stratum": "", "f1": 2 * 2 / 5, "object_dice": pytest.approx((1 + 2 / 3) / 2),
        "object_hausdorff": pytest.approx(3 / 3 / 2), "pixel_dice": 2 * 2 / 5, "ap50": 2 / 3,
        "ap": pytest.approx(2 / 3), "pq": 4 / 5, "aji": 2 / 3, "num_true": 2, "num_predicted": 3,
    }  # fmt: skip
    assert len(plain["intervals"]["mean"]["f1"]) == 2


def test_times_and_posters_metrics_are_told_where_all_images_have_them():
    truth = np.ones((8, 8), np.int32)
    images = [
        ImageMetrics(
            id=str(seconds),
            comparison=compare(truth, truth),
            poster=poster.compare_as_poster(truth, truth),
            seconds=seconds,
        )
        for seconds in (1.0, 2.0, 6.0)
    ]
    plain = summarise(images).to_dict()
    assert plain["seconds_per_image"] == {"median": 2, "mean": 3}
    assert plain["poster"] == {"f1": 1, "object_dice": 1, "object_hausdorff": 0, "count": 1}
    assert (plain["images"][2]["seconds"], plain["images"][2]["poster"]) == (6, plain["poster"])
    untimed = ImageMetrics(id="", comparison=compare(truth, truth))
    mixed = summarise([*images, untimed]).to_dict()
    assert "seconds_per_image" not in mixed
    assert "poster" not in mixed


def test_images_without_objects_are_counted_and_what_is_not_finite_is_null():
    truth, empty = np.ones((3, 4), np.int32), np.zeros((3, 4), np.int32)
    without_distances = ImageMetrics(id="a", comparison=compare(truth, truth, hausdorff=False))
    plain = summarise([without_distances, ImageMetrics(id="b", comparison=compare(truth, empty))]).to_dict()
    assert plain["num_touched_by_empty_rule"] == 1
    assert plain["pooled"]["object_hausdorff"] is None
    json.dumps(plain, allow_nan=False)
    assert math.isfinite(plain["pooled"]["f1"])


def test_no_image_has_no_summary():
    with pytest.raises(ValueError, match="at least one"):
        summarise([])


def test_intervals_are_over_patients_where_all_are_known():
    """Three patients of 1, 2 and 3 images: resampled in plain loops, all images of a drawn patient together."""
    owners = ["a", "b", "b", "c", "c", "c"]
    images = [replace(image, patient=name) for image, name in zip(random_images(6), owners, strict=True)]
    found = summarise(images, num_resamples=50, seed=3)
    drawn = np.random.default_rng(3).integers(3, size=(50, 3))
    pooled_draws, mean_draws = [], []
    for patients in drawn:
        chosen = [image for number in patients for image in images if image.patient == "abc"[number]]
        pooled_draws.append(pooled([image.comparison for image in chosen])["object_dice"])
        mean_draws.append(mean([image.comparison for image in chosen])["object_dice"])
    for how, draws in (("pooled", pooled_draws), ("mean", mean_draws)):
        assert found.intervals[how]["object_dice"] == pytest.approx(np.quantile(draws, [0.025, 0.975]))
    assert found.to_dict()["num_patients"] == 3
    partly = [*images[:5], replace(images[5], patient="")]
    assert "num_patients" not in summarise(partly, num_resamples=5).to_dict()
    one = summarise([replace(image, patient="a") for image in images], num_resamples=5)
    assert one.intervals["pooled"]["f1"] == (None, None), "one patient says nothing of the next"
