"""What is written about an image can be read again, by independent readers, and is whole or not there."""

import csv
import json

import numpy as np
import pytest
import tifffile
from label_maps import mapped
from PIL import Image
from skimage.draw import polygon2mask

from searcher.data_pipeline.images import ArrayRaster
from searcher.prediction import outputs
from searcher.prediction.geojson import write_geojson
from searcher.prediction.morphology import measure_objects
from searcher.prediction.outputs import (
    all_or_nothing,
    output_paths,
    write_csv,
    write_labels,
    write_overlay,
)
from searcher.report.overlays import PREDICTION_COLOUR, overlay


def some_labels() -> np.ndarray:
    labels = np.zeros((60, 80), np.int32)
    labels[5:25, 10:40] = 1
    labels[10:14, 20:30] = 0
    labels[11, 22:25] = 2
    labels[40:50, 50:60] = 3
    labels[50:55, 60:70] = 3  # joined diagonally
    return labels


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


@pytest.fixture
def there(tmp_path):
    with mapped(some_labels(), tmp_path) as labels:
        yield labels


class TestLabels:
    @pytest.mark.parametrize("is_tiled", [False, True])
    def test_come_back_with_their_pixel_size(self, tmp_path, there, monkeypatch, is_tiled):
        if is_tiled:
            monkeypatch.setattr(outputs, "_TIFF_STRIPS_UP_TO_PX", 50)
            monkeypatch.setattr(outputs, "_TIFF_TILE_PX", 32)
        write_labels(tmp_path / "l.tif", there, pixel_size_um=0.25)
        with tifffile.TiffFile(tmp_path / "l.tif") as tiff:
            [page] = tiff.pages
            assert page.dtype == np.uint16
            assert page.is_tiled == is_tiled
            assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
            assert page.get_resolution("MICROMETER") == pytest.approx((4, 4))
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "l.tif"), some_labels())
        if not is_tiled:
            with Image.open(tmp_path / "l.tif") as opened:
                np.testing.assert_array_equal(np.asarray(opened), some_labels())

    def test_more_objects_than_16_bits_have_take_32(self, tmp_path):
        labels = np.arange(70_000, dtype=np.int32).reshape(250, 280)
        with mapped(labels, tmp_path) as many:
            write_labels(tmp_path / "l.tif", many, None)
        read = tifffile.imread(tmp_path / "l.tif")
        assert read.dtype == np.uint32
        np.testing.assert_array_equal(read, labels)

    def test_what_classic_tiff_cannot_hold_is_bigtiff(self, tmp_path, there, monkeypatch):
        monkeypatch.setattr(outputs, "_CLASSIC_TIFF_BYTES", 100)
        write_labels(tmp_path / "l.tif", there, None)
        with tifffile.TiffFile(tmp_path / "l.tif") as tiff:
            assert tiff.is_bigtiff


class TestOverlay:
    @pytest.mark.parametrize("band_px", [7, 512])
    def test_shows_the_image_but_for_the_outlines(self, tmp_path, there, image, monkeypatch, band_px):
        monkeypatch.setattr(outputs, "_OVERLAY_BAND_PX", band_px)
        write_overlay(tmp_path / "o.png", there, ArrayRaster(image))
        shown = np.asarray(Image.open(tmp_path / "o.png"))
        np.testing.assert_array_equal(shown, overlay(image, None, some_labels(), width_px=2))
        assert (shown[40, 50:60] == PREDICTION_COLOUR).all()
        assert (shown[44:46, 54:56] == image[44:46, 54:56]).all(), "inside"

    @pytest.mark.parametrize("block_px", [8, 2048])
    def test_a_large_image_is_reduced_to_means(self, tmp_path, monkeypatch, block_px):
        monkeypatch.setattr(outputs, "_OVERLAY_PX", 27)
        monkeypatch.setattr(outputs, "_OVERLAY_BLOCK_PX", block_px)
        image = np.random.default_rng(0).integers(0, 256, (61, 80, 3), np.uint8)
        with mapped(np.zeros((61, 80), np.int32), tmp_path) as labels:
            write_overlay(tmp_path / "o.png", labels, ArrayRaster(image))
        shown = np.asarray(Image.open(tmp_path / "o.png"))
        assert shown.shape == (20, 26, 3)
        means = image[:60, :78].reshape(20, 3, 26, 3, 3).mean(axis=(1, 3))
        assert np.abs(shown - means).max() < 0.6


