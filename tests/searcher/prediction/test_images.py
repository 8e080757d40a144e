"""Any image file is a raster of the pixels that its decoder gives, in windows of any place."""

import struct
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import ArrayRaster, tiff
from searcher.data_pipeline.images import reading as images
from searcher.data_pipeline.tiling import Tile
from searcher.inference.image_kind import ImageKind
from searcher.prediction.images import Normalised, images_in, open_image
from searcher.prediction.raster import Resampled

HEIGHT, WIDTH = 150, 211
WINDOWS = [
    Tile(0, 0, HEIGHT, WIDTH),
    Tile(0, 0, 1, 1),
    Tile(37, 61, 64, 90),
    Tile(HEIGHT - 9, WIDTH - 7, 9, 7),
]


def tissue(channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (15, 21, 3), np.uint8)).resize((WIDTH, HEIGHT))
    return np.asarray(coarse)[..., :channels]


def check(path, expected: np.ndarray) -> None:
    with open_image(path, path.parent) as opened:
        raster = Normalised(opened, ImageKind())
        assert (raster.height, raster.width) == expected.shape[:2]
        for window in WINDOWS:
            read = raster.read(window)
            assert read.dtype == np.uint8
            np.testing.assert_array_equal(read, expected[window.window])
    assert [each.name for each in path.parent.iterdir()] == [path.name], "scratch files have no name"


@pytest.fixture(params=["in memory", "in bands"])
def _both_ways(request, monkeypatch):
    """Whatever is large is decoded in bands, so let nothing be small."""
    if request.param == "in bands":
        monkeypatch.setattr(images, "_IN_MEMORY_PX", 1)
        monkeypatch.setattr("searcher.data_pipeline.images.bands._BAND_BYTES", 20 * WIDTH)


@pytest.mark.usefixtures("_both_ways")
class TestPngJpgBmp:
    @pytest.mark.parametrize(
        ("suffix", "mode"),
        [
            *((".png", mode) for mode in ("RGB", "L", "RGBA", "P")),
            *((".bmp", mode) for mode in ("RGB", "L", "RGBA")),
            *((".jpg", mode) for mode in ("RGB", "L")),
        ],
    )
    def test_pixels_are_pillows(self, tmp_path, mode, suffix):
        image = Image.fromarray(tissue()).convert(mode)
        image.save(tmp_path / f"a{suffix}", **({"quality": 90} if suffix == ".jpg" else {}))
        with Image.open(tmp_path / f"a{suffix}") as again:
            check(tmp_path / f"a{suffix}", np.asarray(again.convert("RGB")))

    def test_every_filter_of_png(self, tmp_path):
        """Rows of noise, ramps and copies make the encoder use all five; they are counted."""
        rows = tissue().copy()
        rows[::7] = np.random.default_rng(1).integers(0, 256, rows[::7].shape)
        rows[20:40] = rows[20]
        Image.fromarray(rows).save(tmp_path / "a.png", compress_level=9)
        data = (tmp_path / "a.png").read_bytes()
        start, packed = 8, b""
        while start < len(data):
            length, kind = struct.unpack(">I4s", data[start : start + 8])
            packed += data[start + 8 : start + 8 + length] if kind == b"IDAT" else b""
            start += 12 + length
        lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(HEIGHT, 1 + 3 * WIDTH)
        assert len(set(lines[:, 0].tolist())) >= 4
        check(tmp_path / "a.png", rows)

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
    def test_a_file_that_ends_early_is_named(self, tmp_path, suffix):
        path = tmp_path / f"cut{suffix}"
        Image.fromarray(tissue()).save(path)
        path.write_bytes(path.read_bytes()[:3000])
        with pytest.raises(
            DataError, match=f"cut{suffix}: the file must decode as an image, got .+; replace"
        ):
            open_image(path, tmp_path)


def test_16_bits_are_refused(tmp_path):
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep.png: an image must be 8 bit colour or grey, got 16 bit grey"):
        open_image(tmp_path / "deep.png", tmp_path)


