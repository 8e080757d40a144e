"""Rules of single formats, by hand: which pixels, which object wins, what is an object at all."""

import json
from pathlib import Path
from typing import Any

import lab_formats as lab
import numpy as np
import pytest
import roifile
import shapely
import tifffile
from PIL import Image

from searcher.data_pipeline import DataError, open_dataset
from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.annotations.painting import paint
from searcher.data_pipeline.datasets.annotations.shapes import Shape, mask_shape, polygon_shape
from searcher.data_pipeline.datasets.layouts.layout_source import LayoutSource


def painted(*rings: list[Any], size: tuple[int, int] = (8, 8)) -> Annotation:
    shapes = [polygon_shape("a.json", f"object {n}", "", [[ring]]) for n, ring in enumerate(rings, start=1)]
    return paint(shapes, *size, "a.json")


def square(x: float, y: float, side: float) -> list[tuple[float, float]]:
    return [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]


def opened(root: Path) -> LayoutSource:
    source = open_dataset(root)
    assert isinstance(source, LayoutSource)
    return source


def test_a_pixel_belongs_by_its_centre_or_if_the_outline_meets_it() -> None:
    assert np.flatnonzero(painted(square(1, 0, 2)).labels[0]).tolist() == [1, 2]
    assert np.flatnonzero(painted(square(1.6, 0, 1.8)).labels[0]).tolist() == [2]
    assert np.flatnonzero(painted(square(1.5, 0, 2)).labels[0]).tolist() == [1, 2, 3]  # through centres
    thin = painted([(1.5, 3.5), (4.5, 3.5), (1.5, 3.5)]).labels
    assert np.argwhere(thin).tolist() == [[3, 1], [3, 2], [3, 3], [3, 4]]


def test_random_polygons_as_shapely_has_them() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        hull = shapely.convex_hull(shapely.MultiPoint(rng.uniform(-3, 12, (6, 2))))
        expected = [
            [shapely.intersects(hull, shapely.Point(x + 0.5, y + 0.5)) for x in range(9)] for y in range(7)
        ]
        if np.any(expected):
            ring = list(hull.exterior.coords)
            assert np.array_equal(painted(ring, size=(7, 9)).labels > 0, expected)


def test_the_smaller_object_keeps_the_pixels_and_of_two_the_later() -> None:
    found = painted(square(2, 2, 2), square(0, 0, 6), square(3, 2, 2))
    assert found.labels[2].tolist() == [2, 2, 1, 3, 3, 2, 0, 0]
    assert found.remarks == ("a.json: objects overlap in 8 px; the smaller one of each two keeps them",)


def test_objects_without_a_pixel_are_left_out_and_said() -> None:
    found = painted(square(1.6, 1.6, 0.8), square(3, 3, 2), square(0, 0, 0.2), [(6, 6)], square(3, 3, 2))
    assert np.unique(found.labels).tolist() == [0, 1]
    assert found.remarks[1:] == (
        "a.json: left out 3 objects (object 1, object 3, object 4), too small to hold a pixel's centre",
        "a.json: left out 1 objects (object 2), wholly below smaller objects",
    )


def test_an_outline_that_crosses_itself_a_little_is_taken_and_said() -> None:
    found = painted([(0, 0), (7, 0), (7, 7), (0, 7), (0, 0.2), (0.2, 0.2), (0.2, 0)])
    assert (found.labels[:7, :7] == 1).all()
    assert "crosses itself" in found.remarks[0]


def test_masks_are_cut_to_the_image() -> None:
    shape = mask_shape("a", "", np.ones((4, 4), np.bool_), top=-2, left=6)
    labels = paint([shape], 5, 8, "a").labels
    assert labels.sum() == 4
    assert labels[:2, 6:].all()
    with pytest.raises(DataError, match="must lie in its image of 8x5 px"):
        paint([Shape("a", "", mask=np.ones((2, 2), np.bool_), top=5)], 5, 8, "a")


def test_a_large_image_is_painted_in_parts() -> None:
    found = painted(square(-10, -10, 5000), size=(1500, 1500))
    assert (found.labels == 1).all()


def write_features(root: Path, features: list[dict[str, Any]]) -> None:
    lab.write_image(root / "images" / "a.png", lab.truth())
    (root / "labels").mkdir(parents=True)
    (root / "labels" / "a.geojson").write_text(json.dumps(features))


