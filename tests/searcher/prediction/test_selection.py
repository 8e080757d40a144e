"""A region, glass, thresholds and ids: what of an image is predicted."""

import csv
import json
import uuid
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
import torch
from PIL import Image
from toy_models import RedIsProbability

from searcher.data_pipeline.tiling import Tile
from searcher.exceptions import UserError
from searcher.inference.predictor import Predictor
from searcher.prediction.file_prediction import Options, predict_image
from searcher.prediction.selection import Region, is_glass, read_region

SQUARES = ((5, 5, 10), (30, 30, 10), (30, 70, 10), (60, 100, 4))
"""Top, left and side."""


def squares(value: int = 255) -> np.ndarray:
    image = np.zeros((90, 120, 3), np.uint8)
    for top, left, side in SQUARES:
        image[top : top + side, left : left + side] = value
    return image


def predicted(
    folder: Path, image: np.ndarray, *, tile_px: int = 0, **options: object
) -> tuple[np.ndarray, list]:
    (folder / "out").mkdir(exist_ok=True)
    Image.fromarray(image).save(folder / "a.png")
    model = RedIsProbability()
    predictor = Predictor([model], device=torch.device("cpu"), tile_px=tile_px, tile_overlap_px=8)
    predict_image(folder / "a.png", predictor, Options(folder=folder / "out", **options))  # type: ignore[arg-type]
    return tifffile.imread(folder / "out" / "a.labels.tif"), model.sizes


@pytest.mark.parametrize("tile_px", [0, 32])
def test_objects_mostly_in_the_region_are_kept_whole(tmp_path: Path, tile_px: int) -> None:
    region = read_region("0,0,36,90")  # the first square, and six of ten columns of the second
    labels, sizes = predicted(tmp_path, squares(), tile_px=tile_px, region=region)
    whole, all_sizes = predicted(tmp_path, squares(), tile_px=tile_px)
    assert np.array_equal(labels, np.where(whole <= 2, whole, 0))
    assert np.count_nonzero(labels == 2) == 100
    assert len(sizes) < len(all_sizes) or not tile_px, "what lies elsewhere is not looked at"
    half, _ = predicted(tmp_path, squares(), tile_px=tile_px, region=read_region("0,0,35,90"))
    assert half.max() == 1


def test_regions_of_a_file_are_polygons_at_any_scale(tmp_path: Path) -> None:
    path = tmp_path / "region.geojson"
    geometry = json.loads(shapely.to_geojson(shapely.Polygon([(60, 20), (90, 20), (90, 50), (60, 50)])))
    features = [{"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation"}}]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    region = read_region(str(path))
    for options in ({}, {"pixel_size_um": 0.5, "trained_um": 1.0}):
        labels, _ = predicted(tmp_path, squares(), tile_px=24, region=region, **options)
        assert labels.max() == 1
        assert np.argwhere(labels)[0].tolist() == [30, 70]
    triangle = Region(shapely.Polygon([(0, 0), (4, 0), (0, 4)]))
    assert triangle.mask(Tile(0, 0, 3, 4)).tolist() == [
        [True, True, True, True],
        [True, True, True, False],
        [True, True, False, False],
    ]


@pytest.mark.parametrize("text", ["1,2,3", "0,0,0,5", "-1,0,5,5", "a,b,c,d", "missing.geojson", ""])
def test_what_is_no_region_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match="must be x,y,width,height in whole pixels, or a GeoJSON file"):
        read_region(text)


def test_a_region_beside_the_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--region must lie in the image of 120x90 px"):
        predicted(tmp_path, squares(), region=read_region("500,500,10,10"))


def test_threshold_and_smallest_area(tmp_path: Path) -> None:
    image = squares(102)  # a probability of 0.4
    assert predicted(tmp_path, image)[0].max() == 0
    assert predicted(tmp_path, image, threshold=0.3)[0].max() == 4
    assert predicted(tmp_path, image, threshold=0.3, min_area_px=17)[0].max() == 3
    assert predicted(tmp_path, image, threshold=0.3, min_area_px=16)[0].max() == 4
    halved = {"pixel_size_um": 0.5, "trained_um": 1.0}
    assert predicted(tmp_path, image, threshold=0.3, min_area_px=50, **halved)[0].max() == 3


@pytest.mark.parametrize(
    ("num_dark", "value", "expected"), [(0, 0, True), (4, 0, True), (5, 180, False), (5, 181, True)]
)
def test_glass_is_where_at_most_one_pixel_of_a_thousand_is_tissue(
    num_dark: int, value: int, expected: bool
) -> None:
    tile = np.full((40, 100, 3), 240, np.uint8)  # 4000 px
    tile.reshape(-1, 3)[:num_dark, 1] = value
    assert is_glass(tile) is expected


def test_glass_is_not_looked_at(tmp_path: Path) -> None:
    image = np.full((64, 128, 3), 250, np.uint8)
    image[:, :30] = (255, 60, 60)
    everywhere, sizes = predicted(tmp_path, image, tile_px=32)
    labels, fewer = predicted(tmp_path, image, tile_px=32, skips_glass=True)
    assert everywhere.all(), "to this model, glass is foreground"
    assert labels[:, :30].all()
    assert not labels[:, 60:].any()
    assert 0 < len(fewer) < len(sizes)
    nothing, seen = predicted(tmp_path, np.full((64, 64, 3), 250, np.uint8), tile_px=32, skips_glass=True)
    assert not nothing.any()
    assert len(seen) == 1, "one look, for the number of maps"


def test_objects_have_ids_that_stay(tmp_path: Path) -> None:
    features = []
    for _ in range(2):
        predicted(tmp_path, squares(), class_name="Nucleus")
        collection = json.loads((tmp_path / "out" / "a.geojson").read_text())
        features.append(collection["features"])
    ids = [uuid.UUID(feature["id"]) for feature in features[0]]
    assert len(set(ids)) == len(SQUARES)
    assert features[0] == features[1]
    assert {feature["properties"]["classification"]["name"] for feature in features[0]} == {"Nucleus"}
    with (tmp_path / "out" / "a.objects.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(SQUARES)