def test_pillows_limit_of_pixels_warns_of_nothing(tmp_path, recwarn):
    """Its warning is for more than 89 million pixels, its error for twice as many: both are decoded in bands."""
    for side in (10_000, 14_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(side + 1))), (b"IEND", b"")]
        data = b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
        (tmp_path / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
        with pytest.raises(DataError, match=rf"large.png: .* got a header of {side}x{side} px, and a file"):
            open_image(tmp_path / "large.png", tmp_path)
    assert not recwarn.list


TIFFS = {
    "raw": {},
    "strips": {"compression": "zlib", "rowsperstrip": 16, "predictor": True},
    "lzw": {"compression": "lzw", "rowsperstrip": 40},
    "tiles": {"compression": "zlib", "tile": (64, 48)},
    "raw tiles": {"tile": (64, 48)},
    "big": {"compression": "zstd", "tile": (32, 32), "bigtiff": True},
    "big-endian": {"byteorder": ">", "compression": "zlib", "rowsperstrip": 7},
    "one strip": {"compression": "zlib", "rowsperstrip": 150},
}


class TestTiff:
    @pytest.mark.parametrize("is_large", [False, True])
    @pytest.mark.parametrize("kind", TIFFS)
    def test_colour(self, tmp_path, monkeypatch, kind, is_large):
        if is_large:
            monkeypatch.setattr(images, "_IN_MEMORY_PX", 1)
        tifffile.imwrite(tmp_path / "a.tif", tissue(), photometric="rgb", **TIFFS[kind])
        check(tmp_path / "a.tif", tissue())

    @pytest.mark.parametrize("kind", ["raw", "strips", "tiles"])
    def test_planes_one_after_the_other(self, tmp_path, kind):
        planes = tissue().transpose(2, 0, 1)
        options = {"photometric": "rgb", "planarconfig": "separate", **TIFFS[kind]}
        tifffile.imwrite(tmp_path / "a.tif", planes, **options)
        check(tmp_path / "a.tif", tissue())

    @pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
    def test_grey(self, tmp_path, photometric):
        grey = tissue()[..., 0]
        stored = 255 - grey if photometric == "miniswhite" else grey
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric)
        check(tmp_path / "a.tif", np.repeat(grey[..., None], 3, axis=2))

    def test_alpha_is_dropped(self, tmp_path):
        pixels = np.concatenate([tissue(), tissue(1)], axis=2)
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
        check(tmp_path / "a.tif", tissue())

    def test_palette(self, tmp_path):
        colours = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
        tifffile.imwrite(
            tmp_path / "a.tif", tissue()[..., 0], photometric="palette", colormap=colours * 256 + colours
        )
        check(tmp_path / "a.tif", colours.T[tissue()[..., 0]].astype(np.uint8))

    def test_jpeg_tiles_are_tifffiles(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "a.tif",
            tissue(),
            photometric="ycbcr",
            compression="jpeg",
            tile=(64, 64),
            subsampling=(2, 2),
        )
        check(tmp_path / "a.tif", tifffile.imread(tmp_path / "a.tif"))

    def test_a_pyramids_largest_level(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
            options = {"photometric": "rgb", "tile": (64, 64), "compression": "zlib"}
            writer.write(tissue(), subifds=1, metadata={"axes": "YXS"}, **options)
            writer.write(np.ascontiguousarray(tissue()[::2, ::2]), subfiletype=1, **options)
        check(tmp_path / "a.ome.tif", tissue())

    def test_a_pyramid_of_plain_pages(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(tissue(), photometric="rgb", metadata=None)
            writer.write(np.ascontiguousarray(tissue()[::2, ::2]), photometric="rgb", metadata=None)
        check(tmp_path / "a.tif", tissue())

    def test_three_channels_of_an_ome_tiff(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "a.ome.tif",
            tissue().transpose(2, 0, 1),
            photometric="minisblack",
            metadata={"axes": "CYX"},
        )
        check(tmp_path / "a.ome.tif", tissue())

    def test_tiles_that_were_not_scanned_are_white(self, tmp_path):
        def tiles():
            for index in range(3 * 4):
                yield None if index == 5 else np.full((64, 64, 3), 9, np.uint8)

        tifffile.imwrite(
            tmp_path / "a.tif", tiles(), shape=(HEIGHT, WIDTH, 3), dtype=np.uint8, tile=(64, 64), photometric="rgb",
            compression="zlib",
        )  # fmt: skip
        expected = np.full((HEIGHT, WIDTH, 3), 9, np.uint8)
        expected[64:128, 64:128] = 255
        check(tmp_path / "a.tif", expected)

    def test_tiles_are_kept_within_bounds_and_still_right(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tiff, "_CACHE_BYTES", 2 * 32 * 32 * 3)
        tifffile.imwrite(tmp_path / "a.tif", tissue(), photometric="rgb", compression="zlib", tile=(32, 32))
        check(tmp_path / "a.tif", tissue())

    @pytest.mark.parametrize(
        ("pixels", "options", "what"),
        [
            (np.zeros((20, 20), np.uint16), {}, "must be 8 bit colour or grey, got 16 bit grey"),
            (np.zeros((20, 20), np.float32), {}, "must be 8 or 16 bit, .*, got float32"),
            (
                np.zeros((5, 20, 20), np.uint8),
                {"photometric": "minisblack"},
                r"one image, got 5 pages \(5 x 20 x 20",
            ),
            (
                np.zeros((20, 20, 4), np.uint8),
                {"photometric": "separated"},
                "must be 8 or 16 bit, .*, got uint8 SEPARATED",
            ),
        ],
    )
    def test_what_is_no_8_bit_image_is_refused(self, tmp_path, pixels, options, what):
        tifffile.imwrite(tmp_path / "odd.tif", pixels, **options)
        with pytest.raises(DataError, match=f"odd.tif: .*{what}"):
            open_image(tmp_path / "odd.tif", tmp_path)

    def test_several_images_are_refused(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "odd.tif") as writer:
            writer.write(tissue(), photometric="rgb", metadata=None)
            writer.write(tissue()[:, :50].copy(), photometric="rgb", metadata=None)
        with pytest.raises(
            DataError, match=r"odd.tif: a file must hold one image, got 2; save them as single"
        ):
            open_image(tmp_path / "odd.tif", tmp_path)

    def test_one_huge_strip_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tiff, "_MAX_SEGMENT_BYTES", 1000)
        tifffile.imwrite(
            tmp_path / "a.tif", tissue(), compression="zlib", rowsperstrip=HEIGHT, photometric="rgb"
        )
        with pytest.raises(
            DataError, match=r"in tiles or short strips, got pieces of 211x150; save it as a tiled"
        ):
            open_image(tmp_path / "a.tif", tmp_path)

    def test_damage_in_the_middle_is_named_when_it_is_read(self, tmp_path):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, tissue(), photometric="rgb", compression="zlib", tile=(64, 64))
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
        path.write_bytes(data)
        with (
            open_image(path, tmp_path) as raster,
            pytest.raises(
                DataError, match=r"a.tif: the file must decode as an image, got .+; replace the file"
            ),
        ):
            raster.read(WINDOWS[0])

    @pytest.mark.parametrize("kind", ["raw", "strips"])
    def test_a_file_that_ends_early_is_named(self, tmp_path, kind):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, tissue(), photometric="rgb", **TIFFS[kind])
        path.write_bytes(path.read_bytes()[:-5000])
        with (
            pytest.raises(DataError, match=r"a.tif: the file must decode"),
            open_image(path, tmp_path) as raster,
        ):
            raster.read(WINDOWS[0])