def feature(region: shapely.Geometry, kind: str = "annotation", category: str = "") -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": kind}
    if category:
        properties["classification"] = {"name": category}
    return {"type": "Feature", "geometry": json.loads(shapely.to_geojson(region)), "properties": properties}


def test_qupath_annotations_around_detections_are_regions(tmp_path: Path) -> None:
    write_features(
        tmp_path, [feature(shapely.box(2, 10, 30, 38)), feature(shapely.box(1, 12, 8, 20), "detection")]
    )
    source = opened(tmp_path)
    image, labels = source.read(0)
    assert np.array_equal(image, lab.picture(lab.truth())[10:38, 2:30])
    expected = np.zeros((28, 28), np.int32)
    expected[2:10, :6] = 1
    assert np.array_equal(labels, expected)
    assert "is cut to its annotated region, 28x28 px" in source.remarks[0]


def test_outside_of_several_regions_or_of_a_triangle_nothing_is_annotated(tmp_path: Path) -> None:
    triangle = shapely.Polygon([(0, 0), (30, 0), (0, 30)])
    write_features(
        tmp_path / "one",
        [
            feature(triangle),
            feature(shapely.box(1, 1, 4, 4), "cell"),
            feature(shapely.box(26, 26, 29, 29), "cell"),
        ],
    )
    source = opened(tmp_path / "one")
    image, labels = source.read(0)
    assert np.array_equal(image, lab.picture(lab.truth())[:30, :30])
    y, x = np.indices((30, 30)) + 0.5
    expected = np.where(x + y <= 30, 0, -1)
    expected[1:4, 1:4], expected[26:29, 26:29] = 1, 2  # an object is known, wherever it lies
    assert np.array_equal(labels, expected)
    assert "of which 48% outside the regions is not annotated" in source.remarks[0]  # 435 of 900 px

    boxes = [feature(shapely.box(x, 10, x + 5, 14)) for x in (2, 10)]
    write_features(tmp_path / "two", [*boxes, feature(shapely.box(3, 11, 5, 13), "detection")])
    labels = opened(tmp_path / "two").read(0)[1]
    assert labels.shape == (4, 13)
    assert (labels[:, 5:8] == -1).all()
    assert np.count_nonzero(labels == -1) == 12
    assert np.count_nonzero(labels == 1) == 4


def test_qupath_regions_points_and_ignored_areas(tmp_path: Path) -> None:
    write_features(
        tmp_path,
        [
            feature(shapely.box(0, 0, lab.WIDTH, lab.HEIGHT), category="Region*"),
            feature(shapely.box(1, 1, 4, 4), category="Tumor"),
            feature(shapely.box(9, 1, 14, 4), category="Ignore*"),
            feature(shapely.Point(3, 3)),
            feature(shapely.MultiPolygon([shapely.box(20, 1, 22, 3), shapely.box(24, 1, 26, 3)]), category="Stroma"),
        ],
    )  # fmt: skip
    source = opened(tmp_path)
    _, found = source.read_annotated(0)
    assert found.classes == {1: "Tumor", 2: "Stroma"}
    assert [int((found.labels == number).sum()) for number in (1, 2)] == [9, 8]
    assert np.argwhere(found.labels == -1).tolist() == [[y, x] for y in (1, 2, 3) for x in range(9, 14)]
    assert len(source.remarks) == 2


def test_labelme_shapes(tmp_path: Path) -> None:
    lab.write_image(tmp_path / "a.png", lab.truth())
    shapes = [
        {"label": "x", "points": [[1, 1], [4, 3]], "shape_type": "rectangle"},
        {"label": "x", "points": [[20, 20], [20, 25]], "shape_type": "circle"},
        {"label": "x", "points": [[30, 1], [33, 1], [33, 4], [30, 4]], "group_id": 1},
        {"label": "x", "points": [[40, 1], [43, 1], [43, 4], [40, 4]], "group_id": 1},
        {"label": "x", "points": [[1, 1]], "shape_type": "point"},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"flags": {}, "shapes": shapes, "imagePath": "a.png"}))
    source = opened(tmp_path)
    _, labels = source.read(0)
    y, x = np.indices(labels.shape)
    disc = (x + 0.5 - 20) ** 2 + (y + 0.5 - 20) ** 2 < 25
    assert (labels == 1).sum() == 6
    assert np.array_equal(labels == 2, disc)
    assert (labels == 3).sum() == 18
    assert "left out 1 points and lines" in source.remarks[0]


