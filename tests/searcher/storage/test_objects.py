"""An object store: whole objects, errors of one line, and no key anywhere."""

import hashlib
import os
import pickle
import threading
from pathlib import Path

import pytest

from searcher.exceptions import StorageError
from searcher.storage.object_store import ObjectStore, below, is_object_uri, normal_uri


@pytest.fixture
def store(bucket_uri) -> ObjectStore:
    return ObjectStore(bucket_uri)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("s3://b/x", True), ("gs://b", True), ("runs", False), ("/srv/runs", False), ("C:\\runs", False)],
)
def test_what_names_an_object_store(text, is_one):
    assert is_object_uri(text) is is_one


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("s3://AKIA:hush-hush@bucket/x", "--storage s3: must not hold a key"),
        ("s3://hush-hush@bucket/x", "--storage s3: must not hold a key"),
        ("s3://AKIA:hush/hush-hush@bucket/x", "--storage s3: must not hold a key"),
        ("abfss://box@acc.dfs.core.windows.net/x?client_secret=hush-hush", "got the parameter client_secret"),
        ("file:///tmp/x", "must be a folder or an object store"),
        ("s3://", "must name a bucket"),
        ("s3://[hush-hush/x", "--storage: must be a URI"),
        ("nosuch://bucket/x", "Unrecognized filesystem type"),
        ("s3://bucket/x?nosuch=1", "Unexpected query parameter in S3 URI: 'nosuch'"),
    ],
)
def test_a_uri_that_is_refused_is_one_line_without_the_secret(text, says):
    with pytest.raises(StorageError) as refused:
        normal_uri("--storage", text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "hush-hush" not in str(refused.value)


@pytest.mark.parametrize(
    "uri", ["gs://anonymous@bucket/x", "abfss://box@acc.dfs.core.windows.net/x", "gs://bucket"]
)
def test_what_holds_no_key_is_taken(uri):
    assert normal_uri("--data", uri) == uri


def test_what_makes_no_difference_leaves_a_uri(s3_server):
    uri = s3_server.uri("glands/a/")
    assert normal_uri("--data", uri) == s3_server.uri("glands/a")
    assert below("s3://b/a?scheme=http", "study") == "s3://b/a/study?scheme=http"
    assert below("/srv/runs", "study") == "/srv/runs/study"


def test_objects_are_written_read_listed_and_removed(store, tmp_path):
    content = os.urandom(20_000_000)  # several parts of an upload
    (tmp_path / "a.pt").write_bytes(content)
    sent = store.upload(tmp_path / "a.pt", "t/a b.pt")
    assert (sent.sha256, sent.num_bytes) == (hashlib.sha256(content).hexdigest(), 20_000_000)
    store.write("t/b.txt", b"b")
    assert {name: facts.num_bytes for name, facts in store.list().items()} == {
        "t/a b.pt": 20_000_000,
        "t/b.txt": 1,
    }
    got = store.download("t/a b.pt", tmp_path / "new" / "a.pt", sha256=sent.sha256)
    assert got is not None
    assert (tmp_path / "new" / "a.pt").read_bytes() == content
    assert store.read("t/b.txt") == b"b"
    store.remove("t/b.txt")
    store.remove("t/b.txt")
    assert store.read("t/b.txt") is None
    assert store.download("t/b.txt", tmp_path / "b.txt") is None
    assert list(store.list("t")) == ["t/a b.pt"]
    assert store.list("nowhere") == {}


def test_other_bytes_than_asked_for_replace_nothing(store, tmp_path):
    store.write("a", b"other")
    (tmp_path / "a").write_bytes(b"mine")
    assert store.download("a", tmp_path / "a", sha256=hashlib.sha256(b"mine").hexdigest()) is None
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_that_cannot_be_read_to_its_end_leaves_no_object(store):
    with pytest.raises(OSError, match="Input/output error"):
        store.upload(Path("/proc/self/mem"), "a")  # its first bytes cannot be read
    assert store.list() == {}


def test_a_pickle_holds_no_key(store):
    store.write("a", b"a")  # the connection is there
    pickled = pickle.dumps(store)
    assert os.environ["AWS_SECRET_ACCESS_KEY"].encode() not in pickled
    assert os.environ["AWS_ACCESS_KEY_ID"].encode() not in pickled
    assert pickle.loads(pickled).read("a") == b"a"


def test_a_bucket_that_is_not_there_is_one_line(s3_server):
    with pytest.raises(StorageError, match=r"got no bucket of that name; check the name") as refused:
        ObjectStore(s3_server.uri("nosuch/x"), retry_for_s=60).check_use()
    assert "\n" not in str(refused.value)


def test_keys_that_nobody_knows_are_one_line_without_them(s3_server, bucket_uri):
    s3_server.check_keys(True)
    try:
        with pytest.raises(StorageError, match=r"got access denied; check the credentials") as refused:
            ObjectStore(bucket_uri, retry_for_s=60).check_use()
    finally:
        s3_server.check_keys(False)
    assert "\n" not in str(refused.value)
    assert os.environ["AWS_ACCESS_KEY_ID"] not in str(refused.value)


def test_a_store_that_is_away_is_one_line_or_waited_for(s3_server, store, tmp_path):
    (tmp_path / "a").write_bytes(b"whole")
    s3_server.stop()
    try:
        with pytest.raises(StorageError, match=r"check that the store is up") as away:
            store.upload(tmp_path / "a", "a")
        assert not away.value.is_final
        assert "\n" not in str(away.value)
        back = threading.Timer(1.0, s3_server.start_again)
        back.start()
        store.retry_for_s = 60
        store.upload(tmp_path / "a", "a")
        back.join()
    except BaseException:
        s3_server.start_again()
        raise
    assert store.read("a") == b"whole"
