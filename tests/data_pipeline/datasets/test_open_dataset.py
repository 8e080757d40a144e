"""Recognising what a folder is, or saying in one line why not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from searcher.data_pipeline import DataError, Sample, open_dataset


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_dataset(path)
    (problem,) = caught.value.problems
    return problem


def write_pairs(root: Path, images: list[str], labels: list[str]) -> None:
    for folder, names, shape in (("images", images, (20, 30, 3)), ("labels", labels, (20, 30))):
        (root / folder).mkdir(parents=True)
        for name in names:
            Image.fromarray(np.ones(shape, np.uint8)).save(root / folder / f"{name}.png")


def test_folder_of_images_and_labels(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["b", "a", "testA_1"], ["testA_1", "a", "b"])
    source = open_dataset(tmp_path)
    assert source.kind == "folder"
    assert list(source.samples) == [
        Sample("a", "train", "a", ""),
        Sample("b", "train", "b", ""),
        Sample("testA_1", "testA", "testA_1", ""),
    ]
    assert source.read(0)[1].tolist() == np.ones((20, 30)).tolist()


def test_folder_with_unpaired_files(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a", "b"], ["b", "c"])
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        str(tmp_path / "images" / "a.png"),
        str(tmp_path / "labels" / "c.png"),
    ]


def test_folder_without_images(tmp_path: Path) -> None:
    write_pairs(tmp_path, [], ["a"])
    assert "must hold png, jpg, bmp or tif images, got none" in refused(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    assert refused(tmp_path / "gone").startswith(f"{tmp_path / 'gone'}: the data folder must exist")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"")
    assert "must be a folder, got a file" in refused(tmp_path / "data.zip")


def test_empty_folder(tmp_path: Path) -> None:
    assert "got nothing" in refused(tmp_path)


def test_folder_of_other_things(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.uint8)).save(tmp_path / "holiday.png")
    (tmp_path / "notes.txt").write_text("")
    assert "got 1 images of other names among 2 entries" in refused(tmp_path)


def test_folder_around_the_release_says_which_one_to_give(
    tmp_path: Path, write_glas: Callable[..., None]
) -> None:
    write_glas(tmp_path / "Warwick QU Dataset", ["train_1"])
    assert f"give {tmp_path / 'Warwick QU Dataset'}" in refused(tmp_path)


def test_images_without_any_annotation(tmp_path: Path, write_glas: Callable[..., None]) -> None:
    write_glas(tmp_path, ["train_1", "train_2"])
    for path in tmp_path.glob("*_anno.bmp"):
        path.unlink()
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    assert len(caught.value.problems) == 2
    assert all("_anno.*, got none" in problem for problem in caught.value.problems)


def test_ome_in_a_name_parts_no_image_from_its_label_map(tmp_path: Path) -> None:
    pairs = {"a.ome.tif": "a.png", "b.ome.tif": "b.tif", "c.tif": "c.ome.tif", "d.ome.tif": "d_mask.ome.tif"}
    # Where the exact name is there, the bare one is another image's.
    pairs |= {"e.ome.tif": "e.ome.tif", "e.png": "e.png"}
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for value, (image, labels) in enumerate(pairs.items(), start=1):
        pixels, objects = np.full((8, 9, 3), 200, np.uint8), np.zeros((8, 9), np.uint16)
        objects[1:4, 1:5] = value
        for path, array in ((tmp_path / "images" / image, pixels), (tmp_path / "labels" / labels, objects)):
            if path.suffix == ".png":
                Image.fromarray(array).save(path)
            else:
                tifffile.imwrite(path, array)
    source = open_dataset(tmp_path)
    found = {sample.id: int(source.read(index)[1].max()) for index, sample in enumerate(source.samples)}
    assert found == {"a.ome": 1, "b.ome": 2, "c": 3, "d.ome": 4, "e.ome": 5, "e": 6}


def test_the_classes_of_a_folder_are_those_of_its_description_and_its_table(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.full((8, 9, 3), 200, np.uint8)).save(tmp_path / "images" / "a.png")
    labels = np.zeros((8, 9), np.uint8)
    labels[1:3, 1:4], labels[5:7, 5:8] = 1, 2
    Image.fromarray(labels).save(tmp_path / "labels" / "a.png")
    (tmp_path / "dataset.toml").write_text('classes = ["Nucleus"]\n')
    assert open_dataset(tmp_path).classes == ("Nucleus",)
    (tmp_path / "objects.csv").write_text("image,label,class\na,1,Nucleus\na,2,Lymphocyte\n")
    assert open_dataset(tmp_path).classes == ("Lymphocyte", "Nucleus")
    (tmp_path / "dataset.toml").write_text("classes = [1]\n")
    with pytest.raises(DataError, match="classes must be a list of names"):
        open_dataset(tmp_path)