def test_fiji_ovals_rectangles_composites_and_lines(tmp_path: Path) -> None:
    lab.write_image(tmp_path / "images" / "a.tif", lab.truth())
    (tmp_path / "labels").mkdir()
    rectangle = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, left=2, top=3, right=6, bottom=5)
    oval = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.OVAL, left=20, top=20, right=30, bottom=30)
    line = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE, x1=1, y1=1, x2=9, y2=9)
    roifile.roiwrite(tmp_path / "labels" / "a.zip", [rectangle, oval, line], name=["r", "o", "l"])
    source = opened(tmp_path)
    _, labels = source.read(0)
    assert np.array_equal(np.argwhere(labels == 1), [[y, x] for y in (3, 4) for x in (2, 3, 4, 5)])
    y, x = np.indices(labels.shape)
    inner, outer = ((x + 0.5 - 25) ** 2 + (y + 0.5 - 25) ** 2 < radius**2 for radius in (4.8, 5.01))
    assert (labels[inner] == 2).all()
    assert not (labels[~outer] == 2).any()
    assert "left out 1 points, lines and texts" in source.remarks[0]


def test_coco_crowds(tmp_path: Path) -> None:
    lab.coco(tmp_path, {"a": lab.truth()}, compressed=True)
    path = tmp_path / "annotations" / "instances_default.json"
    document = json.loads(path.read_text())
    for annotation in document["annotations"]:
        annotation["iscrowd"] = 1
    many = np.zeros((lab.HEIGHT, lab.WIDTH), np.uint8)
    many[38, ::4] = 1
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], many.ravel(order="F"), [2]]))))
    document["annotations"].append(
        {
            "id": 9, "image_id": 1, "category_id": 7, "iscrowd": 1,
            "segmentation": {"size": [lab.HEIGHT, lab.WIDTH], "counts": runs.tolist()},
        }
    )  # fmt: skip
    path.write_text(json.dumps(document))
    source = opened(tmp_path)
    expected = lab.truth()
    assert many[38, 48] * expected[38, 48] == 4, "an object in a crowd stays"
    expected[(many > 0) & (expected == 0)] = -1
    assert np.array_equal(source.read(0)[1], expected)
    assert ["1 crowds are not annotated" in line for line in source.remarks] == [
        True,
        False,
    ]
    document["annotations"].pop()
    path.write_text(json.dumps(document))
    assert opened(tmp_path).fingerprint() != source.fingerprint()


def test_coco_files_of_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        lab.coco(tmp_path / split, {f"{split}_1": lab.truth()})
        found = tmp_path / split / "annotations" / "instances_default.json"
        (tmp_path / "annotations").mkdir(exist_ok=True)
        found.rename(tmp_path / "annotations" / f"instances_{split}2017.json")
    assert [(sample.id, sample.split) for sample in opened(tmp_path).samples] == [
        ("train_1", "train"), ("val_1", "val")
    ]  # fmt: skip


def test_label_studio_brush_strokes(tmp_path: Path) -> None:
    """As @thi.ng/rle-pack writes them: here runs of 8 bit values, with widths of 4, 8, 12 and 16 bits."""
    mask = lab.truth() == 2
    bits = f"{4 * mask.size:032b}{7:05b}{3:04b}{7:04b}{11:04b}{15:04b}"
    values = np.repeat(mask.ravel() * 255, 4)
    for run in np.split(values, np.flatnonzero(np.diff(values)) + 1):
        bits += f"1{3:02b}{len(run) - 1:016b}{run[0]:08b}"
    packed = [int(bits[place : place + 8].ljust(8, "0"), 2) for place in range(0, len(bits), 8)]
    lab.write_image(tmp_path / "a.png", lab.truth())
    result = {
        "type": "brushlabels", "original_width": lab.WIDTH, "original_height": lab.HEIGHT,
        "value": {"format": "rle", "rle": packed, "brushlabels": ["Gland"]},
    }  # fmt: skip
    task = {"data": {"image": "https://host/a.png?x=1"}, "annotations": [{"result": [result]}]}
    (tmp_path / "export.json").write_text(json.dumps([task]))
    _, found = opened(tmp_path).read_annotated(0)
    assert np.array_equal(found.labels > 0, mask)
    assert found.classes == {1: "Gland"}


