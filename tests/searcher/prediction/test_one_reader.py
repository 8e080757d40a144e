"""A file has the same pixels, or the same refusal, for training, inspection, prediction and metrics.

Expected pixels are known by construction; the files are written by Pillow, tifffile, OpenCV, libpng and NumPy.
"""

import hashlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from searcher.data_pipeline.datasets import open_dataset
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import open_raster, read_header, read_image, read_label_header, read_labels
from searcher.data_pipeline.inspect import inspect_dataset
from searcher.data_pipeline.tiling import Tile
from searcher.evaluation.label_maps import read_label_map
from searcher.inference.image_kind import ImageKind
from searcher.prediction.images import Normalised, open_image

H, W = 24, 40
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (H, W, 3), np.uint8)
GREY = RNG.integers(0, 256, (H, W), np.uint8)
DEEP = RNG.integers(0, 65536, (H, W), np.uint16)
CHANNELS = RNG.integers(0, 65536, (5, H, W), np.uint16)
ALPHA = RNG.integers(0, 256, (H, W), np.uint8)
TURNED = {"extratags": [(274, "H", 1, 3, True)]}
PALETTE = RNG.integers(0, 256, (256, 3), np.uint8)


def pil(image: np.ndarray, mode: str | None = None, **options: object) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(image, mode).save(path, **options)


def tif(image: np.ndarray, **options: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, image, **options)


def palette_image(path: Path) -> None:
    image = Image.fromarray(GREY, "P")
    image.putpalette(PALETTE.tobytes())
    image.save(path)


def transparent_palette(path: Path) -> None:
    image = Image.fromarray(GREY, "P")
    image.putpalette(PALETTE.tobytes())
    image.save(path, transparency=bytes(range(256)))


def small_colour_map(path: Path) -> None:
    """A palette as some programs write it: 8 bit values where 16 bit ones belong."""
    tifffile.imwrite(path, GREY, photometric="palette", colormap=PALETTE.T.astype(np.uint16))


def png(rows: np.ndarray, depth: int, colour: int) -> Callable[[Path], None]:
    """A png of packed rows, by hand."""

    def write(path: Path) -> None:
        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        lines = b"".join(b"\0" + row.tobytes() for row in rows)
        header = struct.pack(">IIBBBBB", W, H, depth, colour, 0, 0, 0)
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(lines))
            + chunk(b"IEND", b"")
        )

    return write


FOUR_BIT = GREY & 15
PACKED = (FOUR_BIT[:, ::2] << 4) | FOUR_BIT[:, 1::2]
ONE_BIT = GREY > 127


