"""Which normalisation a data set wants: fluorescence is told from tissue, however dark it is."""

import numpy as np
import pytest

from searcher.data_pipeline import SyntheticGlands
from searcher.data_pipeline.exposure import choose_normalisation, exposure_of


def tissue(exposure: float = 1.0) -> list[np.ndarray]:
    source = SyntheticGlands(num_images=4, size_px=96, seed=3)
    return [np.rint(source.read(index)[0] * exposure).astype(np.uint8) for index in range(4)]


def nuclei(exposure: float, channels: tuple[float, float, float], cover: float = 0.2) -> list[np.ndarray]:
    """Bright discs on a dark ground, of these parts of the brightest value in red, green and blue."""
    rng = np.random.default_rng(5)
    images = []
    for _ in range(3):
        grey = rng.normal(12, 3, (96, 96))
        y, x = np.mgrid[:96, :96]
        while (grey > 60).mean() < cover:
            centre = rng.uniform(0, 96, 2)
            grey[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 60] = rng.uniform(120, 220)
        images.append((grey[..., None] * channels * exposure).clip(0, 255).astype(np.uint8))
    return images


def chosen(images: list[np.ndarray]) -> str:
    return choose_normalisation(3, "uint8", map(exposure_of, images)).kind


@pytest.mark.parametrize("exposure", [1.0, 0.5, 0.25, 0.1])
def test_tissue_is_never_fluorescence_however_dark_the_slide(exposure: float) -> None:
    assert chosen(tissue(exposure)) == "fixed"


@pytest.mark.parametrize("exposure", [1.0, 0.25, 0.1])
@pytest.mark.parametrize(
    "channels", [(1, 1, 1), (0, 0, 1), (0.1, 0.9, 0.3)], ids=["grey", "blue", "screen colours"]
)
def test_fluorescence_is_normalised_at_every_exposure(exposure: float, channels) -> None:
    assert chosen(nuclei(exposure, channels)) == "percentile"


def test_grey_that_is_bright_is_left_alone() -> None:
    assert chosen([255 - image for image in nuclei(1.0, (1, 1, 1))]) == "fixed"


def test_deep_images_and_other_channels_always_are() -> None:
    deep = choose_normalisation(1, "uint16", ())
    assert str(deep) == "normalisation is percentile, since images have 16 bit"
    assert choose_normalisation(2, "uint8", ()).reason == "images have 2 channels"
