"""Stain jitter: against scikit-image's colour deconvolution, and by what it does to known stains."""

import subprocess
import sys

import numpy as np
import pytest
from skimage.color import combine_stains, hed_from_rgb, rgb_from_hed, separate_stains

from searcher.data_pipeline.stain import StainJitter, optical_density, stain_amounts

ONE, ZERO = np.ones(3), np.zeros(3)


@pytest.fixture
def jitter() -> StainJitter:
    return StainJitter(scale=0.3, shift=0.1, probability=1.0)


def stained(*amounts: float, size: int = 4) -> np.ndarray:
    """An image of one colour: amounts of haematoxylin, eosin and rest in optical density (natural logarithm)."""
    light = np.exp(-np.array(amounts) @ rgb_from_hed)
    return np.broadcast_to(np.rint(256 * light - 1).astype(np.uint8), (size, size, 3)).copy()


def test_equals_scikit_image(jitter) -> None:
    """Separated, scaled and shifted, and combined again by scikit-image, whose unit is log(1e-6)."""
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0.1, 1.2, (60, 70, 3)) * (1, 1, 0.3)
    image = np.rint(256 * np.exp(-amounts @ rgb_from_hed) - 1).clip(0, 255).astype(np.uint8)
    separated = np.log((image + 1.0) / 256) @ hed_from_rgb
    assert (separated <= 0).mean() > 0.9  # scikit-image cuts negative amounts off, where rounding made one
    scales, shifts = np.array([1.25, 0.8, 1.1]), np.array([0.05, 0.08, 0.02])
    unit = -np.log(1e-6)
    theirs = separate_stains((image + 1.0) / 256, hed_from_rgb)
    theirs = combine_stains((theirs * unit * scales + shifts) / unit, rgb_from_hed)
    ours = image.copy()
    jitter.apply(ours, scales, shifts)
    expected = (256 * theirs - 1).clip(0, 255)
    kept = (separated <= 0).all(axis=2)
    assert kept.mean() > 0.7
    assert np.abs(ours - expected)[kept].max() <= 1


def test_no_change_changes_no_pixel_of_any_colour(jitter) -> None:
    values = np.arange(256, dtype=np.uint8)
    image = np.stack(np.meshgrid(values[::5], values[::5], values[::5]), axis=-1).reshape(-1, 52, 3).copy()
    before = image.copy()
    jitter.apply(image, ONE, ZERO)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("stain", [0, 1])
def test_scaling_a_stain_is_having_had_more_of_it(jitter, stain) -> None:
    amounts = np.array([0.6, 0.5, 0.1])
    image = stained(*amounts)
    scales = np.where(np.arange(3) == stain, 1.3, 1.0)
    jitter.apply(image, scales, ZERO)
    assert np.abs(image.astype(int) - stained(*(amounts * scales))).max() <= 3  # the image was rounded before


def test_shifting_a_stain_is_adding_of_it(jitter) -> None:
    image = stained(0.6, 0.5, 0.1)
    jitter.apply(image, ONE, np.array([0.0, 0.1, 0.0]))
    assert np.abs(image.astype(int) - stained(0.6, 0.6, 0.1)).max() <= 2


def test_glass_stays_white_whatever_the_scales(jitter) -> None:
    image = np.full((3, 3, 3), 255, np.uint8)
    jitter.apply(image, np.array([1.3, 0.7, 1.2]), ZERO)
    assert (image == 255).all()


def test_values_stay_in_their_range(jitter) -> None:
    image = np.random.default_rng(1).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    dark, light = image.copy(), image.copy()
    jitter.apply(dark, ONE, np.full(3, 9.0))
    jitter.apply(light, ONE, np.full(3, -9.0))
    assert dark.max() <= 1
    assert light.min() == 255


def test_amounts_are_drawn_within_their_ranges_and_sometimes_nothing_happens() -> None:
    class Noted(StainJitter):
        def apply(self, image, scales, shifts):
            drawn.append((scales, shifts))

    drawn: list = []
    noted = Noted(scale=0.3, shift=0.1, probability=0.8)
    for seed in range(400):
        noted(np.zeros((1, 1, 3), np.uint8), np.random.default_rng(seed))
    assert 280 < len(drawn) < 360  # expectation 320, standard deviation 8
    scales, shifts = (np.stack(values) for values in zip(*drawn, strict=True))
    assert scales.min() >= 0.7
    assert scales.max() <= 1.3
    assert np.abs(shifts).max() <= 0.1
    # Each stain by itself: uniform, and no two in step.
    assert np.allclose(scales.std(axis=0), 0.6 / 12**0.5, rtol=0.15)
    assert np.allclose(shifts.std(axis=0), 0.2 / 12**0.5, rtol=0.15)
    together = np.corrcoef(np.concatenate([scales, shifts], axis=1).T) - np.eye(6)
    assert np.abs(together).max() < 0.25


def test_images_of_other_sizes_may_follow_each_other(jitter) -> None:
    for size in (4, 9, 4):
        image = stained(0.6, 0.5, 0.1, size=size)
        jitter.apply(image, ONE, ZERO)
        assert np.array_equal(image, stained(0.6, 0.5, 0.1, size=size))


def test_importing_the_pipeline_imports_no_scikit_image_and_building_strong_does() -> None:
    """The stream's first batch does not wait for it."""
    code = (
        "import sys, searcher.data_pipeline\n"
        "assert 'skimage.color' not in sys.modules\n"
        "searcher.data_pipeline.build_augmentation('strong', crop_px=8)\n"
        "assert 'skimage.color.colorconv' in sys.modules\n"
        "assert 'albumentations' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_optical_density_by_hand() -> None:
    """White has none, half the light log10 of 2, black log10 of 256."""
    density = optical_density(np.array([[255, 127, 0]], np.uint8))
    np.testing.assert_allclose(density, [[0, np.log10(2), np.log10(256)]], rtol=1e-6)


def test_amounts_are_those_that_an_image_was_made_of() -> None:
    decadic = np.log(10)
    density = optical_density(stained(0.4 * decadic, 0.2 * decadic, 0.1 * decadic))
    expected = np.broadcast_to([0.4, 0.2, 0.1], (4, 4, 3))
    np.testing.assert_allclose(stain_amounts(density), expected, atol=0.01)


def test_amounts_are_six_times_scikit_images() -> None:
    rng = np.random.default_rng(0)
    image = np.rint(256 * 10 ** -(rng.uniform(0.05, 0.5, (50, 50, 3)) @ rgb_from_hed) - 1).astype(np.uint8)
    theirs = 6 * separate_stains((image + 1.0) / 256, hed_from_rgb)
    ours = stain_amounts(optical_density(image))
    np.testing.assert_allclose(np.where(ours > 0, ours, 0), theirs, atol=1e-5)
