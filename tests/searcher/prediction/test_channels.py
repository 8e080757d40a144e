"""Images of other channels and depths than 8 bit RGB, as networks see them, and what is measured and drawn of them."""

import numpy as np
import pytest
import tifffile
import torch
from label_maps import mapped
from PIL import Image
from toy_models import RedIsProbability

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import ArrayRaster
from searcher.data_pipeline.normalisation import Normalisation, levels_of
from searcher.data_pipeline.tiling import Tile
from searcher.inference.image_kind import ImageKind
from searcher.inference.predictor import Predictor
from searcher.prediction import images, label_map
from searcher.prediction.file_prediction import Options, predict_image
from searcher.prediction.images import Normalised, is_dark, open_image, read_as_seen
from searcher.prediction.morphology import measure_objects
from searcher.prediction.raster import Resampled
from searcher.report.composite import COLOURS, composite

PERCENTILE = Normalisation("percentile")
TWO = ImageKind(2, "uint16", PERCENTILE)


def cells(height=40, width=50, channels=2, seed=0):
    """Dim noise with a bright square at rows 10 to 19 and columns 5 to 19."""
    image = np.random.default_rng(seed).integers(100, 300, (height, width, channels)).astype(np.uint16)
    image[10:20, 5:20] += 2000
    return image


def write(path, image):
    tifffile.imwrite(path, image.transpose(2, 0, 1), imagej=True, metadata={"axes": "CYX"})
    return path


def whole(raster):
    return raster.read(Tile(0, 0, raster.height, raster.width))


@pytest.mark.parametrize("block_px", [7, 2048])
def test_levels_are_those_of_the_whole_image_whatever_the_blocks(tmp_path, monkeypatch, block_px):
    monkeypatch.setattr(images, "_BLOCK_PX", block_px)
    image = cells()
    expected = levels_of(image, PERCENTILE).apply(image)
    with open_image(write(tmp_path / "a.tif", image), tmp_path, TWO) as raster:
        seen = Normalised(raster, TWO)
        np.testing.assert_array_equal(whole(seen), expected)
        np.testing.assert_array_equal(seen.read(Tile(8, 3, 9, 11)), expected[8:17, 3:14])
    np.testing.assert_array_equal(read_as_seen(tmp_path / "a.tif", TWO), expected)


def test_half_the_exposure_is_seen_alike(tmp_path):
    image = cells() // 2 * 2
    write(tmp_path / "a.tif", image)
    write(tmp_path / "b.tif", image // 2)
    np.testing.assert_array_equal(
        read_as_seen(tmp_path / "a.tif", TWO), read_as_seen(tmp_path / "b.tif", TWO)
    )


@pytest.mark.parametrize(
    ("image", "kind", "rule"),
    [
        (cells(channels=3), TWO, r"a.tif: must have 2 channels, .*, got 16 bit, 3 channels"),
        (cells(channels=1), TWO, r"a.tif: must have 2 channels, .*, got 16 bit grey"),
        (
            cells(),
            ImageKind(1, "uint16", PERCENTILE),
            r"a.tif: must have 1 channel, .*, got 16 bit, 2 channels",
        ),
        (cells(), ImageKind(2, "uint8"), r"a.tif: must have 8 bit, .*, got 16 bit, 2 channels"),
        (cells(), ImageKind(), r"a.tif: an image must be 8 bit colour or grey, got 16 bit, 2 channels"),
    ],
)
def test_an_image_of_another_kind_is_refused_in_one_line(tmp_path, image, kind, rule):
    path = write(tmp_path / "a.tif", image)
    with pytest.raises(DataError, match=rule) as error:
        open_image(path, tmp_path, kind)
    assert "\n" not in str(error.value)


def test_grey_is_taken_in_place_of_three_equal_channels(tmp_path):
    grey = np.random.default_rng(0).integers(0, 99, (9, 8), np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_as_seen(tmp_path / "a.png", ImageKind()), np.dstack([grey] * 3))
    stretched = read_as_seen(tmp_path / "a.png", ImageKind(normalisation=PERCENTILE))
    assert stretched.shape == (9, 8, 3)
    assert stretched.max() == 255


def test_colour_as_it_is_costs_no_copy():
    image = np.zeros((4, 4, 3), np.uint8)
    assert ImageKind().normalised(image) is image


def test_resampled_channels_are_each_resampled_as_grey():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 2), np.uint8)
    found = whole(Resampled(ArrayRaster(image), 0.5))
    for channel in range(2):
        grey = Image.fromarray(image[..., channel]).resize((15, 10), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(found[..., channel], np.asarray(grey))


@pytest.mark.parametrize(("brightest", "expected"), [(63, True), (64, False)])
def test_an_image_is_dark_where_its_bright_values_are_below_a_quarter(brightest, expected):
    image = np.zeros((100, 100, 3), np.uint8)
    image[:10] = brightest  # a tenth of the pixels
    image[0, :10] = 255  # 0.1%: dust
    assert is_dark(ArrayRaster(image)) is expected


@pytest.mark.parametrize("block_px", [7, 2048])
def test_intensities_are_numpys_in_the_images_own_values(tmp_path, monkeypatch, block_px):
    monkeypatch.setattr(label_map, "_BLOCK_PX", block_px)
    image = cells(seed=3)
    labels = np.zeros(image.shape[:2], np.int32)
    labels[2:9, 3:20], labels[10:31, 5:9], labels[35, 40] = 1, 2, 3
    with mapped(labels, tmp_path) as there:
        table = measure_objects(there, ArrayRaster(image), 0.5, is_stained=False)
    for label in (1, 2, 3):
        for channel in (0, 1):
            values = image[labels == label, channel].astype(np.float64)
            for name in ("mean", "median"):
                assert table[f"channel_{channel + 1}_{name}"][label - 1] == pytest.approx(
                    getattr(np, name)(values)
                )
            assert table[f"channel_{channel + 1}_sd"][label - 1] == pytest.approx(values.std())
    assert not [name for name in table if name.startswith(("lumen", "hematoxylin", "eosin"))]
    assert "area_um2" in table


def test_composites_by_hand():
    grey = np.array([[[7]]], np.uint8)
    assert composite(grey).tolist() == [[[7, 7, 7]]]
    colour = np.array([[[1, 2, 3]]], np.uint8)
    assert composite(colour) is colour
    two = np.array([[[255, 255], [255, 0], [0, 51]]], np.uint8)
    blue = list(COLOURS[0])
    assert composite(two).tolist() == [[[80, 255, 255], blue, [0, 51, 0]]]


class SecondIsProbability(RedIsProbability):
    """Says that the second channel is the probability."""

    def predict_maps(self, images):
        return images[..., 1].float()[:, None] / 255


def test_a_16_bit_image_of_two_channels_from_file_to_outputs(tmp_path):
    image = cells()
    predictor = Predictor([SecondIsProbability()], device=torch.device("cpu"), kind=TWO)
    result = predict_image(write(tmp_path / "a.tif", image), predictor, Options(folder=tmp_path))
    assert result.objects == 1
    labels = tifffile.imread(tmp_path / "a.labels.tif")
    assert np.argwhere(labels).min(axis=0).tolist() == [10, 5]
    assert int((labels > 0).sum()) == 150
    with Image.open(tmp_path / "a.overlay.png") as shown:
        assert shown.mode == "RGB"
    assert "channel_2_median" in (tmp_path / "a.objects.csv").read_text()
