"""A data set in an object store: fetched once, and again only where it changed."""

import pytest

from searcher.cli.main import main
from searcher.data_pipeline.datasets import SyntheticGlands, write_release
from searcher.data_pipeline.exceptions import DataError
from searcher.exceptions import StorageError
from searcher.storage.fetched_data import open_data
from searcher.storage.object_store import ObjectStore
from searcher.study.config import DataConfig
from searcher.training.dataset import DataRequest


@pytest.fixture
def release(tmp_path):
    """A folder with a GlaS release of 3 training images."""
    write_release(SyntheticGlands(num_images=3, size_px=64, seed=0, num_test_images=1), tmp_path / "release")
    return tmp_path / "release"


@pytest.fixture
def uri(release, bucket_uri) -> str:
    store = ObjectStore(bucket_uri)
    for path in release.iterdir():
        store.upload(path, path.name)
    return bucket_uri


def test_it_is_the_same_data_set_as_in_a_folder(uri, release, tmp_path):
    there = DataRequest(uri, str(tmp_path / "cache"), DataConfig()).prepare()
    here = DataRequest(str(release), str(tmp_path / "cache"), DataConfig()).prepare()
    assert there.fingerprint == here.fingerprint
    assert len(there) == 4


def test_only_what_changed_is_fetched_again(uri, tmp_path):
    fetched: list[tuple[int, int]] = []

    def fetch():
        fetched.clear()
        return open_data(uri, tmp_path / "cache", progress=lambda done, total: fetched.append((done, total)))

    first = fetch()
    fingerprint = first.fingerprint()
    assert fetched[-1] == (9, 9)  # 4 images, 4 annotations, 1 table
    fetch()
    assert fetched == []
    store, root = ObjectStore(uri), first.root
    store.remove("testA_1.png")
    store.remove("testA_1_anno.png")
    (root / ".fetched-half").write_bytes(b"what a killed process left")
    (root / "train_1.png").write_bytes(b"damaged here")
    again = fetch()
    assert fetched == [(1, 1)]
    assert len(again.samples) == 3
    assert not (root / ".fetched-half").exists()
    assert again.fingerprint() != fingerprint


def test_a_node_with_the_store_asks_nobody(uri, tmp_path, s3_server):
    request = DataRequest(uri, str(tmp_path / "cache"), DataConfig())
    fingerprint = request.prepare().fingerprint
    s3_server.stop()
    try:
        assert len(request.open(fingerprint)) == 4
    finally:
        s3_server.start_again()


@pytest.mark.parametrize("name", ["../outside.png", "a/../../outside.png"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name, bucket_uri, tmp_path):
    ObjectStore(bucket_uri).write(name, b"x")
    with pytest.raises(StorageError, match=r"must lie below it|must hold a data set"):
        open_data(bucket_uri, tmp_path / "cache")
    assert not list(tmp_path.rglob("outside.png"))


def test_no_data_set_there_is_one_line(bucket_uri, s3_server, tmp_path):
    with pytest.raises(DataError, match=r"--data s3://.* must hold a data set, got no object"):
        DataRequest(bucket_uri, str(tmp_path), DataConfig()).prepare()


def test_the_verbs_of_data_take_it(uri, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SEARCHER_CACHE", str(tmp_path / "cache"))
    assert main(["data", "prepare", "--data", uri]) == 0
    assert "4 images (glas)" in capsys.readouterr().out
    assert main(["data", "inspect", "--data", uri]) == 0
    assert main(["data", "inspect", "--data", "s3://AKIA:hush@bucket/x"]) == 2
    assert "hush" not in capsys.readouterr().err
