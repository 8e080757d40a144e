"""Headers that cost nothing to write and would fill the memory, hang, or open another file: refused in one line."""

import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from searcher.data_pipeline.datasets import open_dataset
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import open_raster, read_header, read_image, read_labels

GREY = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
UUID = "urn:uuid:00000000-0000-0000-0000-000000000001"
MOST_BYTES = 1 << 27


def overwritten(**tags: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        tifffile.imwrite(path, GREY, tile=(16, 16), compression="zlib")
        with tifffile.TiffFile(path, mode="r+b") as tiff:
            for name, value in tags.items():
                tiff.pages.first.tags[name].overwrite(value)

    return write


def chained(num_pages: int, back_to: int) -> Callable[[Path], None]:
    """Pages without tags, of which the last is followed by an earlier one."""

    def write(path: Path) -> None:
        following = [*range(1, num_pages), back_to]
        pages = [struct.pack("<HI", 0, 8 + 6 * page) for page in following]
        path.write_bytes(b"II*\0" + struct.pack("<I", 8) + b"".join(pages))

    return write


def ome(pixels: str, uuid: str = "") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" {uuid}><Image ID="Image:0">'
            f'<Pixels DimensionOrder="XYZCT" ID="Pixels:0" SizeX="64" SizeY="48" Type="uint8" {pixels}'
            "</Pixels></Image></OME>"
        )
        tifffile.imwrite(path, GREY, description=xml, metadata=None)

    return write


def bomb(path: Path) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "lol"}">' for n in range(9))
    xml = f'<?xml version="1.0"?><!DOCTYPE OME [{entities}]><OME><Image Name="&e8;"/></OME>'
    tifffile.imwrite(path, GREY, description=xml, metadata=None)


def npy(shape: tuple[int, ...]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<u2", "fortran_order": False, "shape": shape}
            )

    return write


def plain(kind: str, at: int, form: str) -> Callable[[Path], None]:
    """A sound png, bmp or jpg whose header tells of 65,000 x 65,000 pixels or more."""

    def write(path: Path) -> None:
        Image.fromarray(GREY).save(path, kind)
        data = bytearray(path.read_bytes())
        start = data.index(b"\xff\xc0") + 5 if kind == "JPEG" else at
        struct.pack_into(form, data, start, 65000, 65000)
        path.write_bytes(data)

    return write


TIFFS = {
    "sizes of 2^31": (overwritten(ImageLength=2**31 - 1, ImageWidth=2**31 - 1), "tiles or strips, and 12 of them"),
    "no size": (overwritten(ImageLength=0), r"must decode as an image, got"),
    "tiles of no size": (overwritten(TileLength=0), r"must decode as an image, got"),
    "a tile of 2^31": (overwritten(TileLength=2**31 - 1, TileWidth=2**31 - 1), r"pieces of|must decode"),
    "a page that follows itself": (chained(1, 0), "a page that follows itself"),
    "a long circle": (chained(300, 150), "a page that follows itself"),
    "too many pages": (chained(10_002, 0), "at most 10000 pages"),
    "a page outside": (lambda p: p.write_bytes(b"II*\0" + struct.pack("<I", 999)), "the file ends early"),
    "2^31 planes": (ome('SizeC="1" SizeZ="2147483647" SizeT="1">'), "must be there, got 1 of 2147483647"),
    "2^31 channels": (ome('SizeC="2147483647" SizeZ="1" SizeT="1">'), "must be there, got 1 of 2147483647"),
    "a plane count of 2^31": (
        ome('SizeC="1" SizeZ="1" SizeT="1"><TiffData PlaneCount="2147483647"/>'),
        "PlaneCount 2147483647, and 1 pages",
    ),
    "another folder's file": (
        ome(f'SizeC="1" SizeZ="1" SizeT="1"><TiffData><UUID FileName="../other/x.tif">{UUID}</UUID></TiffData>'),
        r"must hold all of its planes, got one that names another file, '../other/x.tif'; save it as one file",
    ),
    "any file of the machine": (
        ome(f'SizeC="1" SizeZ="1" SizeT="1"><TiffData><UUID FileName="/etc/passwd">{UUID}</UUID></TiffData>'),
        "names another file, '/etc/passwd'",
    ),
    "one of several files": (
        lambda p: tifffile.imwrite(p, GREY, description='<OME><BinaryOnly MetadataFile="m.ome"/></OME>', metadata=None),
        "names another file, 'm.ome'",
    ),
    "entities": (bomb, "a document type"),
}  # fmt: skip
OTHERS = {
    "huge.png": (plain("PNG", 16, ">II"), "must decode as an image"),
    "huge.bmp": (plain("BMP", 18, "<ii"), "must decode as an image"),
    "huge.jpg": (plain("JPEG", 0, ">HH"), "must decode as an image"),
}


@pytest.fixture(autouse=True)
def _bounded():
    """Little memory: NumPy's and Python's is counted. What hangs, the tests' timeout ends."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MOST_BYTES


def check(path: Path, rule: str) -> None:
    for read in (read_header, read_image, lambda each: open_raster(each, each.parent)):
        with pytest.raises(DataError, match=rule) as refused:
            read(path)
        assert len(str(refused.value).splitlines()) == 1
        assert str(refused.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", TIFFS)
def test_a_hostile_tiff_is_refused(tmp_path: Path, kind: str) -> None:
    write, rule = TIFFS[kind]
    write(tmp_path / "odd.ome.tif")
    if kind == "a tile of 2^31":  # a header tells nothing wrong: the tiles are one that covers all
        with pytest.raises(DataError, match=rule):
            read_image(tmp_path / "odd.ome.tif")
        return
    check(tmp_path / "odd.ome.tif", rule)
    with pytest.raises(DataError):
        read_labels(tmp_path / "odd.ome.tif")


@pytest.mark.parametrize("name", OTHERS)
def test_another_hostile_header_is_refused(tmp_path: Path, name: str) -> None:
    write, rule = OTHERS[name]
    write(tmp_path / name)
    check(tmp_path / name, rule)


@pytest.mark.parametrize("shape", [(2**31, 2**31), (2**40, 1), (-1, 5), (3, 4)])
def test_an_array_that_is_shorter_than_its_header_says(tmp_path: Path, shape: tuple[int, ...]) -> None:
    npy(shape)(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"a.npy: (must be a whole array|a label map must)"):
        read_labels(tmp_path / "a.npy")


def test_an_ome_tiff_that_was_renamed_is_read(tmp_path: Path) -> None:
    """Its planes are its own by their UUID, whatever file name was written down."""
    ome(
        f'SizeC="1" SizeZ="1" SizeT="1"><TiffData><UUID FileName="before.ome.tif">{UUID}</UUID></TiffData>',
        f'UUID="{UUID}"',
    )(tmp_path / "after.ome.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "after.ome.tif")[..., 0], GREY)


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nothing"])
def test_what_is_no_file_neither_hangs_nor_passes_unsaid(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "data"
    for each in ("images", "labels"):
        (root / each).mkdir(parents=True)
        Image.fromarray(GREY).save(root / each / "a.png")
    odd = root / "images" / "b.png"
    {
        "pipe": lambda: os.mkfifo(odd),
        "folder": odd.mkdir,
        "link to nothing": lambda: odd.symlink_to("nowhere"),
    }[kind]()
    with pytest.raises(DataError, match=rf"b.png: must be a file, got a {kind}"):
        open_dataset(root)
    with pytest.raises(DataError, match=rf"b.png: must be a file, got a {kind}"):
        read_image(odd)
