"""A plug-in's metric is worked out beside ours: pooled, by image, resampled, tuned for and optimised."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from plugged import plugged_in

from searcher.evaluation.official_metrics import compare, mean, metric_names, pooled
from searcher.evaluation.summary import ImageMetrics, summarise
from searcher.exceptions import StudyFileError
from searcher.inference.tuning import _measured, tuning_target
from searcher.plugins import PluginError
from searcher.study.objectives import Objective, direction_of, metrics_of_plugins
from searcher.study.reader import parse_study

PLUGIN = """
    from searcher.study.objectives import register_metric

    @register_metric("jaccard", "maximize", of="counts")
    def jaccard(counts):
        return counts.tp / max(1, counts.tp + counts.fp + counts.fn)

    @register_metric("missed_px", "minimize", of="maps")
    def missed_px(truth, prediction):
        return float(((truth > 0) & (prediction == 0)).sum()) if truth.any() else float("nan")
"""


@pytest.fixture(autouse=True)
def _plugged(tmp_path) -> Iterator[None]:
    with plugged_in(tmp_path, PLUGIN):
        yield


def image(*rows: str) -> np.ndarray:
    return np.array([[int(sign) for sign in row] for row in rows], np.int32)


FIRST = (image("1100", "1100", "0022"), image("1100", "1100", "0000"))  # won 1, missed 1 of 2 pixels
SECOND = (image("1110", "0000", "0022"), image("1110", "0330", "0022"))  # won 2, one too many
EMPTY = (image("0000", "0000", "0000"), image("0000", "0440", "0000"))  # one too many; no truth


def test_they_are_pooled_and_averaged():
    comparisons = [compare(*pair) for pair in (FIRST, SECOND, EMPTY)]
    assert metric_names()[8:] == ("jaccard", "missed_px")
    found = pooled(comparisons)
    assert found["jaccard"] == 3 / 6, "3 won; 1 missed and 2 too many"
    assert found["missed_px"] == (2 + 0) / 2, "the image without truth has none"
    alone = mean(comparisons)
    assert alone["jaccard"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert alone["missed_px"] == 1.0
    assert math.isnan(pooled([compare(*EMPTY)])["missed_px"])
    assert list(found) == list(metric_names())


def test_a_summary_has_them_with_intervals_and_json():
    summary = summarise(
        [ImageMetrics(id=str(n), comparison=compare(*pair)) for n, pair in enumerate((FIRST, SECOND))]
    )
    low, high = summary.intervals["pooled"]["jaccard"]
    assert low is not None
    assert high is not None
    assert 1 / 2 <= low <= summary.pooled["jaccard"] == 3 / 5 <= high <= 2 / 3
    plain = summary.to_dict()
    assert plain["pooled"]["missed_px"] == 1.0
    assert [row["missed_px"] for row in plain["images"]] == [2.0, 0.0]


def test_post_processing_is_tuned_for_them():
    sums = np.array([compare(*pair, only=("missed_px",)).sums for pair in (FIRST, SECOND)])
    worse = _measured(sums[:1], "missed_px")
    better = _measured(sums[1:], "missed_px")
    assert (worse.value, better.value) == (2.0, 0.0)
    assert better.cost < worse.cost, "fewer missed pixels are better"
    assert _measured(sums, "jaccard").cost == -3 / 5
    assert tuning_target("objective", Objective("jaccard")) == "jaccard"


def test_a_study_optimises_them_and_says_what_it_does_not_know():
    text = '[study]\nname = "s"\nobjective = "missed_px"\nsecondary_objectives = ["jaccard"]\n'
    text += '[tuning]\nmetric = "jaccard"\n'
    spec = parse_study(text, source="s.toml")
    assert spec.directions == ["minimize", "maximize"]
    assert spec.objective.better(1.0, than=2.0)
    with pytest.raises(StudyFileError) as caught:
        parse_study(text.replace("missed_px", "missing"), source="s.toml")
    assert caught.value.problems[0].startswith(
        "s.toml: study.objective: must be 'loss', 'pixel_dice', 'object_f1', 'object_dice', 'object_hausdorff', "
        "'ap50', 'ap', 'pq', 'aji', 'mpq', 'class_accuracy', 'jaccard' or 'missed_px', got 'missing'"
    )
    with pytest.raises(StudyFileError) as caught:
        parse_study(text.replace('metric = "jaccard"', 'metric = "loss"'), source="s.toml")
    assert (
        "tuning.metric: must be 'objective', 'object_f1', 'object_dice', 'object_f1+object_dice', 'ap50', 'ap', 'pq', "
        "'aji', 'jaccard' or" in caught.value.problems[0]
    )
    with pytest.raises(PluginError, match=r"study\.objective: must be one of loss, .*, got 'gone'"):
        Objective("gone")
    assert direction_of("seconds_per_image") == "minimize"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("@register_metric('bad', 'maximize', of='maps')\ndef bad(truth, prediction): return 1 / 0",
         "bad.py: metric 'bad': must return a number, raised ZeroDivisionError: division by zero; fix it"),
        ("@register_metric('bad', 'maximize', of='counts')\ndef bad(counts): return 'much'",
         "bad.py: metric 'bad': must return a number, got str; fix it"),
        ("register_metric('f1', 'maximize', of='maps')", "metric 'f1': must have a name of letters"),
        ("register_metric('a b', 'maximize', of='maps')", "metric 'a b': must have a name of letters"),
        ("register_metric('ok', 'up', of='maps')", "metric 'ok': must say minimize or maximize"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_is_one_line(tmp_path, body, expected):
    text = f"from searcher.study.objectives import register_metric\n{body}\n"
    with pytest.raises(PluginError) as caught, plugged_in(tmp_path, text, "bad.py"):
        pooled([compare(*FIRST)])
    assert caught.value.problems[0].startswith(expected)
    assert "bad" not in metrics_of_plugins()