def pyramid(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(RGB, photometric="rgb", tile=(16, 16), subifds=1, metadata=None)
        writer.write(RGB[::2, ::2].copy(), photometric="rgb", tile=(16, 16), subfiletype=1, metadata=None)


def as_colour(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


IMAGES: dict[str, tuple[Callable[[Path], None], np.ndarray]] = {
    "grey.png": (pil(GREY), GREY[..., None]),
    "grey_alpha.png": (pil(np.dstack([GREY, ALPHA]), "LA"), GREY[..., None]),
    "rgb.png": (pil(RGB), RGB),
    "rgba.png": (pil(np.dstack([RGB, ALPHA])), RGB),
    "palette.png": (palette_image, PALETTE[GREY]),
    "transparent_palette.png": (transparent_palette, PALETTE[GREY]),
    "4bit.png": (png(PACKED, 4, 0), FOUR_BIT[..., None] * 17),
    "16bit.png": (pil(DEEP), DEEP[..., None]),
    "16bit_alpha.png": (png(np.dstack([DEEP, DEEP[::-1]]).astype(">u2"), 16, 4), DEEP[..., None]),
    "opencv.png": (lambda path: cv2.imwrite(str(path), RGB[..., ::-1]), RGB),
    "png_named.tif": (lambda path: Image.fromarray(RGB).save(path, "PNG"), RGB),
    "rgb.BMP": (pil(RGB), RGB),
    "grey.bmp": (pil(GREY), GREY[..., None]),
    "turned.tif": (tif(RGB, photometric="rgb", **TURNED), RGB),
    "turned_grey.tif": (tif(GREY, **TURNED), GREY[..., None]),
    "white_is_zero.tif": (tif(255 - GREY, photometric="miniswhite"), GREY[..., None]),
    "white_is_zero_16.tif": (tif(65535 - DEEP, photometric="miniswhite"), DEEP[..., None]),
    "big_endian.tif": (tif(RGB, photometric="rgb", byteorder=">"), RGB),
    "big_endian_16.tif": (tif(DEEP, byteorder=">"), DEEP[..., None]),
    "big_endian_16_tiles.tif": (tif(DEEP, byteorder=">", tile=(16, 16), compression="zlib"), DEEP[..., None]),
    "planar.tif": (tif(RGB.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"), RGB),
    "predictor.tif": (tif(RGB, photometric="rgb", compression="lzw", predictor=True, rowsperstrip=7), RGB),
    "rgba.tif": (tif(np.dstack([RGB, ALPHA]), photometric="rgb", extrasamples=["unassalpha"]), RGB),
    "grey_alpha.tif": (
        tif(np.dstack([GREY, ALPHA]), photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]),
        GREY[..., None],
    ),
    "palette.tif": (
        tif(GREY, photometric="palette", colormap=PALETTE.T.astype(np.uint16) * 257),
        PALETTE[GREY],
    ),
    "small_colour_map.tif": (small_colour_map, PALETTE[GREY]),
    "channels.tif": (tif(CHANNELS, imagej=True, metadata={"axes": "CYX"}), CHANNELS.transpose(1, 2, 0)),
    "channels.ome.tif": (
        tif(CHANNELS, photometric="minisblack", metadata={"axes": "CYX"}),
        CHANNELS.transpose(1, 2, 0),
    ),
    "channels_contig.tif": (
        tif(CHANNELS.transpose(1, 2, 0).copy(), photometric="minisblack", planarconfig="contig", metadata=None),
        CHANNELS.transpose(1, 2, 0),
    ),
    "pyramid.tif": (pyramid, RGB),
    "opencv.tif": (lambda path: cv2.imwrite(str(path), RGB[..., ::-1]), RGB),
}  # fmt: skip


def packed_tif(rows: np.ndarray, bits: int) -> Callable[[Path], None]:
    """A TIFF of packed rows, by hand: one strip, big-endian."""

    def write(path: Path) -> None:
        data = rows.tobytes()
        entries = [
            (256, 3, W << 16), (257, 3, H << 16), (258, 3, bits << 16), (259, 3, 1 << 16), (262, 3, 1 << 16),
            (273, 4, 8), (277, 3, 1 << 16), (278, 3, H << 16), (279, 4, len(data)),
        ]  # fmt: skip
        ifd = struct.pack(">H", len(entries)) + b"".join(
            struct.pack(">HHII", t, k, 1, v) for t, k, v in entries
        )
        path.write_bytes(b"MM\0*" + struct.pack(">I", 8 + len(data)) + data + ifd + bytes(4))

    return write


TWELVE_BIT = DEEP >> 4
IMAGES["4bit.tif"] = (packed_tif(PACKED, 4), FOUR_BIT[..., None] * 17)
IMAGES["12bit.tif"] = (
    packed_tif(
        np.stack(
            [
                TWELVE_BIT[:, ::2] >> 4,
                ((TWELVE_BIT[:, ::2] & 15) << 4) | (TWELVE_BIT[:, 1::2] >> 8),
                TWELVE_BIT[:, 1::2] & 255,
            ],
            axis=-1,
        ).astype(np.uint8),
        12,
    ),
    TWELVE_BIT[..., None],
)

REFUSED_IMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "16bit_rgb.png": (
        lambda path: cv2.imwrite(str(path), CHANNELS[:3].transpose(1, 2, 0)),
        "got 16 bit RGB, .* save it as 8 bit RGB",
    ),
    "16bit_rgb.tif": (
        tif(CHANNELS[:3].transpose(1, 2, 0).copy(), photometric="rgb"),
        "got 16 bit RGB, .* save it as 8 bit RGB",
    ),
    "1bit.png": (pil(ONE_BIT), "8 or 16 bit, .* got 1 bit"),
    "1bit.tif": (tif(ONE_BIT), "8 or 16 bit, .* got 1 bit"),
    "cmyk.jpg": (lambda path: Image.fromarray(RGB).convert("CMYK").save(path), "got CMYK"),
    "cmyk.tif": (tif(np.dstack([RGB, ALPHA]), photometric="separated"), "got uint8 SEPARATED"),
    "float.tif": (tif(GREY.astype(np.float32)), "got float32"),
    "signed.tif": (tif(GREY.astype(np.int16)), "got int16"),
    "ycbcr.tif": (tif(RGB, photometric="ycbcr", metadata=None, subsampling=(1, 1)), "got uint8 YCBCR"),
    "lab.tif": (lambda path: Image.fromarray(RGB).convert("LAB").save(path), "got uint8 CIELAB"),
    "stack.tif": (tif(CHANNELS, imagej=True, metadata={"axes": "ZYX"}), "got a stack of 5 planes"),
    "times.ome.tif": (
        tif(CHANNELS, photometric="minisblack", metadata={"axes": "TYX"}),
        "got a series of 5 times",
    ),
    "pages.tif": (tif(CHANNELS, photometric="minisblack"), "got 5 pages"),
    "empty.png": (lambda path: path.touch(), "got an empty file"),
    "empty.tif": (lambda path: path.touch(), "got an empty file"),
    "text.png": (lambda path: path.write_text("no picture"), "by its first bytes"),
}

STORED = np.where(GREY > 200, GREY, 0)
WIDE = STORED.astype(np.int32) * 1000


def palette_labels(path: Path) -> None:
    image = Image.fromarray(STORED, "P")
    image.putpalette(PALETTE.tobytes())
    image.save(path)


LABELS: dict[str, tuple[Callable[[Path], None], np.ndarray]] = {
    "8bit.png": (pil(STORED), STORED),
    "16bit.png": (pil(STORED.astype(np.uint16) * 200), STORED.astype(np.int32) * 200),
    "4bit.png": (png(PACKED, 4, 0), FOUR_BIT),
    "1bit.png": (pil(ONE_BIT), ONE_BIT),
    "palette.png": (palette_labels, STORED),
    "palette.tif": (palette_labels, STORED),
    "rgb.png": (pil(as_colour(STORED)), STORED),
    "rgb.tif": (tif(as_colour(STORED), photometric="rgb"), STORED),
    "16bit_rgb.png": (
        lambda path: cv2.imwrite(str(path), as_colour(STORED.astype(np.uint16) * 200)),
        STORED.astype(np.int32) * 200,
    ),
    "8bit.bmp": (pil(STORED), STORED),
    "turned.tif": (tif(STORED, **TURNED), STORED),
    "white_is_zero.tif": (tif(STORED, photometric="miniswhite"), STORED),
    "white_is_zero_16.tif": (tif(STORED.astype(np.uint16), photometric="miniswhite"), STORED),
    "1bit.tif": (tif(ONE_BIT), ONE_BIT),
    "1bit_fax.tif": (lambda path: Image.fromarray(ONE_BIT).save(path, compression="group4"), ONE_BIT),
    "1bit_black_is_zero.tif": (tif(ONE_BIT, photometric="minisblack"), ONE_BIT),
    "32bit.tif": (tif(WIDE.astype(np.uint32)), WIDE),
    "64bit.tif": (tif(WIDE.astype(np.int64)), WIDE),
    "4bit.tif": (lambda path: packed_tif(PACKED, 4)(path), FOUR_BIT),
    "big_endian.tif": (tif(WIDE, byteorder=">"), WIDE),
    "float.tif": (tif(WIDE.astype(np.float32)), WIDE),
    "imagej.tif": (tif(WIDE.astype(np.float32), imagej=True), WIDE),
    "pyramid.tif": (tif(STORED, tile=(16, 16), compression="zlib"), STORED),
    "fortran.npy": (lambda path: np.save(path, np.asfortranarray(WIDE)), WIDE),
    "double.npy": (lambda path: np.save(path, WIDE.astype(float)), WIDE),
    "mask.npy": (lambda path: np.save(path, ONE_BIT), ONE_BIT),
    "one.npz": (lambda path: np.savez_compressed(path, WIDE), WIDE),
    "named.npz": (lambda path: np.savez(path, image=GREY, labels=WIDE), WIDE),
}

REFUSED_LABELS: dict[str, tuple[Callable[[Path], None], str]] = {
    "negative.tif": (
        tif(STORED.astype(np.int16) - 2),
        "labels must lie in 0..2147483647, or be -1 where nothing is annotated, got -2",
    ),
    "fractions.tif": (tif(STORED.astype(np.float32) + 0.5), "must be of integers, got float32"),
    "nan.npy": (lambda path: np.save(path, np.full((H, W), np.nan)), "must be of integers, got float64"),
    "colours.png": (pil(RGB), "single-channel .* 3 channels"),
    "colours.tif": (tif(RGB, photometric="rgb"), r"one number a pixel, got shape \(24, 40, 3\)"),
    "transparent.png": (pil(np.dstack([STORED, ALPHA]), "LA"), "single-channel .* 2 channels"),
    "channels.tif": (tif(CHANNELS, imagej=True, metadata={"axes": "CYX"}), "one number a pixel"),
    "pages.tif": (tif(CHANNELS, photometric="minisblack"), "got 5 pages"),
    "objects.npy": (lambda path: np.save(path, np.array([[None]]), allow_pickle=True), "Python objects"),
    "several.npz": (lambda path: np.savez(path, a=GREY, b=GREY), "must hold one array"),
    "short.npy": (lambda path: path.write_bytes(npy_bytes()[:-9]), "must be a whole array"),
    "empty.npy": (lambda path: path.touch(), "must be a whole array"),
    "zip.npz": (lambda path: path.write_bytes(b"PK\3\4 no zip"), "must be a whole archive"),
    "text.npz": (lambda path: path.write_text("no zip"), "must be a whole array"),
}


def npy_bytes() -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, WIDE)
    return buffer.getvalue()


def data_set(folder: Path, image: Path | None, labels: Path | None) -> Path:
    """A data set of one pair: the file in question, and a sound partner."""
    for kind, given, sound in (("images", image, GREY), ("labels", labels, STORED)):
        (folder / kind).mkdir(parents=True)
        if given is None:
            Image.fromarray(sound).save(folder / kind / "a.png")
        else:
            (folder / kind / f"a{given.suffix}").write_bytes(given.read_bytes())
    return folder


def whole(raster) -> np.ndarray:
    with raster:
        return raster.read(Tile(0, 0, raster.height, raster.width))


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_has_the_same_pixels_everywhere(tmp_path: Path, name: str) -> None:
    write, expected = IMAGES[name]
    path = tmp_path / name
    write(path)
    header = read_header(path)
    assert (header.height, header.width, header.channels) == expected.shape
    assert header.dtype == expected.dtype
    np.testing.assert_array_equal(read_image(path), expected)
    np.testing.assert_array_equal(whole(open_raster(path, tmp_path)), expected)
    with open_raster(path, tmp_path) as raster:
        window = Tile(5, 7, 13, 21)
        np.testing.assert_array_equal(raster.read(window), expected[window.window])
    if expected.dtype == np.uint8:
        rgb = expected if expected.shape[2] == 3 else as_colour(expected[..., 0])
        np.testing.assert_array_equal(open_dataset(data_set(tmp_path / "data", path, None)).read(0)[0], rgb)
        np.testing.assert_array_equal(whole(Normalised(open_image(path, tmp_path), ImageKind())), rgb)


@pytest.mark.parametrize("name", REFUSED_IMAGES)
def test_an_image_is_refused_alike_everywhere(tmp_path: Path, name: str) -> None:
    write, rule = REFUSED_IMAGES[name]
    path = tmp_path / name
    write(path)
    root = data_set(tmp_path / "data", path, None)
    with pytest.raises(DataError, match=rule) as in_training:
        open_dataset(root)
    with pytest.raises(DataError, match=rule) as in_prediction:
        open_image(path, tmp_path)
    (reported,) = inspect_dataset(open_dataset(root, strict=False)).problems
    said = [str(error.value).partition(": ")[2] for error in (in_training, in_prediction)]
    assert said[0] == said[1] == reported.partition(": ")[2]
    assert "\n" not in said[0]


@pytest.mark.parametrize("name", LABELS)
def test_a_label_map_has_the_same_values_everywhere(tmp_path: Path, name: str) -> None:
    write, expected = LABELS[name]
    path = tmp_path / name
    write(path)
    header = read_label_header(path)
    assert (header.height, header.width) == expected.shape
    assert (header.dtype == bool) == (expected.dtype == bool)
    labels = read_labels(path)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(read_label_map(path), expected)


@pytest.mark.parametrize("name", REFUSED_LABELS)
def test_a_label_map_is_refused_alike_everywhere(tmp_path: Path, name: str) -> None:
    write, rule = REFUSED_LABELS[name]
    path = tmp_path / name
    write(path)
    with pytest.raises(DataError, match=rule) as in_training:
        read_labels(path)
    with pytest.raises(DataError, match=rule) as in_metrics:
        read_label_map(path)
    assert str(in_training.value) == str(in_metrics.value)
    assert str(in_training.value).startswith(f"{path}: ")
    assert len(in_training.value.problems) == 1


@pytest.mark.parametrize("turned", ["images", "labels"])
def test_an_orientation_that_is_not_followed_is_said(tmp_path: Path, turned: str) -> None:
    """And a store that an earlier release built of turned pixels is not taken for these."""
    root = data_set(tmp_path / "data", None, None)
    plain = open_dataset(root)
    assert not plain.remarks
    (root / turned / "a.png").unlink()
    tifffile.imwrite(root / turned / "a.tif", GREY if turned == "images" else STORED, **TURNED)
    source = open_dataset(root)
    (remark,) = source.remarks
    assert remark in inspect_dataset(source).remarks
    assert remark.startswith(f"{root / turned / 'a.tif'}: its orientation tag is 3, which is not followed")
    digest = hashlib.sha256(b"folder")
    digest.update(repr(("a", "train", "a", "")).encode())
    for path in (next((root / "images").iterdir()), next((root / "labels").iterdir())):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    assert source.fingerprint() != digest.hexdigest()


def test_the_fingerprint_of_other_files_is_that_of_earlier_releases(tmp_path: Path) -> None:
    root = data_set(tmp_path / "data", None, None)
    digest = hashlib.sha256(b"folder")
    digest.update(repr(("a", "train", "a", "")).encode())
    for kind in ("images", "labels"):
        digest.update(hashlib.sha256((root / kind / "a.png").read_bytes()).digest())
    assert open_dataset(root).fingerprint() == digest.hexdigest()


def test_a_label_above_31_bits_is_refused_in_training_and_kept_in_metrics(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 2**31]], np.uint32))
    with pytest.raises(DataError, match=r"must lie in 0\.\.2147483647, got 2147483648; number"):
        read_labels(tmp_path / "a.tif")
    assert read_label_map(tmp_path / "a.tif").tolist() == [[0, 2**31]]
