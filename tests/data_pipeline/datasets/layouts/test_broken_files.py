"""Damaged and hostile files: one line that names the file and the object; the other images stay."""

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lab_formats as lab
import numpy as np
import pytest
import scipy.io
import zarr

from searcher.data_pipeline import DataError, open_dataset
from searcher.data_pipeline.datasets.annotations import text_files
from searcher.data_pipeline.datasets.layouts.coco import open_coco

Damage = Callable[[Path], object]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def polygon(ring: list[Any]) -> Damage:
    """Return what replaces the first object's outline in GeoJSON."""

    def damage(path: Path) -> None:
        document = json.loads(path.read_text())
        document["features"][0]["geometry"] = {"type": "Polygon", "coordinates": [ring]}
        path.write_text(json.dumps(document))

    return damage


def changed(old: str, new: str) -> Damage:
    def damage(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return damage


def annotated(number: int, **values: object) -> Damage:
    """Return what changes one annotation of COCO."""

    def damage(path: Path) -> None:
        document = json.loads(path.read_text())
        document["annotations"][number] |= values
        path.write_text(json.dumps(document))

    return damage


def zip_bomb(path: Path) -> None:
    """Write a zip file whose directory says that its entry unpacks to 2 GB."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0.roi", b"Iout" + bytes(60))
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<I", 2**31)
    path.write_bytes(content)


def roi_of_many_points(path: Path) -> None:
    content = bytearray(zipfile.ZipFile(path).read("0001.roi"))
    content[16:18] = struct.pack(">H", 65535)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0001.roi", bytes(content))


def mat(**content: object) -> Damage:
    return lambda path: scipy.io.savemat(path, content)


def mat_7_3(path: Path) -> None:
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)


def huge_header(path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f8", "fortran_order": False, "shape": (2**20, 2**20, 6)}
        )


def pickled_chunks(path: Path) -> None:
    metadata = json.loads((path / ".zarray").read_text()) | {"filters": [{"id": "pickle", "protocol": 4}]}
    (path / ".zarray").write_text(json.dumps(metadata))
    next(path.glob("0.*")).write_bytes(pickle.dumps(np.zeros(3)))


def huge_chunks(path: Path) -> None:
    metadata = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(metadata | {"chunks": [1, 1, 1, 2**20, 2**20]}))


def axes(names: str) -> Damage:
    def damage(path: Path) -> None:
        group = zarr.open_group(path, mode="r+")
        multiscales = group.attrs["multiscales"]
        multiscales[0]["axes"] = [{"name": name} for name in names]  # type: ignore[index,call-overload]
        group.attrs["multiscales"] = multiscales

    return damage


SQUARE = [[2, 2], [9, 2], [9, 9], [2, 9], [2, 2]]
TWICE = [[2, 2], [30, 2], [30, 30], [2, 30], [2, 3], [40, 3], [40, 25], [3, 25], [3, 2], [2, 2]]
GEO, COCO, XML = "labels/b.geojson", "annotations/instances_default.json", "Annotations/b.xml"
MAT, TASKS, MASKS = "Train/Labels/b.mat", "project-1.json", "masks/fold1/masks.npy"
BROKEN: dict[str, tuple[Callable[..., None], str, Damage, str]] = {
    "json cut off": (lab.qupath, GEO, cut, "must be complete JSON"),
    "json too deep": (lab.qupath, GEO, lambda path: path.write_text("[" * 100_000), "must not nest that deep"),
    "json of another kind": (lab.qupath, GEO, lambda path: path.write_text('{"a": 1}'), "must be a GeoJSON list"),
    "not utf-8": (lab.qupath, GEO, lambda path: path.write_bytes(b'{"type": "\xff'), "must be text in UTF-8"),
    "nan": (lab.qupath, GEO, polygon([*SQUARE[:2], [float("nan"), 3]]), "feature 1: coordinates must be finite"),
    "infinity": (lab.qupath, GEO, polygon([*SQUARE[:2], [1e400, 3]]), "feature 1: coordinates must be finite"),
    "huge": (lab.qupath, GEO, polygon([*SQUARE[:2], [1e300, 3]]), "feature 1: coordinates must be pixels below"),
    "huge integer": (lab.qupath, GEO, polygon([[0, 10**400], *SQUARE]), "feature 1: an outline must be a list of"),
    "outside": (lab.qupath, GEO, polygon([[x + 100, y] for x, y in SQUARE]), "feature 1: must lie in its image"),
    "text": (lab.qupath, GEO, polygon([["a", "b"], *SQUARE]), "feature 1: an outline must be a list of points"),
    "flat": (lab.qupath, GEO, polygon([1, 2, 3]), "feature 1: an outline must be a list of points"),
    "crosses itself": (lab.qupath, GEO, polygon(TWICE), "feature 1: an outline must not cross itself"),
    "curve": (lab.qupath, GEO, changed('"Polygon"', '"Circle"'), "feature 1: a geometry must be a Polygon"),
    "coco cut off": (lab.coco, COCO, cut, "must be complete JSON"),
    "coco image gone": (lab.coco, "images/b.png", Path.unlink, "image 'b.png': must be one file"),
    "coco nan": (lab.coco, COCO, annotated(4, segmentation=[[1, 2, 3, float("nan"), 5, 6]]), "annotation 5: coord"),
    "coco odd": (lab.coco, COCO, annotated(4, segmentation=[[1, 2, 3]]), "annotation 5: a segmentation must be"),
    "coco box": (lab.coco, COCO, annotated(4, segmentation=[]), "every annotation needs a segmentation, got 1 boxes"),
    "coco runs of another size": (
        lab.coco, COCO, annotated(4, segmentation={"size": [10**9, 10**9], "counts": [10**18]}),
        "annotation 5: run lengths must be of the image's size",
    ),
    "coco runs too long": (
        lab.coco, COCO, annotated(4, segmentation={"size": [40, 56], "counts": [0, 10**12]}),
        "annotation 5: run lengths must add up",
    ),
    "coco compressed nonsense": (
        lab.coco, COCO, annotated(4, segmentation={"size": [40, 56], "counts": "PPYo0\u0100"}),
        "annotation 5: run lengths must",
    ),
    "coco unknown image": (lab.coco, COCO, annotated(4, image_id=99), "annotation 5: must be of an image of the file"),
    "coco size": (lab.coco, COCO, changed('"width": 56', '"width": 57'), "must have the size that"),
    "labelme of another image": (lab.labelme, "b.json", changed('"imageWidth": 56', '"imageWidth": 560'), "size 56x40"),
    "labelme mask": (lab.labelme, "b.json", changed('"mask": "iVBOR', '"mask": "AAAAA'), "shape 4: a mask must be"),
    "cvat size": (lab.cvat, "annotations.xml", changed('width="56"', 'width="x"'), "image 'a.png': must have its size"),
    "cvat runs": (lab.cvat, "annotations.xml", changed('rle="', 'rle="99999999999, '), "lengths must add up to 120"),
    "label studio size": (
        lab.label_studio, TASKS, changed('"original_width": 56', '"original_width": 1'), "region 1: must be"
    ),
    "label studio unannotated": (
        lab.label_studio, TASKS, changed('"was_cancelled": false', '"was_cancelled": true'), "task 1: must"
    ),
    "xml cut off": (lab.imagescope, XML, cut, "must be complete XML"),
    "xml with entities": (
        lab.imagescope, XML,
        changed("<Annotations", '<!DOCTYPE a [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><Annotations'),
        "must be XML without a document type definition",
    ),
    "xml too deep": (
        lab.imagescope, XML, lambda path: path.write_text("<Annotations>" + "<a>" * 100_000), "must nest at most 100"
    ),
    "xml without numbers": (lab.imagescope, XML, changed('X="', 'X="a'), "region 1: vertices must have"),
    "zip cut off": (lab.fiji, "rois/b.zip", cut, "must be a complete zip file"),
    "zip bomb": (lab.fiji, "rois/b.zip", zip_bomb, "must hold at most 65535 ROIs of 256 MiB together"),
    "roi of many points": (lab.fiji, "rois/b.zip", roi_of_many_points, "0001.roi: must be an ImageJ ROI"),
    "mat cut off": (lab.matlab, MAT, cut, "the file must be readable, got could not"),
    "mat without map": (lab.matlab, MAT, mat(other=np.ones((40, 56))), "must hold the label map"),
    "mat of another size": (
        lab.matlab, MAT, mat(inst_map=np.ones((40, 55))), "its image's size 56x40, got 55x40"
    ),
    "mat with fractions": (
        lab.matlab, MAT, mat(inst_map=np.full((40, 56), 0.5)), "must hold whole numbers"
    ),
    "mat 7.3": (
        lab.matlab, MAT, mat_7_3, "7.3"
    ),
    "pannuke objects": (lab.pannuke, MASKS, pickled, "must be a complete NumPy file of numbers"),
    "pannuke huge": (lab.pannuke, MASKS, huge_header, "must be a complete NumPy file"),
    "pannuke cut off": (lab.pannuke, "images/fold1/images.npy", cut, "must be a complete NumPy file"),
    "pannuke of another shape": (
        lab.pannuke, MASKS, lambda path: np.save(path, np.zeros((2, 40, 56, 5))), "must be [N, H, W"
    ),
    "mask of two objects": (
        lab.object_masks, "stage1_train/b/masks/001.png", lambda path: lab.write_image(path, lab.truth()), "label map"
    ),
    "no mask": (
        lab.object_masks, "stage1_train/b/masks",
        lambda path: [each.unlink() for each in path.iterdir()], "got 1 images and 0 masks",
    ),
    "nnunet volume": (
        lab.nnunet, "imagesTr/c_0000.nii.gz", lambda path: path.write_bytes(b""), "convert volumes to planes"
    ),
    "nnunet without labels": (lab.nnunet, "dataset.json", lambda path: path.write_text("{}"), "must name its labels"),
    "nnunet classes": (
        lab.nnunet, "dataset.json", changed('"gland": 1', '"gland": 1, "tumour": 2'), "must hold objects, got 2 classes"
    ),
    "zarr pickled": (lab.ome_zarr, "labels/b.ome.zarr/0", pickled_chunks, "must be an OME-Zarr image"),
    "zarr chunks": (lab.ome_zarr, "images/b.ome.zarr/0", huge_chunks, "must have at most 1 GiB"),
    "zarr outside": (
        lab.ome_zarr, "images/b.ome.zarr/.zattrs", changed('"path": "0"', '"path": "../a.ome.zarr/0"'), "must lie in"
    ),
    "zarr stack": (lab.ome_zarr, "images/b.ome.zarr", axes("tzcyx"), "must be one plane, got 3 planes"),
    "zarr without axes": (lab.ome_zarr, "images/b.ome.zarr", axes("abcde"), "must be an OME-Zarr image"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_one_line_names_the_file(tmp_path: Path, name: str) -> None:
    write, file, damage, message = BROKEN[name]
    write(tmp_path, {"a": lab.truth(), "b": lab.truth(3)})
    damage(tmp_path / file)

    problems = _problems(tmp_path)

    assert len(set(problems)) == 1 or name in ("pannuke objects", "nnunet classes", "cvat runs"), problems
    assert message in problems[0]
    assert str(tmp_path) in problems[0]
    assert "\n" not in problems[0]
    assert all(len(problem) < 500 for problem in problems)


def _problems(root: Path) -> list[str]:
    """Return what inspection says: of the folder, or of each image that cannot be read."""
    try:
        source = open_dataset(root, strict=False)
    except DataError as error:
        return list(error.problems)
    problems = list(source.problems)  # type: ignore[attr-defined]
    for index in range(len(source.samples)):
        try:
            source.read(index)
        except DataError as error:
            problems += error.problems
    return problems


def test_a_wrong_file_leaves_the_others_and_stops_a_launch(tmp_path: Path) -> None:
    lab.coco(tmp_path, {"a": lab.truth(), "b": lab.truth()})
    (tmp_path / "images" / "b.png").unlink()
    source = open_dataset(tmp_path, strict=False)
    assert [sample.id for sample in source.samples] == ["a"]
    with pytest.raises(DataError, match="must be one file"):
        open_dataset(tmp_path)


def test_a_huge_file_is_looked_into_up_to_the_largest_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody's 200 GB of JSON are searched for COCO's keys, which takes minutes."""
    monkeypatch.setattr(text_files, "MAX_BYTES", 1000)
    keys = '"images": [], "annotations": []}'
    (tmp_path / "no.json").write_text("{" + 1000 * " " + keys)
    assert open_coco(tmp_path, strict=True) is None
    (tmp_path / "yes.json").write_text("{" + keys + 1000 * " ")
    with pytest.raises(DataError, match=r"yes\.json: must have at most 1 GiB"):
        open_coco(tmp_path, strict=True)


def test_cellpose_archives_are_never_opened(tmp_path: Path) -> None:
    lab.write_image(tmp_path / "a.png", lab.truth())
    marker = tmp_path / "ran"
    (tmp_path / "a_seg.npy").write_bytes(pickle.dumps(partial(marker.write_text, "x")))
    with pytest.raises(DataError, match="save the masks as PNG or TIFF in Cellpose"):
        open_dataset(tmp_path).read(0)
    assert not marker.exists()
