"""AP, PQ and AJI equal their definitions, by hand and by a reference that knows nothing but sets of pixels."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from searcher.evaluation.instances import METRICS, instance_metrics, instance_terms
from searcher.evaluation.labelled_objects import LabelledObjects, paired_pixels
from searcher.evaluation.official_metrics import INSTANCE_METRICS, compare, mean, pooled
from searcher.evaluation.summary import ImageMetrics, summarise
from searcher.inference.tuning import tuning_target
from searcher.study.objectives import Objective
from searcher.testing import check_metric


def sums(truth, found):
    one, other = LabelledObjects(np.asarray(truth)), LabelledObjects(np.asarray(found))
    return instance_terms(one, other, paired_pixels(one, other)).sums


def measured(*images):
    found = instance_metrics(np.sum([sums(*image) for image in images], axis=0))
    return {name: float(value) for name, value in found.items()}


def reference(*images):
    """The definitions, word for word, in sets of pixels and fractions."""
    thresholds = [Fraction(number, 20) for number in range(10, 20)]
    above, ious, joined, union, num_true, num_found = dict.fromkeys(thresholds, 0), [], 0, 0, 0, 0
    for truth, found in images:
        objects = [
            {
                label: {tuple(each) for each in np.argwhere(side == label)}
                for label in np.unique(side)
                if label
            }
            for side in (np.asarray(truth), np.asarray(found))
        ]
        true, predicted = objects
        iou = {
            (a, b): Fraction(len(true[a] & predicted[b]), len(true[a] | predicted[b]))
            for a in true
            for b in predicted
        }
        for threshold in thresholds:
            above[threshold] += sum(value > threshold for value in iou.values())
        ious += [value for value in iou.values() if value > Fraction(1, 2)]
        used = set()
        for a in true:
            best = max(predicted, key=lambda b: (iou[a, b], -b), default=None)
            if best is None or not iou[a, best]:
                union += len(true[a])
                continue
            used.add(best)
            joined += len(true[a] & predicted[best])
            union += len(true[a] | predicted[best])
        union += sum(len(pixels) for b, pixels in predicted.items() if b not in used)
        num_true, num_found = num_true + len(true), num_found + len(predicted)
    if not num_true + num_found:
        return dict.fromkeys(METRICS, 1.0)
    tp = above[thresholds[0]]
    ap = [Fraction(n, n + (num_found - n) + (num_true - n)) for n in above.values()]
    dq = tp / (tp + Fraction(num_found - tp, 2) + Fraction(num_true - tp, 2))
    sq = sum(ious) / tp if tp else Fraction(0)
    values = (sum(ap) / 10, ap[0], ap[5], dq * sq, dq, sq, Fraction(joined, union))
    return dict(zip(METRICS, map(float, values), strict=True))


def test_by_hand():
    truth = [[1, 1, 1, 1, 0, 2, 2], [1, 1, 1, 1, 0, 2, 2]]
    found = [[5, 5, 5, 0, 0, 6, 7], [5, 5, 5, 0, 8, 6, 7]]
    # 1 and 5: 6 of 8, IoU 0.75. 2 (4 px) and 6 (2 px): 0.5, as 2 and 7, neither above it. 8 meets nothing.
    assert measured((truth, found)) == pytest.approx(
        {
            "ap": 5 * (1 / 5) / 10,  # at 0.5 to 0.7: TP 1, FP 3, FN 1
            "ap50": 1 / 5,
            "ap75": 0.0,  # 0.75 is not above 0.75
            "pq": (2 / 6) * 0.75,
            "dq": 2 / 6,
            "sq": 0.75,
            "aji": (6 + 2) / (8 + 4 + 2 + 1),  # 2 joins 6; 7 and 8 are left over
        }
    )


def test_images_are_pooled_by_their_objects():
    good = ([[1, 1, 0, 2, 2]], [[3, 3, 0, 4, 4]])
    bad = ([[1, 1, 0, 0, 0]], [[0, 0, 0, 0, 0]])
    assert measured(good, bad)["ap50"] == pytest.approx(2 / 3)
    assert measured(good, bad)["pq"] == pytest.approx(4 / 5)
    assert measured(good, bad)["aji"] == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [([[0, 0]], [[0, 0]], 1.0), ([[1, 0]], [[0, 0]], 0.0), ([[0, 0]], [[1, 0]], 0.0)],
)
def test_sides_without_objects(truth, found, expected):
    assert measured((truth, found)) == dict.fromkeys(METRICS, expected)


maps = arrays(np.int32, (4, 5), elements=st.sampled_from([0, 0, 1, 2, 3, 70_000]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(maps, maps), min_size=1, max_size=3))
def test_equal_to_the_definitions(images):
    assert measured(*images) == pytest.approx(reference(*images), abs=1e-12)


def test_many_sets_at_once():
    generator = np.random.default_rng(0)
    images = [(generator.integers(0, 5, (8, 8)), generator.integers(0, 5, (8, 8))) for _ in range(4)]
    each = np.stack([sums(*image) for image in images]).reshape(2, 2, -1)
    found = instance_metrics(each)
    assert found["aji"].shape == (2, 2)
    assert found["ap"][1, 0] == pytest.approx(measured(images[2])["ap"])


def test_every_comparison_has_them_for_studies_and_summaries():
    """They are pooled from the same sums as by themselves, have intervals, and a study can be after them."""
    truth = np.zeros((20, 20), np.int32)
    truth[2:8, 2:8], truth[12:18, 12:18] = 1, 2
    found = np.roll(truth, 1, axis=0)  # IoU of each 30 / 42
    missed = np.where(found == 2, 0, found)
    comparisons = [compare(truth, found, hausdorff=False), compare(truth, missed, hausdorff=False)]
    values = pooled(comparisons)
    assert values["ap50"] == 3 / 4
    assert values["ap"] == pytest.approx(0.5 * 3 / 4)  # thresholds 0.5, 0.55, 0.6, 0.65 and 0.7 of ten
    assert values["pq"] == pytest.approx(2 * 3 / (4 + 3) * 30 / 42)
    assert values["aji"] == pytest.approx(90 / (3 * 42 + 36))
    assert mean(comparisons)["ap50"] == (1 + 1 / 2) / 2
    summary = summarise([ImageMetrics(id=str(n), comparison=each) for n, each in enumerate(comparisons)])
    low, high = summary.intervals["pooled"]["pq"]
    assert low is not None
    assert high is not None
    assert low < values["pq"] < high
    for name in INSTANCE_METRICS:
        check_metric(name)
        assert Objective(name).direction == "maximize"
        assert tuning_target("objective", Objective(name)) == name
