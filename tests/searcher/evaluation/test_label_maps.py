"""Label maps as programs write them, and pieces of labels, by examples."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from searcher.data_pipeline.exceptions import DataError
from searcher.evaluation.label_maps import read_label_map, relabelled

LABELS = np.array([[0, 1, 1, 0], [0, 0, 200, 200], [7, 0, 0, 200]])


def many(dtype):
    """More labels than a byte holds, where the type has room."""
    labels = LABELS.copy()
    labels[labels == 200] = min(70_000, np.iinfo(dtype).max)
    return labels.astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32])
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_tif_and_npy_of_all_depths(tmp_path, dtype, suffix):
    path = tmp_path / f"map{suffix}"
    save = tifffile.imwrite if suffix == ".tif" else np.save
    save(path, many(dtype))
    np.testing.assert_array_equal(read_label_map(path), many(dtype))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("suffix", [".tif", ".tiff", ".npy"])
def test_the_largest_label_of_32_bits(tmp_path, suffix, byteorder):
    labels = np.array([[0, 2**32 - 1, 2**31, 2**31 - 1]], np.dtype(np.uint32).newbyteorder(byteorder))
    path = tmp_path / f"map{suffix}"
    if suffix == ".npy":
        np.save(path, labels)
    else:
        tifffile.imwrite(path, labels, byteorder=byteorder)
    assert read_label_map(path).tolist() == [[0, 2**32 - 1, 2**31, 2**31 - 1]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_compressed_tif(tmp_path, dtype, compression):
    tifffile.imwrite(tmp_path / "map.tif", many(dtype), compression=compression)
    np.testing.assert_array_equal(read_label_map(tmp_path / "map.tif"), many(dtype))


@pytest.mark.parametrize(("suffix", "dtype"), [(".bmp", np.uint8), (".png", np.uint8), (".png", np.uint16)])
def test_bmp_and_png(tmp_path, suffix, dtype):
    Image.fromarray(many(dtype)).save(tmp_path / f"map{suffix}")
    np.testing.assert_array_equal(read_label_map(tmp_path / f"map{suffix}"), many(dtype))


@pytest.mark.parametrize("dtype", [np.int8, ">i4", np.int64, np.uint64])
def test_npy_of_any_integers_in_any_order(tmp_path, dtype):
    np.save(tmp_path / "map.npy", np.asfortranarray(LABELS % 128).astype(dtype))
    labels = read_label_map(tmp_path / "map.npy")
    np.testing.assert_array_equal(labels, LABELS % 128)
    assert labels.flags.c_contiguous
    assert labels.dtype in (np.int32, np.int64)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_grey_picture_saved_in_colour_is_a_label_map(tmp_path, mode, suffix):
    Image.fromarray(LABELS.astype(np.uint8)).convert(mode).save(tmp_path / f"map{suffix}")
    np.testing.assert_array_equal(read_label_map(tmp_path / f"map{suffix}"), LABELS)


def test_a_palettes_indices_are_the_labels(tmp_path):
    image = Image.fromarray(LABELS.astype(np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0] * 128)
    image.save(tmp_path / "map.tif")
    np.testing.assert_array_equal(read_label_map(tmp_path / "map.tif"), LABELS)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9])
def test_a_tif_that_was_cut_off_is_named_in_one_line(tmp_path, capfd, compression, kept):
    labels = np.random.default_rng(0).integers(0, 2**32, (64, 64), np.uint32)
    tifffile.imwrite(tmp_path / "cut.tif", labels, compression=compression, rowsperstrip=16)
    data = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(
        DataError, match=r"cut.tif: the file must decode as an image, got .+; replace"
    ) as refused:
        read_label_map(tmp_path / "cut.tif")
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", ""), "tifffile says nothing besides"


def test_more_labels_than_a_data_set_may_have(tmp_path):
    labels = np.arange(70_000, dtype=np.int32).reshape(700, 100)
    tifffile.imwrite(tmp_path / "map.tif", labels)
    np.testing.assert_array_equal(read_label_map(tmp_path / "map.tif"), labels)


def test_a_tif_whose_header_is_damaged_does_not_fill_the_memory(tmp_path):
    tifffile.imwrite(tmp_path / "map.tif", LABELS.astype(np.uint32))
    with tifffile.TiffFile(tmp_path / "map.tif", mode="r+b") as tiff:
        for side in ("ImageWidth", "ImageLength"):
            tiff.pages.first.tags[side].overwrite(100_000)
    with pytest.raises(DataError, match=r"map.tif: .* got a header of 100000x100000 px, and a file"):
        read_label_map(tmp_path / "map.tif")


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "map.npy", np.array([[Trap(tmp_path / "sprung")]]), allow_pickle=True)
    with pytest.raises(DataError, match=r"map.npy: must be a whole array of numbers"):
        read_label_map(tmp_path / "map.npy")
    assert not (tmp_path / "sprung").exists()


COLOURED = np.zeros((3, 4, 3), np.uint8)
COLOURED[0, 0] = (255, 0, 0)


@pytest.mark.parametrize(
    ("name", "save", "rule"),
    [
        ("a.npy", lambda p: np.save(p, np.full((3, 4), 1.5)), "must be of integers, got float64"),
        ("a.npy", lambda p: np.save(p, np.ones((3, 4), complex)), "must be of integers, got complex"),
        ("a.npy", lambda p: np.save(p, np.ones((3, 4, 1), int)), r"must have rows and columns, got shape \(3, 4, 1\)"),
        ("a.npy", lambda p: np.save(p, np.ones((0, 4), int)), "must have rows and columns"),
        ("a.npy", lambda p: np.save(p, np.array([[0, -2]])), "got -2 to 0"),
        ("a.npy", lambda p: np.save(p, np.array([[2**63]], np.uint64)), "labels must lie in"),
        ("a.npy", lambda p: p.write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr'"), "must be a whole array"),
        ("a.npy", lambda p: p.write_bytes(b""), "must be a whole array"),
        ("a.png", lambda p: p.write_bytes(b"no picture"), "must decode as an image"),
        ("a.tif", lambda p: tifffile.imwrite(p, np.full((3, 4), np.nan, "f4")), "must be of integers, got float32"),
        ("a.tif", lambda p: tifffile.imwrite(p, np.array([[0, -2]], np.int32)), "got -2 to 0"),
        ("a.tif", lambda p: tifffile.imwrite(p, COLOURED, photometric="rgb"), r"got shape \(3, 4, 3\)"),
        ("a.tif", lambda p: p.write_bytes(b"II*\0no picture"), "must decode as an image"),
        ("a.png", lambda p: Image.fromarray(COLOURED).save(p), "a label map must be a single-channel .* 3 channels"),
        ("a.png", lambda p: Image.new("RGBA", (4, 3), (5, 5, 5, 9)).save(p), "4 channels"),
        ("a.tif", lambda p: tifffile.imwrite(p, np.array([[2**63]], np.uint64)), "labels must lie in"),
        ("a.tif", lambda p: tifffile.imwrite(p, np.zeros((2, 3, 4), np.uint16), photometric="minisblack"), "2 pages"),
    ],
)  # fmt: skip
def test_what_is_no_label_map_is_refused_by_name(tmp_path, name, save, rule):
    save(tmp_path / name)
    with pytest.raises(DataError, match=rule) as refused:
        read_label_map(tmp_path / name)
    assert str(refused.value).startswith(str(tmp_path / name))
    assert len(refused.value.problems) == 1


def test_pieces_of_a_label_become_objects_and_specks_go():
    """Label 1: an L of 3 px, which hangs together over a corner, and a piece of 3 px; two specks of 1 and 2 px.
    Label 2 touches a piece of label 1 and stays apart."""
    labels = np.array(
        [
            [1, 1, 0, 0, 0, 1, 2],
            [0, 0, 1, 0, 0, 1, 2],
            [0, 0, 0, 0, 0, 1, 2],
            [1, 0, 0, 1, 0, 0, 0],
            [1, 0, 0, 0, 0, 0, 0],
        ]
    )
    expected = np.array(
        [
            [1, 1, 0, 0, 0, 2, 3],
            [0, 0, 1, 0, 0, 2, 3],
            [0, 0, 0, 0, 0, 2, 3],
            [0, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0],
        ]
    )
    np.testing.assert_array_equal(relabelled(labels), expected)


def test_nothing_relabelled_is_nothing():
    assert not relabelled(np.zeros((4, 5), np.uint8)).any()


def test_labels_of_any_size_are_relabelled():
    labels = np.array([[2**40, 2**40, 2**40, 0, 2**40, 2**40, 2**40]])
    assert relabelled(labels).tolist() == [[1, 1, 1, 0, 2, 2, 2]]