class TestPixelSize:
    def size(self, path):
        with open_image(path, path.parent) as raster:
            return raster.pixel_size_um

    @pytest.mark.parametrize(
        ("size", "unit", "expected"),
        [
            ((0.25, 0.25), "µm", 0.25),
            ((250, 250), "nm", 0.25),
            ((0.25, 0.5), "µm", None),
            ((1, 1), "pixel", None),
        ],
    )
    def test_of_ome(self, tmp_path, size, unit, expected):
        x, y = size
        metadata = {
            "axes": "YXS", "PhysicalSizeX": x, "PhysicalSizeY": y, "PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit
        }  # fmt: skip
        tifffile.imwrite(tmp_path / "a.ome.tif", tissue(), photometric="rgb", metadata=metadata)
        assert self.size(tmp_path / "a.ome.tif") == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("per_unit", "unit", "expected"),
        [
            (20000, "CENTIMETER", 0.5),
            (50800, "INCH", 0.5),
            (300, "INCH", None),
            (72, "INCH", None),
            (2, None, None),
        ],
    )
    def test_of_resolution_tags(self, tmp_path, per_unit, unit, expected):
        tifffile.imwrite(
            tmp_path / "a.tif",
            tissue(),
            photometric="rgb",
            resolution=(per_unit, per_unit),
            resolutionunit=unit,
        )
        assert self.size(tmp_path / "a.tif") == pytest.approx(expected)

    def test_of_imagej(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "a.tif",
            tissue(),
            imagej=True,
            photometric="rgb",
            resolution=(4, 4),
            metadata={"unit": "um"},
        )
        assert self.size(tmp_path / "a.tif") == pytest.approx(0.25)

    def test_png_and_jpg_say_nothing(self, tmp_path):
        Image.fromarray(tissue()).save(tmp_path / "a.png", dpi=(50800, 50800))
        assert self.size(tmp_path / "a.png") is None


