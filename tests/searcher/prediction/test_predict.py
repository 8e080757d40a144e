"""From an image file to files: sizes, pixel sizes, broken images, full disks."""

import errno
import json

import numpy as np
import pytest
import tifffile
import torch
from label_maps import mapped
from PIL import Image
from toy_models import RedIsProbability

from searcher.data_pipeline.scratch import ScratchArray
from searcher.data_pipeline.tiling import Tile
from searcher.exceptions import UserError
from searcher.inference.predictor import Predictor
from searcher.prediction import file_prediction as predict_module
from searcher.prediction.file_prediction import (
    FailedImage,
    Options,
    PredictedImage,
    predict_image,
    predict_images,
)


def predictor(**kwargs) -> Predictor:
    return Predictor([RedIsProbability()], device=torch.device("cpu"), **kwargs)


def discs(*centres, size=(90, 120), radius=11) -> np.ndarray:
    rows, columns = np.indices(size)
    image = np.zeros((*size, 3), np.uint8)
    for y, x in centres:
        image[np.hypot(rows - y, columns - x) <= radius] = 255
    return image


def test_outputs_agree_with_one_another(tmp_path):
    image = discs((30, 30), (60, 90))
    Image.fromarray(image).save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    options = Options(folder=tmp_path / "out", pixel_size_um=0.5)
    result = predict_image(tmp_path / "a.png", predictor(tile_px=40, tile_overlap_px=10), options)
    labels = tifffile.imread(tmp_path / "out" / "a.labels.tif")
    np.testing.assert_array_equal(labels > 0, image[..., 0] > 0)
    assert result.objects == labels.max() == 2
    assert result.area_px == (labels > 0).sum()
    assert result.area_um2 == result.area_px / 4
    collection = json.loads((tmp_path / "out" / "a.geojson").read_text())
    assert len(collection["features"]) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.geojson", "a.labels.tif", "a.objects.csv", "a.overlay.png"
    ]  # fmt: skip


class TestPixelSize:
    def predicted(self, tmp_path, image, *, seen_sizes=None, **options):
        tifffile.imwrite(
            tmp_path / "a.tif",
            image,
            photometric="rgb",
            resolution=(20000, 20000),
            resolutionunit="CENTIMETER",
        )
        model = RedIsProbability()
        (tmp_path / "out").mkdir(exist_ok=True)
        result = predict_image(
            tmp_path / "a.tif",
            Predictor([model], device=torch.device("cpu")),
            Options(folder=tmp_path / "out", **options),
        )
        return result, tifffile.imread(tmp_path / "out" / "a.labels.tif"), model.sizes

    def test_the_network_sees_the_size_that_it_was_trained_at(self, tmp_path):
        """The file says 0.5 um; trained at 1 um, the network sees half as many pixels, and objects come back whole."""
        image = discs((30, 30), (60, 90))
        result, labels, sizes = self.predicted(tmp_path, image, trained_um=1.0)
        assert sizes == [(45, 60)]
        assert (result.pixel_size_um, result.scale) == (0.5, 0.5)
        assert labels.shape == (90, 120)
        assert labels.max() == 2
        union, both = ((labels > 0) | (image[..., 0] > 0)).sum(), ((labels > 0) & (image[..., 0] > 0)).sum()
        assert both / union > 0.9

    def test_the_command_line_knows_better_than_the_file(self, tmp_path):
        result, _, sizes = self.predicted(tmp_path, discs((30, 30)), trained_um=1.0, pixel_size_um=2.0)
        assert sizes == [(180, 240)]
        assert (result.pixel_size_um, result.scale) == (2.0, 2.0)

    def test_where_one_of_both_is_unknown_nothing_is_resampled(self, tmp_path):
        result, _, sizes = self.predicted(tmp_path, discs((30, 30)))
        assert sizes == [(90, 120)]
        assert (result.pixel_size_um, result.scale) == (0.5, 1)
        Image.fromarray(discs((30, 30))).save(tmp_path / "b.png")
        result = predict_image(
            tmp_path / "b.png", predictor(), Options(folder=tmp_path / "out", trained_um=0.5)
        )
        assert (result.pixel_size_um, result.scale, result.area_um2) == (None, 1, None)

    def test_sizes_that_cannot_be_are_refused(self, tmp_path):
        with pytest.raises(UserError, match=r"a.tif: .* \(0.5 um\), got 50 um; give --pixel-size-um"):
            self.predicted(tmp_path, discs((30, 30)), trained_um=0.5, pixel_size_um=50.0)


def test_objects_that_fall_between_the_pixels_are_not_counted(tmp_path):
    labels = np.zeros((40, 40), np.int32)
    labels[0, 0], labels[10:20, 10:20], labels[31, 31] = 1, 2, 3
    with mapped(labels, tmp_path) as there:
        there.resize(20, 20)  # pixel n gets what lies at 2n + 1
        read = there.read(Tile(0, 0, 20, 20))
        np.testing.assert_array_equal(
            read, np.where(labels[1::2, 1::2] == 2, 1, np.where(labels[1::2, 1::2], 2, 0))
        )
        assert len(there) == 2


