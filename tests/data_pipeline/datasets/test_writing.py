"""A data set written as files is the data set that was written."""

import numpy as np
import pytest
from PIL import Image

from searcher.data_pipeline.datasets import SyntheticGlands, open_dataset, write_release
from searcher.data_pipeline.exceptions import DataError


def test_what_was_written_reads_back_alike(tmp_path):
    source = SyntheticGlands(num_images=3, size_px=64, seed=2, num_test_images=2)
    steps = []
    write_release(source, tmp_path / "deep" / "glands", lambda done, total: steps.append((done, total)))
    found = open_dataset(tmp_path / "deep" / "glands")
    assert found.kind == "glas"
    assert sorted(found.samples, key=str) == sorted(source.samples, key=str)
    by_id = {sample.id: index for index, sample in enumerate(found.samples)}
    for index, sample in enumerate(source.samples):
        for written, original in zip(found.read(by_id[sample.id]), source.read(index), strict=True):
            np.testing.assert_array_equal(written, original)
    assert steps == [(n, 5) for n in range(1, 6)]


def test_a_folder_that_is_taken_stays_as_it_is(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="must be a new or empty folder"):
        write_release(SyntheticGlands(num_images=1, size_px=32, seed=0), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_interrupted_nothing_is_left(tmp_path):
    def interrupt(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_release(SyntheticGlands(num_images=2, size_px=32, seed=0), tmp_path / "glands", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_only_the_challenges_own_images_have_its_licence_and_pixel_size(tmp_path):
    """Other images in its layout, as these, are nobody's or somebody else's."""
    write_release(SyntheticGlands(num_images=84, size_px=16, seed=0, num_test_images=1), tmp_path / "84")
    others = open_dataset(tmp_path / "84")
    assert (others.licence, others.pixel_size_um) == ("", None)
    write_release(SyntheticGlands(num_images=85, size_px=16, seed=0, num_test_images=1), tmp_path / "85")
    as_many = open_dataset(tmp_path / "85")
    assert (as_many.licence, as_many.pixel_size_um) == ("", None)
    for name in ("train_1.png", "train_1_anno.png"):
        Image.open(tmp_path / "85" / name).resize((775, 522)).save(tmp_path / "85" / name)
    release = open_dataset(tmp_path / "85")
    assert "for research only" in release.licence
    assert release.pixel_size_um == 0.62005
