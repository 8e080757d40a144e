"""What is exported reads the same in the format's own library, and comes back."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
from lab_formats import HEIGHT, WIDTH, Labels, picture, truth
from PIL import Image
from plugged import plugged_in
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from searcher.cli.main import main
from searcher.data_pipeline import DataError, open_dataset
from searcher.data_pipeline.datasets.exports.exporter import ExportReport, export_dataset
from searcher.data_pipeline.datasets.exports.geojson import region_of
from searcher.data_pipeline.datasets.exports.table import DATA_FORMATS


def partial() -> Labels:
    labels = truth(5)
    labels[:, 42:46] = -1
    return labels


def canonical(root: Path) -> dict[str, Labels]:
    """Write two images, one annotated in part, one of a test split, with a class for each object but the last."""
    maps = {"a": truth(), "b": partial()}
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for name, labels in maps.items():
        Image.fromarray(picture(np.maximum(labels, 0))).save(root / "images" / f"{name}.png")
        tifffile.imwrite(root / "labels" / f"{name}.tif", labels)
    (root / "samples.csv").write_text("id,split\na,train\nb,test\n")
    rows = "".join(
        f"{name},{number},{'Gland' if number < 3 else 'Vessel'}\n" for name in maps for number in (1, 2, 3)
    )
    (root / "objects.csv").write_text(f"image,label,class\n{rows}")
    return maps


def exported(tmp_path: Path, name: str) -> tuple[dict[str, Labels], ExportReport, Path]:
    maps = canonical(tmp_path / "source")
    out = tmp_path / "out"
    report = export_dataset(open_dataset(tmp_path / "source"), "source", out, name, DATA_FORMATS[name])
    assert (report.num_images, report.num_objects) == (2, 8)
    for sample, labels in zip(("a", "b"), maps.values(), strict=True):
        (path,) = (
            each
            for each in out.rglob(f"{sample}*.png")
            if "mask" not in each.name and "labels" not in each.parts[-2]
        )
        assert np.array_equal(np.asarray(Image.open(path)), picture(np.maximum(labels, 0)))
    return maps, report, out


def test_coco_by_pycocotools_and_back(tmp_path: Path) -> None:
    maps, report, out = exported(tmp_path, "coco")
    assert report.left_out == ()
    for split, name in (("train", "a"), ("test", "b")):
        coco = COCO(out / "annotations" / f"instances_{split}.json")
        (image,) = coco.loadImgs(coco.getImgIds())
        assert (image["file_name"], image["width"], image["height"]) == (f"{name}.png", WIDTH, HEIGHT)
        found = np.zeros((HEIGHT, WIDTH), np.int32)
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        for label, annotation in enumerate(annotations, start=1):
            mask = coco.annToMask(annotation).astype(bool)
            found[mask] = -1 if annotation["iscrowd"] else label
            packed = coco_mask.encode(np.asfortranarray(mask, np.uint8))
            assert annotation["area"] == coco_mask.area(packed)
            assert annotation["bbox"] == coco_mask.toBbox(packed).tolist()
        assert np.array_equal(found, maps[name])
        names = {each["id"]: each["name"] for each in coco.loadCats(coco.getCatIds())}
        assert [names[each["category_id"]] for each in annotations[:4]] == [
            "Gland",
            "Gland",
            "Vessel",
            "object",
        ]
    again = open_dataset(out)
    assert [(sample.id, sample.split) for sample in again.samples] == [("b", "test"), ("a", "train")]
    assert np.array_equal(again.read(0)[1], maps["b"])
    assert np.array_equal(again.read(1)[1], maps["a"])


def test_geojson_by_shapely_and_back(tmp_path: Path) -> None:
    maps, report, out = exported(tmp_path, "geojson")
    assert [line.partition(": ")[2] for line in report.left_out] == [
        "splits other than train are lost, in b (1 images)"
    ]
    for index, (name, labels) in enumerate(maps.items()):
        text = (out / "labels" / f"{name}.geojson").read_text()
        regions = shapely.from_geojson(text).geoms
        assert all(shapely.is_valid(region) for region in regions)
        sizes = [int((labels == number).sum()) for number in (1, 2, 3, 4)]
        assert [int(region.area) for region in regions][:4] == sizes
        features = json.loads(text)["features"]
        assert [each["properties"].get("classification", {}).get("name") for each in features] == [
            "Gland", "Gland", "Vessel", None, *(["Ignore*"] if name == "b" else [])
        ]  # fmt: skip
        image, annotation = open_dataset(out).read_annotated(index)  # type: ignore[attr-defined]
        assert np.array_equal(annotation.labels, labels)
        assert annotation.classes == {1: "Gland", 2: "Gland", 3: "Vessel"}
        assert image.shape == (HEIGHT, WIDTH, 3)


def test_cellpose_and_back(tmp_path: Path) -> None:
    maps, report, out = exported(tmp_path, "cellpose")
    assert [line.partition(": ")[2] for line in report.left_out] == [
        "the objects' classes are lost, in a, b (2 images)",
        "what is not annotated becomes background, in b (1 images)",
    ]
    masks = np.asarray(Image.open(out / "train" / "a_masks.png"))
    assert masks.dtype == np.uint16
    assert np.array_equal(masks, maps["a"])
    again = open_dataset(out)
    assert [(sample.id, sample.split) for sample in again.samples] == [("b", "test"), ("a", "train")]
    assert np.array_equal(again.read(0)[1], np.maximum(maps["b"], 0))


def test_nnunet_and_back(tmp_path: Path) -> None:
    maps, report, out = exported(tmp_path, "nnunet")
    assert report.left_out == ("source: the objects' classes are lost, in a, b (2 images)",)
    document = json.loads((out / "dataset.json").read_text())
    assert document == {
        "channel_names": {"0": "red", "1": "green", "2": "blue"},
        "labels": {"background": 0, "object": 1, "ignore": 2},
        "numTraining": 1,
        "file_ending": ".png",
    }
    stored = np.asarray(Image.open(out / "labelsTs" / "b.png"))
    assert np.array_equal(stored, np.select([maps["b"] > 0, maps["b"] < 0], [1, 2]))
    again = open_dataset(out)
    assert [(sample.id, sample.split) for sample in again.samples] == [("a", "train"), ("test_b", "test")]
    for index, labels in enumerate(maps.values()):
        assert np.array_equal(again.read(index)[1], labels)


def test_nnunet_says_what_touches(tmp_path: Path) -> None:
    canonical(tmp_path / "source")
    labels = truth()
    labels[9:12, 6:12] = 1  # between the first object and the second
    tifffile.imwrite(tmp_path / "source" / "labels" / "a.tif", labels)
    report = export_dataset(
        open_dataset(tmp_path / "source"), "x", tmp_path / "out", "nnunet", DATA_FORMATS["nnunet"]
    )
    assert "x: objects that touch become one, and those in pieces several, in a (1 images)" in report.left_out


def test_channels_and_depth_come_back(tmp_path: Path) -> None:
    root = tmp_path / "source"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    image = np.random.default_rng(0).integers(0, 2**16, (4, HEIGHT, WIDTH), np.uint16)
    tifffile.imwrite(
        root / "images" / "a.tif", image, ome=True, metadata={"axes": "CYX"}, photometric="minisblack"
    )
    tifffile.imwrite(root / "labels" / "a.tif", truth())
    source = open_dataset(root)
    for name in DATA_FORMATS.built_in_names():
        export_dataset(source, "x", tmp_path / name, name, DATA_FORMATS[name])
        assert np.array_equal(open_dataset(tmp_path / name).read(0)[0], np.moveaxis(image, 0, -1)), name


@pytest.mark.parametrize("pattern", ["#", "#.#/.#.", "###/#.#/###", "#.#/###", "##./.##/##."])
def test_outlines_are_exactly_the_pixels(pattern: str) -> None:
    mask = np.array([[each == "#" for each in row] for row in pattern.split("/")])
    mask = np.pad(mask, 2)
    region = region_of(mask)
    y, x = np.indices(mask.shape) + 0.5
    assert shapely.is_valid(region)
    assert np.array_equal(shapely.contains_xy(region, x, y), mask)
    assert region.area == mask.sum()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    canonical(tmp_path / "source")
    arguments = ["data", "export", str(tmp_path / "source"), "--to", str(tmp_path / "out")]
    assert main([*arguments, "--as", "cocoa"]) == 2
    assert "--as: must be one of coco, geojson, cellpose, nnunet, got 'cocoa'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*arguments, "--as", "coco"]) == 0
    assert "2 images with 8 objects written as coco" in capsys.readouterr().out
    assert main([*arguments, "--as", "cellpose"]) == 2
    assert "must be a new or empty folder" in capsys.readouterr().err
    with pytest.raises(DataError, match="must be a new or empty folder"):
        export_dataset(open_dataset(tmp_path / "source"), "x", tmp_path / "out", "coco", DATA_FORMATS["coco"])


def test_an_image_without_background_or_without_objects(tmp_path: Path) -> None:
    maps = {
        "full": np.full((6, 8), 7, np.int32),
        "empty": np.zeros((6, 8), np.int32),
        "few": np.zeros((6, 8), np.int32),
    }
    maps["few"][1:3, 2:4] = 2**20
    for folder in ("images", "labels"):
        (tmp_path / "source" / folder).mkdir(parents=True)
    for name, labels in maps.items():
        Image.new("RGB", (8, 6), (1, 2, 3)).save(tmp_path / "source" / "images" / f"{name}.png")
        tifffile.imwrite(tmp_path / "source" / "labels" / f"{name}.tif", labels)
    source = open_dataset(tmp_path / "source")
    for name in ("coco", "geojson"):
        report = export_dataset(source, "x", tmp_path / name, name, DATA_FORMATS[name])
        assert (report.num_objects, report.left_out) == (2, ())
        again = open_dataset(tmp_path / name)
        found = {sample.id: again.read(index)[1] for index, sample in enumerate(again.samples)}
        assert all(np.array_equal(found[key], labels > 0) for key, labels in maps.items())


COUNTS = """
from searcher.data_pipeline.datasets.exports.table import register_data_format

@register_data_format("counts")
def export_counts(images, folder, *, channels, losses):
    rows = [f"{each.sample.id},{each.labels.max()}\\n" for each in images]
    (folder / "counts.csv").write_text("".join(sorted(rows)))
"""


def test_a_plugins_format_is_one_of_the_formats(tmp_path, monkeypatch, capsys):
    maps = canonical(tmp_path / "source")
    monkeypatch.chdir(tmp_path)
    with plugged_in(tmp_path, COUNTS, "counts.py"):
        command = ["data", "export", "source", "--as", "counts", "--to", "out", "--plugin", "counts.py"]
        assert main(command) == 0, capsys.readouterr().err
        written = (tmp_path / "out" / "counts.csv").read_text()
    assert written == "".join(f"{name},{labels.max()}\n" for name, labels in maps.items())