def test_997_of_1000(tmp_path):
    """Smaller, but as it is: 10 images, 3 of them broken in different ways."""
    for number in range(10):
        Image.fromarray(discs((15, 15), size=(30, 30))).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    (tmp_path / "5.png").write_bytes(b"")
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "8.png")
    (tmp_path / "out").mkdir()
    results: list[PredictedImage | FailedImage] = []
    paths = sorted(tmp_path.glob("*.png"))
    predict_images(paths, predictor(), Options(folder=tmp_path / "out", outputs=["csv"]), done=results.append)
    failed = {each.name: each.reason for each in results if isinstance(each, FailedImage)}
    assert sorted(failed) == ["2.png", "5.png", "8.png"]
    assert all(str(tmp_path / name) in reason and "\n" not in reason for name, reason in failed.items())
    assert len(list((tmp_path / "out").iterdir())) == 7


def test_a_full_disk_ends_the_work_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    for name in "ab":
        Image.fromarray(discs((15, 15), size=(30, 30))).save(tmp_path / f"{name}.png")
    (tmp_path / "out").mkdir()
    real, count = predict_module.write_csv, iter(range(10))

    def full(path, table):
        real(path, table)
        if next(count) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(predict_module, "write_csv", full)
    options = Options(folder=tmp_path / "out", outputs=["labels", "csv"])
    with pytest.raises(
        UserError, match=r"b.png could not be written: No space .* go on with --skip-existing"
    ):
        predict_images(sorted(tmp_path.glob("*.png")), predictor(), options, done=lambda _: None)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.labels.tif", "a.objects.csv"]


class FailsOnRed(RedIsProbability):
    """Raises at an image whose first pixel is 255, 0, 0."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def predict_maps(self, images):
        if images[0, 0, 0].tolist() == [255, 0, 0]:
            raise self.error
        return super().predict_maps(images)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "a tile must fit the device's memory, which is full"),
        (MemoryError(), "the image must fit the memory, which is full"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "the image must fit the memory, which is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "must be written, got Permission denied at /x"),
        (OSError(errno.EFBIG, "File too large"), "outputs must be written, got File too large"),
        (RuntimeError("one\ntwo"), "got an unexpected RuntimeError: one two; report it"),
    ],
)  # fmt: skip
def test_what_one_image_brings_about_is_its_line_and_the_others_are_done(tmp_path, error, said):
    for name in "abc":
        image = discs((15, 15), size=(30, 30))
        image[0, 0] = (255, 0, 0) if name == "b" else 0
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    results: list[PredictedImage | FailedImage] = []
    asked = Predictor([FailsOnRed(error)], device=torch.device("cpu"))
    options = Options(folder=tmp_path / "out", outputs=["labels"])
    options.folder.mkdir()
    predict_images(sorted(tmp_path.glob("*.png")), asked, options, done=results.append)
    assert [type(each) for each in results] == [PredictedImage, FailedImage, PredictedImage]
    assert results[1].reason.startswith(f"{tmp_path / 'b.png'}: ")
    assert said in results[1].reason
    assert "\n" not in results[1].reason
    assert sorted(path.name for path in options.folder.iterdir()) == ["a.labels.tif", "c.labels.tif"]


@pytest.mark.parametrize("change", ["replaced", "gone", "written into"])
def test_an_image_that_changes_while_it_is_read_is_its_line(tmp_path, monkeypatch, change):
    path = tmp_path / "a.png"
    Image.fromarray(discs((15, 15), size=(30, 30))).save(path)
    real = predict_module.write_labels

    def changing(*args):
        real(*args)
        if change == "written into":
            with path.open("ab") as file:
                file.write(b"more")
            return
        content = path.read_bytes()
        path.unlink()
        if change == "replaced":
            (tmp_path / "new").write_bytes(content)
            (tmp_path / "new").rename(path)

    monkeypatch.setattr(predict_module, "write_labels", changing)
    results: list[PredictedImage | FailedImage] = []
    options = Options(folder=tmp_path / "out", outputs=["labels"])
    options.folder.mkdir()
    predict_images([path], predictor(), options, done=results.append)
    assert "a.png: the file must stay as it is while it is read" in results[0].reason
    assert not list(options.folder.iterdir())


@pytest.mark.parametrize("um", [5e5, 1e-9, 1e300])
def test_a_pixel_size_that_is_none_is_the_images_line(tmp_path, um):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path,
        discs((15, 15), size=(30, 30)),
        metadata={"PhysicalSizeX": um, "PhysicalSizeY": um, "axes": "YXS"},
    )
    results: list[PredictedImage | FailedImage] = []
    predict_images([path], predictor(), Options(folder=tmp_path), done=results.append)
    assert "a pixel's side must be from 0.001 to 1000 um, got" in results[0].reason


def test_a_folder_in_the_place_of_an_output_is_said_before_the_work(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(discs((15, 15), size=(30, 30))).save(path)
    (tmp_path / "a.geojson").mkdir()
    results: list[PredictedImage | FailedImage] = []
    asked = Predictor([FailsOnRed(AssertionError("no work"))], device=torch.device("cpu"))
    predict_images([path], asked, Options(folder=tmp_path), done=results.append)
    assert "a.geojson must be a file, got a folder of that name; move it away" in results[0].reason
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.geojson", "a.png"]


def test_a_scratch_file_that_does_not_fit_is_an_error_and_no_signal(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with ScratchArray((4, 4), np.int32, tmp_path) as scratch, pytest.raises(OSError, match="No space"):
        scratch.write(Tile(0, 0, 4, 4), np.zeros((4, 4), np.int32))
