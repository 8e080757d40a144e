"""From a microscope's values to 0..255: by hand, and against NumPy's percentiles."""

import numpy as np
import pytest

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.normalisation import Histogram, Levels, Normalisation, levels_of

PERCENTILE = Normalisation("percentile")


def test_eight_bits_stay_as_they_are_and_are_not_copied() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert levels_of(image, Normalisation()).apply(image) is image
    out = np.zeros_like(image)
    assert levels_of(image, Normalisation()).apply(image, out) is out
    assert (out == image).all()


def with_top(low: int, top: int) -> np.ndarray:
    """uint8[100, 100, 3]: 1% and more have `low`, 5% have `top`."""
    image = np.full((100, 100, 3), low, np.uint8)
    image[:5] = top
    return image


@pytest.mark.parametrize(
    ("low", "top", "expected"),
    [
        (10, 42, [0, 128]),  # 32 values become 128
        (0, 2, [0, 32]),  # at most 16 times as bright
        (10, 64, [10, 64]),  # not dark
    ],
)
def test_a_dark_image_is_brightened_where_that_is_wanted(low: int, top: int, expected: list[int]) -> None:
    image = with_top(low, top)
    levels = levels_of(image, Normalisation(brightens_dark=True))
    assert np.unique(levels.apply(image)).tolist() == expected
    assert levels_of(image, Normalisation()).changes_nothing


def test_a_dark_image_keeps_its_colours() -> None:
    image = with_top(0, 40)
    image[..., 1] //= 2
    brightened = levels_of(image, Normalisation(brightens_dark=True)).apply(image)
    assert brightened[0, 0].tolist() == [128, 64, 128]


def test_sixteen_bits_by_their_whole_range() -> None:
    image = np.array([0, 128, 129, 257, 32767, 32768, 65535], np.uint16).reshape(1, 7, 1)
    # v * 255 / 65535 = v / 257: 128 / 257 rounds to 0, 129 / 257 to 1; 32767 / 257 = 127.498, 32768 / 257 = 127.502
    assert levels_of(image, Normalisation()).apply(image).ravel().tolist() == [0, 0, 1, 1, 127, 128, 255]


def test_two_percentiles_become_0_and_255_channel_by_channel() -> None:
    image = np.zeros((10, 10, 2), np.uint16)
    image[..., 0] = np.arange(100).reshape(10, 10) * 10
    image[..., 1] = image[..., 0] * 7 + 300
    levels = levels_of(image, Normalisation("percentile", 10, 90))
    # Of 100 values, 10 do not exceed the 10th, which is 90; 90 do not exceed the 90th, which is 890.
    assert levels.low.tolist() == [90, 930]
    assert levels.high.tolist() == [890, 6530]
    got = levels.apply(image)
    assert (got[..., 0] == got[..., 1]).all()
    assert got[0, 0, 0] == 0
    assert got[9, 9, 0] == 255
    assert got[5, 0, 0] == round((500 - 90) * 255 / 800)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("percentage", [0, 0.2, 1, 12.5, 50, 99.8, 100])
def test_percentiles_are_numpys(dtype: str, percentage: float) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, np.iinfo(dtype).max, (37, 29, 3)).astype(dtype) // 3
    histogram = Histogram(3, dtype)
    for top in (0, 5, 20):  # blocks of other sizes
        histogram.add(image[top : {0: 5, 5: 20, 20: 37}[top]])
    expected = np.percentile(image, percentage, axis=(0, 1), method="inverted_cdf")
    assert histogram.percentile(percentage).tolist() == expected.tolist()


def test_an_exposure_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    image = rng.integers(50, 8000, (40, 50, 3)).astype(np.uint16)
    fourfold = image * 4
    assert (
        levels_of(image, PERCENTILE).apply(image) == levels_of(fourfold, PERCENTILE).apply(fourfold)
    ).all()


def test_few_lit_pixels_are_not_lost() -> None:
    image = np.zeros((100, 100, 1), np.uint16)
    image[50, 50:55, 0] = 100, 200, 300, 400, 500  # 0.05% of the pixels: both percentiles are 0
    got = levels_of(image, PERCENTILE).apply(image)
    assert got[50, 50:55, 0].tolist() == [51, 102, 153, 204, 255]
    assert np.count_nonzero(got) == 5


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_a_channel_of_one_value_is_black(value: int) -> None:
    image = np.full((4, 5, 2), value, np.uint16)
    assert not levels_of(image, PERCENTILE).apply(image).any()


def test_parts_of_an_image_have_the_levels_of_the_whole() -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 4000, (30, 30, 4)).astype(np.uint16)
    levels = levels_of(image, PERCENTILE)
    assert isinstance(levels, Levels)
    assert (levels.apply(image[5:9, 3:20]) == levels.apply(image)[5:9, 3:20]).all()


@pytest.mark.parametrize(("low", "high"), [(50, 50), (60, 50), (-1, 50), (1, 101), (float("nan"), 50)])
def test_percentiles_out_of_order_are_one_line(low: float, high: float) -> None:
    with pytest.raises(DataError, match="low_percentile must be below high_percentile"):
        Normalisation("percentile", low, high)