def test_nnunet_maps_with_more_numbers_than_classes_hold_objects(tmp_path: Path) -> None:
    lab.nnunet(tmp_path, {"a": lab.truth(), "b": lab.truth()})
    touching = np.zeros((lab.HEIGHT, lab.WIDTH), np.uint8)
    touching[2:9, 3:9], touching[2:9, 9:14] = 1, 2

    Image.fromarray(touching).save(tmp_path / "labelsTr" / "b.png")
    source = opened(tmp_path)
    assert np.array_equal(source.read(1)[1], touching)
    assert (source.read(0)[1] > 0).sum() == (lab.truth() > 0).sum()
    assert source.read(0)[1].max() == 1


def test_train_and_test_folders_with_the_same_names(tmp_path: Path) -> None:
    for split in ("train", "test"):
        lab.write_image(tmp_path / split / "images" / "1.tif", lab.truth())
        lab.write_image(tmp_path / split / "images" / f"{split}.tif", lab.truth())
        (tmp_path / split / "masks").mkdir()
        for name in ("1", split):
            Image.fromarray(lab.truth().astype(np.uint16)).save(tmp_path / split / "masks" / f"{name}.tif")
    assert [(sample.id, sample.split) for sample in opened(tmp_path).samples] == [
        ("test_1", "test"), ("test", "test"), ("train_1", "train"), ("train", "train")
    ]  # fmt: skip


def test_pixel_sizes_in_tiff_files(tmp_path: Path) -> None:
    lab.stardist(tmp_path, {"a": lab.truth(), "b": lab.truth()})
    for name, size_um in (("a", 0.5), ("b", 0.25)):
        tifffile.imwrite(
            tmp_path / "train" / "images" / f"{name}.tif",
            lab.picture(lab.truth()),
            photometric="rgb",
            resolution=(1e4 / size_um,) * 2,
            resolutionunit="CENTIMETER",
        )
    source = opened(tmp_path)
    assert [sample.pixel_size_um for sample in source.samples] == pytest.approx([0.5, 0.25])
    assert source.pixel_size_um is None


def test_names_leave_out_folders_that_all_share(tmp_path: Path) -> None:
    lab.matlab(tmp_path / "Lizard", {"a": lab.truth(), "b": lab.truth()})
    (tmp_path / "Lizard" / "Train").rename(tmp_path / "Lizard" / "lizard_1")
    assert [sample.id for sample in opened(tmp_path).samples] == ["a", "b"]


def test_subfolders_become_part_of_names(tmp_path: Path) -> None:
    for patient in ("P1", "P2"):
        lab.stardist(tmp_path / patient, {"x": lab.truth()})
    assert [sample.id for sample in opened(tmp_path).samples] == ["P1_x", "P2_x"]


def test_a_folder_around_the_data_set(tmp_path: Path) -> None:
    lab.nnunet(tmp_path / "Dataset001_X", {"a": lab.truth()})
    assert opened(tmp_path).kind == "nnunet"


def test_roi_sets_beside_their_images(tmp_path: Path) -> None:
    lab.fiji(tmp_path, {"a": lab.without_hole(lab.truth())})
    (tmp_path / "rois" / "a.zip").rename(tmp_path / "images" / "a_RoiSet.zip")
    assert np.array_equal(opened(tmp_path).read(0)[1], lab.without_hole(lab.truth()))


def test_nnunets_ignored_pixels_are_not_annotated_and_no_objects(tmp_path: Path) -> None:
    lab.nnunet(tmp_path, {"a": lab.truth()})
    before = opened(tmp_path).fingerprint()
    path = tmp_path / "dataset.json"
    document = json.loads(path.read_text())
    document["labels"]["ignore"] = 2
    path.write_text(json.dumps(document))
    stored = (lab.truth() > 0).astype(np.uint8)
    stored[:2] = 2
    Image.fromarray(stored).save(tmp_path / "labelsTr" / "a.png")
    source = opened(tmp_path)
    expected = lab.truth()
    expected[:2] = -1
    assert np.array_equal(source.read(0)[1], expected)
    assert source.fingerprint() != before