class TestSlides:
    def aperio(self, path):
        """An SVS as Aperio writes it: tiles, MPP in the description, a thumbnail."""
        with tifffile.TiffWriter(path) as writer:
            description = "Aperio Image Library v12\n211x150 (64x64) JPEG/RGB|AppMag = 20|MPP = 0.4990"
            writer.write(
                tissue(), photometric="rgb", tile=(64, 64), compression="jpeg", description=description,
                metadata=None,
            )  # fmt: skip
            writer.write(
                tissue()[:100, :120].copy(), photometric="rgb", description=description, metadata=None
            )

    def test_openslide_and_tifffile_agree(self, tmp_path, monkeypatch):
        pytest.importorskip("openslide")
        self.aperio(tmp_path / "a.svs")
        with open_image(tmp_path / "a.svs", tmp_path) as raster:
            assert type(raster).__name__ == "_Slide"
            assert raster.pixel_size_um == pytest.approx(0.499)
            by_openslide = raster.read(WINDOWS[2])
            with pytest.raises(AssertionError):
                np.testing.assert_array_equal(by_openslide, 255)
        monkeypatch.setitem(sys.modules, "openslide", None)
        with open_image(tmp_path / "a.svs", tmp_path) as raster:
            assert raster.pixel_size_um == pytest.approx(0.499)
            np.testing.assert_allclose(raster.read(WINDOWS[2]).astype(int), by_openslide.astype(int), atol=3)

    def test_without_openslide_what_only_it_reads_says_how_to_get_it(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "openslide", None)
        (tmp_path / "a.mrxs").write_bytes(b"")
        with pytest.raises(
            DataError,
            match=r'a\.mrxs: must have the package openslide of the extra "slides", got none; pip',
        ):
            open_image(tmp_path / "a.mrxs", tmp_path)


class TestResampled:
    @pytest.mark.parametrize("scale", [0.2, 0.37, 0.99, 1.5, 3.0])
    def test_windows_are_parts_of_the_whole_resized(self, scale):
        resampled = Resampled(ArrayRaster(tissue(), pixel_size_um=0.5), scale)
        size = (round(WIDTH * scale), round(HEIGHT * scale))
        assert (resampled.width, resampled.height) == size
        assert resampled.pixel_size_um == pytest.approx(0.5 / scale)
        whole = np.asarray(Image.fromarray(tissue()).resize(size, Image.Resampling.BILINEAR)).astype(int)
        for y, x in np.random.default_rng(0).integers(0, [size[1] - 9, size[0] - 11], (20, 2)):
            window = Tile(int(y), int(x), 9, 11)
            assert np.abs(resampled.read(window) - whole[window.window]).max() <= 1

    def test_shrunk_stripes_become_their_mean(self):
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, ::2] = 200
        assert (
            np.abs(Resampled(ArrayRaster(stripes), 0.25).read(Tile(4, 4, 8, 8)).astype(int) - 100).max() <= 1
        )


def test_images_of_a_folder(tmp_path):
    for name in ("b.PNG", "a.tif", "c.txt", ".d.png"):
        (tmp_path / name).touch()
    (tmp_path / "e.png").mkdir()
    assert [path.name for path in images_in(tmp_path)] == ["a.tif", "b.PNG"]


def test_no_image_and_no_file(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"a.txt: must be an image with one of the endings bif, bmp"):
        open_image(tmp_path / "a.txt", tmp_path)
    with pytest.raises(DataError, match=r"b.png: the file must exist, got nothing"):
        open_image(tmp_path / "b.png", tmp_path)
