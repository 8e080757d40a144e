"""Measurements, beside scikit-image's and beside a calculation by hand."""

import numpy as np
import pytest
from label_maps import mapped
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.measure import label, regionprops

from searcher.data_pipeline.images import ArrayRaster
from searcher.prediction import label_map
from searcher.prediction.morphology import measure_objects


def measured(labels, image, folder, pixel_size_um=None):
    with mapped(labels, folder) as there:
        return measure_objects(there, ArrayRaster(image), pixel_size_um)


def blobs(seed: int, height: int = 150, width: int = 170) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((height, width)), 3)
    return label(noise > 0.02)


def some_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(9).integers(20, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("block_px", [7, 64, 2048])
def test_shapes_are_scikit_images_whatever_the_blocks(tmp_path, monkeypatch, block_px):
    monkeypatch.setattr(label_map, "_BLOCK_PX", block_px)
    labels = blobs(1)
    assert labels.max() > 20
    table = measured(labels, some_image(*labels.shape), tmp_path)
    regions = regionprops(labels)
    names = {
        "area_px": "area", "perimeter_px": "perimeter", "eccentricity": "eccentricity", "solidity": "solidity",
        "equivalent_diameter_px": "equivalent_diameter_area", "major_axis_px": "axis_major_length",
        "minor_axis_px": "axis_minor_length",
    }  # fmt: skip
    for ours, theirs in names.items():
        expected = [getattr(region, theirs) for region in regions]
        np.testing.assert_allclose(table[ours], expected, rtol=1e-6, atol=1e-6, err_msg=ours)
    np.testing.assert_allclose(table["centroid_y_px"], [r.centroid[0] + 0.5 for r in regions])
    np.testing.assert_allclose(table["centroid_x_px"], [r.centroid[1] + 0.5 for r in regions])
    boxes = [(r.bbox[1], r.bbox[0], r.bbox[3] - r.bbox[1], r.bbox[2] - r.bbox[0]) for r in regions]
    columns = ("bbox_x_px", "bbox_y_px", "bbox_width_px", "bbox_height_px")
    np.testing.assert_array_equal(np.stack([table[name] for name in columns], axis=1), boxes)
    for number, region in enumerate(regions):
        if region.eccentricity > 0.3:  # theirs is the angle from the rows' axis
            apart = table["orientation_deg"][number] - (np.degrees(region.orientation) - 90)
            assert abs((apart + 90) % 180 - 90) < 1e-6


def test_staining_is_scikit_images(tmp_path, monkeypatch):
    monkeypatch.setattr(label_map, "_BLOCK_PX", 40)
    labels = blobs(2)
    # Mixtures of the stains, so that scikit-image cuts no negative amount to 0.
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0.05, 0.5, (*labels.shape, 2))
    colours = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    image = np.rint(255 * 10 ** -(amounts @ colours)).astype(np.uint8)
    table = measured(labels, image, tmp_path)
    hed = 6 * rgb2hed(image)  # theirs is divided by the density of 1e-6
    for region in regionprops(labels):
        inside = labels == region.label
        for n, stain in enumerate(("hematoxylin", "eosin")):
            assert table[f"{stain}_od_mean"][region.label - 1] == pytest.approx(
                hed[inside, n].mean(), abs=6e-3
            )
            assert table[f"{stain}_od_sd"][region.label - 1] == pytest.approx(hed[inside, n].std(), abs=6e-3)


def test_by_hand(tmp_path):
    """A rectangle of 4 x 2 pixels at (3, 1), with one white pixel; its pixels are 0.5 um wide."""
    labels = np.zeros((6, 10), np.int32)
    labels[1:3, 3:7] = 1
    image = np.full((6, 10, 3), 99, np.uint8)
    image[1, 3] = 255
    image[2, 3] = (255, 255, 180)  # 256 / 181 is a density of 0.1505: stained
    table = measured(labels, image, tmp_path, pixel_size_um=0.5)
    row = {name: column[0] for name, column in table.items()}
    assert (row["centroid_x_px"], row["centroid_y_px"]) == (5.0, 2.0)
    assert (row["area_px"], row["area_um2"]) == (8, 2.0)
    # Variances (n^2 - 1) / 12 of 4 and of 2 pixels: 1.25 and 0.25; axes 4 times their roots.
    assert row["major_axis_px"] == pytest.approx(4 * 1.25**0.5)
    assert row["minor_axis_um"] == pytest.approx(4 * 0.25**0.5 * 0.5)
    assert row["eccentricity"] == pytest.approx((1 - 0.25 / 1.25) ** 0.5)
    assert row["orientation_deg"] == 0
    assert row["solidity"] == 1
    assert (row["perimeter_px"], row["perimeter_um"]) == (8, 4), "through the pixels' centres: 3 + 1 + 3 + 1"
    assert (row["lumen_area_px"], row["lumen_fraction"], row["lumen_area_um2"]) == (1, 0.125, 0.25)
    assert row["score"] == 0.5
    assert row["touches_edge"] == 0


@pytest.mark.parametrize(("falls", "expected"), [(True, -45), (False, 45)])
def test_orientation_counts_from_the_horizontal_counterclockwise(tmp_path, falls, expected):
    labels = np.eye(12, dtype=np.int32)
    labels = labels if falls else labels[:, ::-1]
    assert measured(labels, some_image(12, 12), tmp_path)["orientation_deg"] == pytest.approx([expected])


def test_what_reaches_the_border_says_so_and_a_single_pixel_has_no_circularity(tmp_path):
    labels = np.zeros((8, 8), np.int32)
    labels[3, 3], labels[6:, 2:4] = 1, 2
    table = measured(labels, some_image(8, 8), tmp_path)
    assert table["touches_edge"].tolist() == [0, 1]
    assert np.isnan(table["circularity"][0])
    assert table["solidity"][0] == 1


def test_no_object_is_an_empty_table(tmp_path):
    table = measured(np.zeros((8, 8), np.int32), some_image(8, 8), tmp_path, pixel_size_um=1.0)
    assert {len(column) for column in table.values()} == {0}
    assert "area_um2" in table
