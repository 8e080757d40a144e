"""The importable checks of data sets and metrics: ours pass, broken ones are told what they break."""

import numpy as np
import pytest
from plugged import plugged_in

from searcher.data_pipeline import Sample, SyntheticGlands
from searcher.study.objectives import OFFICIAL
from searcher.testing import check_dataset, check_metric


def glands() -> SyntheticGlands:
    return SyntheticGlands(num_images=4, size_px=64, seed=2)


def test_ours_pass():
    check_dataset(glands())
    for name in OFFICIAL:
        check_metric(name)


class _Changed:
    """The synthetic glands with some members changed."""

    def __init__(self, **members) -> None:
        self._members = members
        self._glands = glands()

    def __getattr__(self, name: str):
        return self._members[name] if name in self._members else getattr(self._glands, name)


def read_as(image=None, labels=None):
    def read(index: int):
        own = glands().read(index)
        return own[0] if image is None else image, own[1] if labels is None else labels

    return read


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"samples": []}, "must hold at least one sample"),
        (
            {"samples": [Sample("a", "train", "a", ""), Sample("a", "train", "b", "")]},
            "ids of their own, got a twice",
        ),
        ({"samples": [Sample("a", "train", "", "")]}, "a: must have a group"),
        ({"fingerprint": lambda: "f"}, "64 hexadecimal digits, got 'f'"),
        ({"dtype": "float32"}, "must be uint8 or uint16, got 'float32'"),
        ({"read": read_as(image=np.zeros((64, 64, 1), np.uint8))}, "must have 3 channels, got 1"),
        ({"read": read_as(labels=np.zeros((64, 64), np.int64))}, "must have labels of int32, got int64"),
        ({"read": read_as(labels=np.full((64, 64), -2, np.int32))}, "must have labels from 0"),
        ({"read": read_as(labels=np.zeros((8, 8), np.int32))}, r"must have labels of \(64, 64\) px"),
    ],
)
def test_a_broken_data_set_is_told_what_it_breaks(members, expected):
    with pytest.raises(AssertionError, match=expected):
        check_dataset(_Changed(**members))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return 0.5", "must be worse than 0.5 where half of the objects are missed, got 0.5"),
        ("return float((truth != prediction).mean())", "must be worse than 0"),
        (
            "return float((truth == prediction).mean()) if truth.any() else float('inf')",
            "for invented objects, got inf",
        ),
        ("return float((truth == prediction).mean())", "must not depend on the labels' numbers"),
        ("truth[0, 0] = 9; return 1.0", "must not change the label maps"),
    ],
)
def test_a_broken_metric_is_told_what_it_breaks(tmp_path, body, expected):
    text = "from searcher.study.objectives import register_metric\n@register_metric('mine', 'maximize', of='maps')\n"
    plugin = plugged_in(tmp_path, f"{text}def mine(truth, prediction):\n    {body}\n")
    with plugin, pytest.raises(AssertionError, match=expected):
        check_metric("mine")


def test_a_good_metric_passes(tmp_path):
    text = "from searcher.study.objectives import register_metric\n@register_metric('mine', 'maximize', of='counts')\n"
    with plugged_in(tmp_path, f"{text}def mine(c):\n    return c.tp / max(1, c.tp + c.fp + c.fn)\n"):
        check_metric("mine")
