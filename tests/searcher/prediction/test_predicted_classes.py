"""What is written of the classes of objects: tables, GeoJSON, overlays; by hand on a painted image."""

import csv
import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from toy_models import RedIsProbability

from searcher.api.predictions_table import PredictionsTable, read_table
from searcher.data_pipeline.datasets.annotations.geojson import read_geojson
from searcher.inference.predictor import Predictor
from searcher.models.values import InstanceMaps
from searcher.prediction.file_prediction import Options, predict_image
from searcher.report.class_colours import class_colour, with_legend

NAMES = ("=round", "long, thin", "none of it")


class RedIsObjectGreenIsClass(RedIsProbability):
    """Where red is an object; green is the probability of the first of three classes, the rest of the second."""

    num_classes = 3

    def predict_maps(self, images):
        red, green = images[..., 0].float() / 255, images[..., 1].float() / 255
        return torch.stack([red, green, 1 - green, torch.zeros_like(red)], dim=1)

    def instance_maps(self, maps):
        return InstanceMaps(maps[0], None, maps[1:])


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """Two objects of the first class, 8x8 and 4x4, one of the second, 6x6; pixels of 0.5 um."""
    folder = tmp_path_factory.mktemp("out")
    image = np.zeros((40, 200, 3), np.uint8)
    for (row, column, side), green in (((4, 4, 8), 255), ((4, 40, 6), 51), ((30, 150, 4), 204)):
        image[row : row + side, column : column + side] = (255, green, 0)
    Image.fromarray(image).save(folder / "a.png")
    predictor = Predictor([RedIsObjectGreenIsClass()], device=torch.device("cpu"))
    options = Options(folder=folder, pixel_size_um=0.5, class_names=NAMES)
    return folder, predict_image(folder / "a.png", predictor, options)


def test_the_table_of_objects_has_class_and_probability(predicted):
    folder, _ = predicted
    with (folder / "a.objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["'=round", "long, thin", "'=round"], "no cell is a formula"
    assert [float(row["class_probability"]) for row in rows] == pytest.approx([1.0, 0.8, 0.8])


def test_geojson_has_each_object_s_class_in_its_colour(predicted):
    folder, _ = predicted
    features = json.loads((folder / "a.geojson").read_text())["features"]
    expected = [{"name": NAMES[n - 1], "color": list(class_colour(n))} for n in (1, 2, 1)]
    assert [each["properties"]["classification"] for each in features] == expected
    assert "class" not in features[0]["properties"]["measurements"], "it is no number"
    assert features[1]["properties"]["measurements"]["class_probability"] == pytest.approx(0.8)
    assert [shape.category for shape in read_geojson(folder / "a.geojson").shapes] == [
        NAMES[n - 1] for n in (1, 2, 1)
    ], "the importer reads the same names"


def test_the_overlay_has_the_classes_colours_and_a_legend_below(predicted):
    folder, _ = predicted
    picture = np.asarray(Image.open(folder / "a.overlay.png"))
    assert picture.shape[0] > 40, "the legend"
    assert picture.shape[1] == 200
    assert tuple(picture[4, 4]) == class_colour(1)
    assert tuple(picture[4, 40]) == class_colour(2)
    for number in (1, 2, 3):
        assert (picture[40:] == class_colour(number)).all(axis=2).any(), "each class is in the legend"


def test_counts_and_areas_by_class(predicted):
    _, result = predicted
    assert {name: (found.objects, found.area_px) for name, found in result.classes.items()} == {
        "=round": (2, 8 * 8 + 4 * 4), "long, thin": (1, 36), "none of it": (0, 0)
    }  # fmt: skip
    assert result.to_dict()["classes"]["long, thin"] == {"objects": 1, "area_px": 36, "area_um2": 9.0}


def test_the_table_of_images_has_them_and_keeps_those_of_before(predicted, tmp_path):
    _, result = predicted
    path = tmp_path / "predictions.csv"
    path.write_text("image,height,objects_long,note\nb.png,3,4,mine\n")
    table = PredictionsTable(path, ["a.png"], NAMES)
    table.add("a.png", result.to_dict())
    table.close()
    found = read_table(path)
    assert found.rows["a.png"]["objects_=round"] == "2"
    assert found.rows["a.png"]["area_um2_long, thin"] == "9.0"
    assert found.rows["b.png"]["note"] == "mine"
    assert found.rows["b.png"]["objects_long"] == "4"


def test_without_classes_nothing_is_said_of_them(tmp_path):
    image = np.zeros((20, 20, 3), np.uint8)
    image[5:10, 5:10] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    predictor = Predictor([RedIsProbability()], device=torch.device("cpu"))
    result = predict_image(tmp_path / "a.png", predictor, Options(folder=tmp_path))
    assert "classes" not in result.to_dict()
    assert "class" not in (tmp_path / "a.objects.csv").read_text()
    assert Image.open(tmp_path / "a.overlay.png").size == (20, 20)
    assert tifffile.imread(tmp_path / "a.labels.tif").shape == (20, 20)


def test_a_legend_wraps_into_rows_that_fit():
    picture = np.zeros((10, 120, 3), np.uint8)
    one, many = (with_legend(picture, ["epithelial"] * num) for num in (1, 6))
    assert one.shape[1] == many.shape[1] == 120
    assert many.shape[0] - 10 > 3 * (one.shape[0] - 10)
    assert not one[:10].any(), "no pixel is covered"