def test_csv_has_a_row_for_each_object(tmp_path, there, image):
    table = measure_objects(there, ArrayRaster(image), 0.5)
    write_csv(tmp_path / "c.csv", table)
    with (tmp_path / "c.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["1", "2", "3"]
    assert [int(row["area_px"]) for row in rows] == [560, 3, 150]
    assert [float(row["area_um2"]) for row in rows] == [140, 0.75, 37.5]
    assert float(rows[2]["centroid_x_px"]) == pytest.approx((100 * 55 + 50 * 65) / 150)


class TestGeoJson:
    def test_filled_polygons_are_the_objects_pixels(self, tmp_path, there, image):
        write_geojson(
            tmp_path / "g.geojson", there, measure_objects(there, ArrayRaster(image), None), "Gland"
        )
        collection = json.loads((tmp_path / "g.geojson").read_text())
        assert collection["type"] == "FeatureCollection"
        filled = np.zeros((60, 80), int)
        for label, feature in enumerate(collection["features"], start=1):
            geometry = feature["geometry"]
            polygons = geometry["coordinates"]
            if geometry["type"] == "Polygon":
                polygons = [polygons]
            for rings in polygons:
                for number, ring in enumerate(rings):
                    assert ring[0] == ring[-1]
                    corners = (
                        np.array(ring)[:, ::-1] - 0.5
                    )  # scikit-image's pixels have their centres at whole numbers
                    filled += (label if number == 0 else -label) * polygon2mask((60, 80), corners)
        np.testing.assert_array_equal(filled, some_labels())
        assert [each["geometry"]["type"] for each in collection["features"]] == [
            "Polygon",
            "Polygon",
            "MultiPolygon",
        ]

    def test_properties_are_what_qupath_reads(self, tmp_path, there, image):
        table = measure_objects(there, ArrayRaster(image), 0.5)
        write_geojson(tmp_path / "g.geojson", there, table, "Crypt")
        feature = json.loads((tmp_path / "g.geojson").read_text())["features"][0]
        properties = feature["properties"]
        assert feature["type"] == "Feature"
        assert properties["objectType"] == "detection"
        assert properties["classification"]["name"] == "Crypt"
        assert len(properties["classification"]["color"]) == 3
        assert properties["measurements"]["area_um2"] == 140
        assert "circularity" in properties["measurements"]
        assert all(isinstance(value, int | float) for value in properties["measurements"].values())

    def test_a_value_that_is_none_is_left_out(self, tmp_path, image):
        labels = np.zeros((60, 80), np.int32)
        labels[3, 4] = 1
        with mapped(labels, tmp_path) as there:
            write_geojson(
                tmp_path / "g.geojson", there, measure_objects(there, ArrayRaster(image), None), "A"
            )
        [feature] = json.loads((tmp_path / "g.geojson").read_text())["features"]
        assert "circularity" not in feature["properties"]["measurements"]

    def test_no_object_is_an_empty_collection(self, tmp_path, image):
        with mapped(np.zeros((60, 80), np.int32), tmp_path) as there:
            write_geojson(
                tmp_path / "g.geojson", there, measure_objects(there, ArrayRaster(image), None), "A"
            )
        assert json.loads((tmp_path / "g.geojson").read_text())["features"] == []


class TestAllOrNothing:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
    def test_nothing_is_left_of_what_was_not_completed(self, tmp_path, error):
        paths = output_paths(tmp_path, "a", ["csv", "labels"])
        paths["csv"].write_text("old")
        with pytest.raises((KeyboardInterrupt, OSError)), all_or_nothing(paths) as written:  # noqa: PT012
            written["csv"].write_text("new")
            raise error
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.objects.csv": "old"}

    def test_all_come_to_their_place(self, tmp_path):
        paths = output_paths(tmp_path, "a", ["csv", "geojson"])
        with pytest.raises(FileNotFoundError), all_or_nothing(paths) as written:
            partial = written["csv"].parent
        (partial / "of a process that was killed").mkdir(parents=True)
        with all_or_nothing(paths) as written:
            for path in written.values():
                path.write_text("new")
            assert not paths["csv"].exists()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.geojson", "a.objects.csv"]
