"""Images of a lab's own depth and channels come through every entrance as they are in the files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from searcher.data_pipeline import DataError, inspect_dataset, open_dataset, prepare_store
from searcher.data_pipeline.datasets.canonical import import_dataset

LABELS = np.zeros((24, 32), np.uint16)
LABELS[3:10, 3:10], LABELS[12:20, 15:28] = 1, 2
RNG = np.random.default_rng(11)
DEEP = RNG.integers(90, 4000, (24, 32, 1)).astype(np.uint16)
TWO = RNG.integers(90, 4000, (24, 32, 2)).astype(np.uint16)
THREE = RNG.integers(90, 4000, (24, 32, 3)).astype(np.uint16)
FIVE = RNG.integers(0, 200, (24, 32, 5)).astype(np.uint8)


def png(path: Path, image: np.ndarray) -> None:
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(path.with_suffix(".png"))


def planes(path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(
        path.with_suffix(".tif"), image.transpose(2, 0, 1), photometric="minisblack", metadata={"axes": "CYX"}
    )


def ome(path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(
        path.with_suffix(".ome.tif"),
        image.transpose(2, 0, 1),
        photometric="minisblack",
        metadata={"axes": "CYX"},
    )


def imagej(path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(
        path.with_suffix(".tif"), image.transpose(2, 0, 1), imagej=True, metadata={"axes": "CYX"}
    )


def interleaved(path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(
        path.with_suffix(".tif"), image, photometric="minisblack", planarconfig="contig", byteorder=">",
        extrasamples=["unspecified"] * (image.shape[2] - 1), compression="zlib",
    )  # fmt: skip


def folder(root: Path, images: dict[str, np.ndarray], write: Callable[[Path, np.ndarray], None]) -> Path:
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for name, image in images.items():
        write(root / "images" / name, image)
        [path] = (root / "images").glob(f"{name}.*")
        Image.fromarray(LABELS).save(root / "labels" / f"{path.stem}.png")
    return root


@pytest.mark.parametrize(
    ("write", "image"),
    [
        (png, DEEP), (planes, TWO), (planes, THREE), (ome, FIVE), (ome, TWO), (imagej, TWO), (imagej, FIVE),
        (interleaved, FIVE), (interleaved, TWO), (planes, FIVE),
    ],
)  # fmt: skip
def test_a_folders_images_reach_the_store_and_the_canonical_folder_as_they_are(
    tmp_path: Path, write: Callable[[Path, np.ndarray], None], image: np.ndarray
) -> None:
    data = folder(tmp_path / "data", {"a": image, "b": image[::-1]}, write)
    source = open_dataset(data)
    assert (len(source.channels), source.dtype) == (image.shape[2], image.dtype.name)
    store = prepare_store(source, tmp_path / "cache")
    assert store.image(1).dtype == image.dtype
    assert np.array_equal(store.image(1), image[::-1])
    import_dataset(source, "data", tmp_path / "out")
    again = open_dataset(tmp_path / "out")
    assert (again.channels, again.dtype) == (source.channels, source.dtype)
    assert np.array_equal(again.read(0)[0], image)
    report = inspect_dataset(source)
    assert (report.dtype, len(report.channels)) == (image.dtype.name, image.shape[2])
    assert report.normalisation.startswith("normalisation is percentile, since images have")


def test_grey_of_8_bit_is_rgb_alone_and_beside_colours(tmp_path: Path) -> None:
    grey = DEEP.astype(np.uint8)
    images = {"a": grey, "b": np.repeat(grey, 3, axis=2)}
    source = open_dataset(folder(tmp_path / "data", images, png))
    assert (source.channels, source.dtype) == (("red", "green", "blue"), "uint8")
    assert np.array_equal(source.read(0)[0], source.read(1)[0])


def test_images_of_several_kinds_are_one_line_that_names_two_files(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", {"a": DEEP, "b": DEEP, "c": DEEP.astype(np.uint8)}, png)
    with pytest.raises(DataError) as caught:
        open_dataset(data)
    [line] = caught.value.problems
    assert line.startswith(
        f"{data / 'images' / 'c.png'}: all images of a data set must have the same channels"
    )
    assert f"where {data / 'images' / 'a.png'} is 16 bit grey (2 images)" in line
    kept = open_dataset(data, strict=False)
    assert [sample.id for sample in kept.samples] == ["a", "b"]
    assert inspect_dataset(kept).problems == (line,)


def test_layouts_with_annotation_files_take_them_too(tmp_path: Path) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "masks").mkdir()
    planes(tmp_path / "data" / "images" / "a", TWO)
    tifffile.imwrite(tmp_path / "data" / "masks" / "a.tif", LABELS)
    source = open_dataset(tmp_path / "data")
    assert (source.kind, source.dtype, source.channels) == (
        "label maps",
        "uint16",
        ("channel 1", "channel 2"),
    )
    assert np.array_equal(source.read(0)[0], TWO)
    png(tmp_path / "data" / "images" / "b", FIVE[..., :3])
    tifffile.imwrite(tmp_path / "data" / "masks" / "b.tif", LABELS)
    with pytest.raises(DataError, match="the same channels and depth, got 8 bit RGB or grey"):
        open_dataset(tmp_path / "data")


def test_an_ome_zarr_of_16_bit_and_channels(tmp_path: Path) -> None:
    for kind, values, axes in (("images", TWO.transpose(2, 0, 1), "cyx"), ("labels", LABELS, "yx")):
        group = zarr.open_group(tmp_path / "data" / kind / "a.zarr", mode="w")
        array = group.create_array("0", shape=values.shape, dtype=values.dtype)
        array[...] = values
        group.attrs["multiscales"] = [
            {"axes": [{"name": axis} for axis in axes], "datasets": [{"path": "0"}]}
        ]
    source = open_dataset(tmp_path / "data")
    assert (source.kind, source.dtype, len(source.channels)) == ("ome-zarr", "uint16", 2)
    assert np.array_equal(source.read(0)[0], TWO)
    prepare_store(source, tmp_path / "cache")


def nnunet(root: Path, channels: dict[str, np.ndarray]) -> Path:
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    for number, image in channels.items():
        png(root / "imagesTr" / f"a_{number}", image)
    Image.fromarray((LABELS > 0).astype(np.uint8)).save(root / "labelsTr" / "a.png")
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "nucleus": 1}}))
    return root


def test_channels_of_nnunet_are_files_of_their_own(tmp_path: Path) -> None:
    data = nnunet(tmp_path / "data", {"0000": DEEP, "0001": DEEP[::-1]})
    source = open_dataset(data)
    assert (source.dtype, len(source.channels)) == ("uint16", 2)
    assert np.array_equal(source.read(0)[0], np.dstack([DEEP, DEEP[::-1]]))
    png(data / "imagesTr" / "a_0001", DEEP[:5])
    with pytest.raises(
        DataError, match=r"a_0001\.png: the files of an image must be grey, of one size and depth"
    ):
        open_dataset(data).read(0)


def test_a_gap_between_channels_of_nnunet(tmp_path: Path) -> None:
    data = nnunet(tmp_path / "data", {"0000": DEEP, "0002": DEEP})
    with pytest.raises(DataError, match="numbered from 0000 without a gap, got 0000, 0002"):
        open_dataset(data)


def test_what_an_import_says_of_a_folder_is_read_back(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", {"a": TWO}, planes)
    (data / "dataset.toml").write_text(
        'name = "Liver\\u00b72"\nlicence = "CC BY 4.0"\nchannels = ["DAPI", "CD3"]\nother = 3\n'
    )
    source = open_dataset(data)
    assert (source.name, source.licence, source.channels) == ("Liver·2", "CC BY 4.0", ("DAPI", "CD3"))
    import_dataset(source, "data", tmp_path / "out")
    again = open_dataset(tmp_path / "out")
    assert (again.name, again.licence, again.channels) == (source.name, source.licence, source.channels)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "must be TOML, got"),
        ("name = 3", "name must be a text, got 3"),
        ('channels = "DAPI"', "channels must be a list of names, got 'DAPI'"),
        ('channels = ["DAPI"]', "channels must have a name for each of 2 channels, got 1"),
    ],
)
def test_a_wrong_description_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    data = folder(tmp_path / "data", {"a": TWO}, planes)
    (data / "dataset.toml").write_text(text)
    with pytest.raises(DataError, match=said):
        open_dataset(data)
    assert open_dataset(data, strict=False).channels == ("channel 1", "channel 2")
