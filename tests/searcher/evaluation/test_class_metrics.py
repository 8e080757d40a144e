"""Metrics of classes: by hand, and by CoNIC's own way, which looks at each class as if there were no other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searcher.evaluation.class_metrics import class_metrics, class_sums, confusion, table_of
from searcher.evaluation.official_metrics import compare
from searcher.evaluation.summary import ImageMetrics, summarise

NAMES = ("round", "long")


def squares(*corners, side=4, size=(20, 30)):
    labels = np.zeros(size, np.int32)
    for label, (row, column) in enumerate(corners, start=1):
        labels[row : row + side, column : column + side] = label
    return labels


def by_hand():
    """Five true objects: classes 1, 1, 2, unknown, 2. Found: 1 right, 1 as 2, 2 moved by one column, one on the unknown
    object, one where nothing is; the last true object is missed."""
    truth = squares((0, 0), (0, 10), (0, 20), (10, 0), (10, 10))
    found = squares((0, 0), (0, 10), (0, 21), (10, 0), (10, 22))
    return truth, np.array([0, 1, 1, 2, 0, 2], np.int32), found, np.array([0, 1, 2, 2, 1, 1], np.int32)


def measured(*images, names=NAMES):
    sums = np.sum([class_sums(*image, len(names)) for image in images], axis=0)
    return {name: float(value) for name, value in class_metrics(sums, names).items()}


def test_by_hand():
    """IoU of the moved one: 12 of 20 pixels. Class 1: 1 pair, 2 true, 2 predicted (one is on the unknown object, and
    does not count). Class 2: 1 pair, 2 true, 2 predicted."""
    assert measured(by_hand()) == pytest.approx(
        {
            "f1/round": 2 * 1 / (2 + 2),
            "pq/round": 2 * 1 / (2 + 2) * 1.0,
            "f1/long": 2 * 1 / (2 + 2),
            "pq/long": 2 * 1 / (2 + 2) * 0.6,
            "mpq": (0.5 + 0.3) / 2,
            "class_accuracy": 2 / 3,
        }
    )
    assert confusion(class_sums(*by_hand(), 2), 2).tolist() == [[1, 1, 0], [0, 1, 1], [1, 0, 0]]


def test_what_does_not_occur_has_no_figure_and_what_is_missed_has_0():
    truth, nothing = squares((0, 0)), np.zeros((20, 30), np.int32)
    missed = measured((truth, np.array([0, 1], np.int32), nothing, np.zeros(1, np.int32)))
    assert (missed["f1/round"], missed["mpq"], missed["class_accuracy"]) == (0, 0, 0)
    assert np.isnan(missed["f1/long"])
    unknown = measured((truth, np.zeros(2, np.int32), truth, np.array([0, 1], np.int32)))
    assert all(np.isnan(value) for value in unknown.values()), "no object of known class says anything"


def test_what_is_not_annotated_counts_for_nothing():
    truth, classes, found, predicted = by_hand()
    truth[10:, 20:] = -1
    assert confusion(class_sums(truth, classes, found, predicted, 2), 2)[-1].tolist() == [0, 0, 0]


def of_conic(images, num_classes):
    """Mean over classes of the pooled PQ, each class's objects alone on both sides, in sets of pixels.

    Classes without an object on both sides are left out.
    """
    values = []
    for number in range(1, num_classes + 1):
        tp, fp, fn, ious = 0, 0, 0, 0.0
        for truth, truth_classes, found, found_classes in images:
            sides = [
                [{*map(tuple, np.argwhere(labels == label))} for label in np.unique(labels)
                 if label and classes[label] == number]
                for labels, classes in ((truth, truth_classes), (found, found_classes))
            ]  # fmt: skip
            true, predicted = sides
            pairs = [
                len(a & b) / len(a | b) for a in true for b in predicted if len(a & b) / len(a | b) > 0.5
            ]
            tp, fp, fn = tp + len(pairs), fp + len(predicted) - len(pairs), fn + len(true) - len(pairs)
            ious += sum(pairs)
        if tp + fp + fn:
            values.append(tp / (tp + fp / 2 + fn / 2) * (ious / tp if tp else 0))
    return np.mean(values) if values else np.nan


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_mpq_is_conic_s(seed, num_classes):
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(2):
        truth = np.kron(rng.integers(0, 6, (3, 4)), np.ones((3, 3))).astype(np.int32)
        found = np.where(rng.random(truth.shape) < 0.2, rng.integers(0, 6, truth.shape), truth).astype(
            np.int32
        )
        tables = [
            np.concatenate([[0], rng.integers(1, num_classes + 1, 6)]).astype(np.int32) for _ in range(2)
        ]
        images.append((truth, tables[0], found, tables[1]))
    names = [str(number) for number in range(num_classes)]
    np.testing.assert_allclose(
        measured(*images, names=names)["mpq"], of_conic(images, num_classes), atol=1e-12
    )


def test_a_summary_has_the_pooled_figures_with_intervals_and_the_confusion():
    images = []
    for number, shift in enumerate((0, 1, 3)):
        truth, classes, found, predicted = by_hand()
        found = np.roll(found, shift, axis=1)
        sums = class_sums(truth, classes, found, predicted, 2)
        images.append(ImageMetrics(id=str(number), comparison=compare(truth, found), classes=sums))
    summary = summarise(images, class_names=NAMES).classes
    total = np.sum([image.classes for image in images], axis=0)
    assert summary.pooled == {name: float(value) for name, value in class_metrics(total, NAMES).items()}
    assert (summary.confusion == confusion(total, 2)).all()
    for name, (low, high) in summary.intervals.items():
        assert low <= summary.pooled[name] <= high, name
    assert summarise(images[:1]).classes is None, "where no names are given, nothing is said of classes"


def test_a_table_begins_with_background():
    assert table_of(np.array([2, 1], np.int32)).tolist() == [0, 2, 1]
