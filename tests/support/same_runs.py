"""Whether two runs came to the same: their reports but for what a clock says, their states bit by bit."""

import torch

TIMINGS = {"epoch_s", "eval_s", "train_images_per_s", "seconds_per_image"}


def without_timings(reports):
    """Return reports without what a clock says."""
    return [{name: value for name, value in report.items() if name not in TIMINGS} for report in reports]


def assert_same(one, two, where):
    """Compare two nested states, tensors bit by bit."""
    assert type(one) is type(two), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            assert_same(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), where
        for index, pair in enumerate(zip(one, two, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    else:
        assert one == two, where
