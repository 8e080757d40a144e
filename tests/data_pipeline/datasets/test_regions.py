"""One image, or one patient: a part of each training image is validated on."""

from pathlib import Path

import lab_formats as lab
import numpy as np
import pytest

from searcher.cli.main import main
from searcher.data_pipeline import DataError, SampleSource, open_dataset, prepare_store
from searcher.data_pipeline.datasets.regions import ValidationRegion
from searcher.data_pipeline.datasets.view import DataView, viewed
from searcher.study.config import DataConfig
from searcher.training.dataset import split_store


@pytest.mark.parametrize(
    ("text", "train", "val"),
    [
        ("right", np.s_[0:10, 0:15], np.s_[0:10, 15:20]),
        ("left:0.1", np.s_[0:10, 2:20], np.s_[0:10, 0:2]),
        ("top:0.5", np.s_[5:10, 0:20], np.s_[0:5, 0:20]),
        ("bottom:0.3", np.s_[0:7, 0:20], np.s_[7:10, 0:20]),
    ],
)
def test_the_parts_are_the_image(text: str, train: tuple[slice, slice], val: tuple[slice, slice]) -> None:
    windows = ValidationRegion.parse(text).windows(10, 20)
    assert windows == (train, val)
    seen = np.zeros((10, 20), int)
    for window in windows:
        seen[window] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("text", ["middle", "right:0", "right:x", "right:0.99", "right:nan", ":0.5"])
def test_what_is_no_region_is_one_line(text: str) -> None:
    with pytest.raises(DataError, match=r"--val-region .* must be one of left, right, top, bottom"):
        ValidationRegion.parse(text)


def test_one_image_is_trained_on_and_validated_on(tmp_path: Path) -> None:
    lab.imagescope(tmp_path / "data", {"a": lab.truth()})
    plain = open_dataset(tmp_path / "data")
    source = viewed(plain, DataView(val_region="right:0.25"))
    assert isinstance(source, SampleSource)
    assert [(sample.id, sample.split) for sample in source.samples] == [
        ("a.train", "train"),
        ("a.val", "val"),
    ]
    assert (
        len(
            {
                plain.fingerprint(),
                source.fingerprint(),
                viewed(plain, DataView(val_region="left")).fingerprint(),
            }
        )
        == 3
    )
    store = prepare_store(source, tmp_path / "cache")
    split = split_store(store, DataConfig())
    assert split == ((0,), (1,))
    assert np.array_equal(store.labels(0), lab.truth()[:, :42])
    assert np.array_equal(store.image(1), lab.picture(lab.truth())[:, 42:])
    image, annotation = source.read_annotated(1)  # type: ignore[attr-defined]
    assert annotation.classes == {4: "Gland"}
    assert image.shape == (lab.HEIGHT, 14, 3)


def test_other_splits_stay_and_validation_images_refuse_it(tmp_path: Path) -> None:
    lab.cellpose(tmp_path, {"a": lab.truth()})
    (tmp_path / "train").rename(tmp_path / "x")
    for name in ("train", "test"):
        lab.cellpose(tmp_path / "more", {"b": lab.truth()})
        (tmp_path / "more" / "train").rename(tmp_path / name)
    (tmp_path / "more").rmdir()
    (tmp_path / "x").rename(tmp_path / "val")
    with pytest.raises(
        DataError, match="--val-region must be for a data set without validation images, got 1 of them"
    ):
        viewed(open_dataset(tmp_path), DataView(val_region="right"))
    for path in (tmp_path / "val").iterdir():
        path.unlink()
    (tmp_path / "val").rmdir()
    source = viewed(open_dataset(tmp_path), DataView(val_region="right"))
    assert sorted(sample.split for sample in source.samples) == ["test", "train", "val"]
    [test] = [index for index, sample in enumerate(source.samples) if sample.split == "test"]
    assert np.array_equal(source.read(test)[1], lab.truth())


def test_the_command_line_says_what_it_means(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cache_dir: Path
) -> None:
    lab.imagescope(tmp_path / "data", {"a": lab.truth()})
    assert main(["plan", "--data", str(tmp_path / "data")]) == 2
    assert "Add --val-region right to validate on a quarter of it" in capsys.readouterr().err
    assert main(["plan", "--data", str(tmp_path / "data"), "--val-region", "right"]) == 0
    assert "objective" in capsys.readouterr().out
    assert main(["plan", "--data", str(tmp_path / "data"), "--val-region", "middle"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
