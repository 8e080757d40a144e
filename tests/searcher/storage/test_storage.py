"""What every storage does, a folder and an object store: one suite for both."""

from pathlib import Path

import pytest

from searcher.exceptions import StorageError
from searcher.storage.folder import FolderStorage
from searcher.storage.mirror import local_root, named_root, storage_at, storage_of
from searcher.storage.protocol import Storage


@pytest.fixture(params=["folder", "object store"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A root as the database has it, with nothing in it."""
    if request.param == "object store":
        return request.getfixturevalue("bucket_uri")
    return str(tmp_path / "runs")


@pytest.fixture
def storage(root: str) -> Storage:
    return storage_at(root)


def test_its_text_is_the_root_as_the_database_has_it(storage, root):
    assert storage.text == root == named_root("--storage", root)
    assert storage.is_remote == ("://" in root)


def test_the_folder_of_this_machine_leads_back_to_it(root, cache_dir):
    folder = local_root(root)
    assert storage_of(folder).text == root


def test_a_file_is_written_read_replaced_and_removed(storage):
    assert storage.read("s/trial-0000/a.json") is None
    for content in (b"one", b"two"):
        storage.write("s/trial-0000/a.json", content)
        assert storage.read("s/trial-0000/a.json") == content
    storage.remove("s/trial-0000/a.json")
    assert storage.read("s/trial-0000/a.json") is None
    storage.remove("s/trial-0000/a.json")


def test_a_listing_has_all_files_below_a_folder_with_their_sizes(storage):
    assert storage.list("s") == {}
    for name, content in (("s/trial-0000/a", b"1"), ("s/b", b"22"), ("other/c", b"333"), ("s2/d", b"4")):
        storage.write(name, content)
    assert {name: facts.num_bytes for name, facts in storage.list("s").items()} == {
        "s/trial-0000/a": 1,
        "s/b": 2,
    }
    assert set(storage.list()) == {"s/trial-0000/a", "s/b", "other/c", "s2/d"}


def test_what_was_made_for_a_while_is_discarded_and_nothing_else(storage):
    storage.write("s/kept", b"x")
    storage.write(".probe/a/b", b"x")
    storage.discard(".probe")
    assert set(storage.list()) == {"s/kept"}
    storage.discard(".probe")


def test_it_can_be_used(storage):
    storage.check_use()
    assert storage.list() == {}


def test_a_root_that_was_made_for_a_while_is_gone_afterwards(tmp_path):
    storage = FolderStorage(tmp_path / "runs")
    storage.write(".probe/a", b"x")
    storage.discard(".probe")
    assert not (tmp_path / "runs").exists()


def test_a_trials_folder_that_lies_on_another_disk_is_listed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "best.pt").write_bytes(b"12345")
    (tmp_path / "runs" / "s").mkdir(parents=True)
    (tmp_path / "runs" / "s" / "trial-0000").symlink_to(tmp_path / "disk")
    (tmp_path / "runs" / "s" / "nowhere").symlink_to(tmp_path / "gone")
    listing = FolderStorage(tmp_path / "runs").list("s")
    assert {name: facts.num_bytes for name, facts in listing.items()} == {"s/trial-0000/best.pt": 5}


def test_a_file_in_the_way_of_a_folder_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="must be a folder, got the file"):
        FolderStorage(tmp_path / "file" / "runs").check_use()
