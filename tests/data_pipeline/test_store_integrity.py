"""A store holds what its fingerprint says, and what was written into it."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from searcher.data_pipeline import Store, SyntheticGlands, prepare_store
from searcher.data_pipeline.datasets import GlasFolder, LabelFolder, SampleSource
from searcher.data_pipeline.exceptions import ChangedDataError, DamagedStoreError, DataError
from searcher.data_pipeline.store import find_leftovers, find_unverifiable, remove_leftover
from searcher.data_pipeline.store import integrity as store_integrity


def glands() -> SyntheticGlands:
    return SyntheticGlands(num_images=4, size_px=64, seed=3)


def flip_a_bit(file: Path, at: int) -> None:
    """Change one bit in place, as a disk does: the size stays, and so does the inode."""
    with file.open("r+b") as opened:
        opened.seek(at)
        (byte,) = opened.read(1)
        opened.seek(at)
        opened.write(bytes([byte ^ 1]))


def as_after_a_boot(store: Path) -> None:
    """Forget on which boot the store was compared: a machine that starts again has another boot's name."""
    (store / "checked.json").write_text("{}")


# ---- bytes that changed in the store ----


@pytest.mark.parametrize(("file", "what"), [("pixels.bin", "pixels"), ("labels.bin", "labels")])
def test_one_bit_that_changed_is_seen_on_opening_and_names_the_image(
    tmp_path: Path, file: str, what: str
) -> None:
    path = prepare_store(glands(), tmp_path).path
    bytes_per_image = 64 * 64 * (3 if what == "pixels" else 2)
    flip_a_bit(path / file, 2 * bytes_per_image + 77)
    for opening in (lambda: Store.open(path), lambda: prepare_store(glands(), tmp_path)):
        with pytest.raises(DamagedStoreError) as caught:
            opening()
        (line,) = caught.value.problems
        assert line.startswith(
            f"{path}: the store must hold the bytes that were written into it, got others for "
        )
        assert f"{what} of train_3;" in line
    assert path.is_dir(), "it is not built again in silence: the disk may be failing"


def test_bytes_that_change_on_the_disk_alone_are_seen_on_the_next_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = prepare_store(glands(), tmp_path).path
    times = (path / "labels.bin").stat()
    flip_a_bit(path / "labels.bin", 5)
    os.utime(path / "labels.bin", ns=(times.st_atime_ns, times.st_mtime_ns))
    # What no program can do, a failing disk can: other bytes, and not a trace in the inode.
    store_integrity.mark_checked(path, store_integrity.identity_of(path))
    Store.open(path)
    monkeypatch.setattr(store_integrity, "_boot", lambda: "the next boot")
    with pytest.raises(DamagedStoreError, match="labels of train_1"):
        Store.open(path)


def test_a_store_is_compared_once_a_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = prepare_store(glands(), tmp_path).path
    compared: list[Path] = []
    real = store_integrity.check_content

    def counted(path: Path, *args: object) -> None:
        compared.append(path)
        real(path, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(store_integrity, "check_content", counted)
    pickle.loads(pickle.dumps(Store.open(path)))
    assert compared == [], "it was just written"
    as_after_a_boot(path)
    Store.open(path)
    Store.open(path)
    assert compared == [path]
    for boot in range(40):
        monkeypatch.setattr(store_integrity, "_boot", lambda boot=boot: f"node {boot}")
        Store.open(path)
    assert len(json.loads((path / "checked.json").read_text())) == 32, "a marker does not grow for ever"


@pytest.mark.parametrize("content", ["", "[]", "3", '{"a": 7}', "\xff"])
def test_a_marker_of_nonsense_is_no_marker(tmp_path: Path, content: str) -> None:
    path = prepare_store(glands(), tmp_path).path
    (path / "checked.json").write_text(content, encoding="latin-1")
    flip_a_bit(path / "pixels.bin", 0)
    with pytest.raises(DamagedStoreError, match="pixels of train_1"):
        Store.open(path)


def test_damage_while_a_store_is_open_is_seen_at_the_next_look(tmp_path: Path) -> None:
    store = prepare_store(glands(), tmp_path)
    store.check_unchanged()
    os.utime(store.path / "labels.bin")
    store.check_unchanged()  # touched, and the same bytes
    flip_a_bit(store.path / "labels.bin", 0)
    with pytest.raises(DamagedStoreError, match="labels of train_1"):
        store.check_unchanged()


def test_a_store_that_is_replaced_or_removed_while_it_is_open_goes_on(tmp_path: Path) -> None:
    store = prepare_store(glands(), tmp_path)
    expected = store.image(1).copy()
    content = (store.path / "pixels.bin").read_bytes()
    (store.path / "pixels.bin").unlink()
    store.check_unchanged()
    (store.path / "pixels.bin").write_bytes(bytes(len(content)))
    store.check_unchanged()  # the mapped file is the old one
    assert np.array_equal(store.image(1), expected)


def test_the_doctor_finds_damage_though_the_store_was_compared_on_this_boot(tmp_path: Path) -> None:
    path = prepare_store(glands(), tmp_path).path
    assert find_leftovers(tmp_path) == []
    flip_a_bit(path / "labels.bin", 0)
    store_integrity.mark_checked(path, store_integrity.identity_of(path))
    (leftover,) = find_leftovers(tmp_path)
    assert "got others for labels of train_1" in leftover.problem
    assert find_leftovers(tmp_path, fingerprint="0" * 64) == []
    assert remove_leftover(leftover)
    assert np.array_equal(prepare_store(glands(), tmp_path).labels(0), glands().read(0)[1])


def as_of_format_1(store: Path) -> None:
    """Write the index as versions before digests did."""
    index = json.loads((store / "index.json").read_bytes())
    samples = [
        {
            **{name: entry["sample"][name] for name in ("id", "split", "group", "stratum")},
            **{name: entry[name] for name in ("shape", "pixels_offset", "labels_offset", "labels_dtype")},
        }
        for entry in index["entries"]
    ]
    old = {name: index[name] for name in ("pixels_bytes", "labels_bytes", "fingerprint")}
    old |= {"samples": samples, "format": 1}
    from hashlib import sha256

    digest = sha256(json.dumps(old, sort_keys=True).encode()).hexdigest()
    (store / "index.json").write_text(json.dumps(old | {"digest": digest}))
    (store / "checked.json").unlink()


def test_a_store_of_format_1_opens_and_is_known_to_be_without_digests(tmp_path: Path) -> None:
    path = prepare_store(glands(), tmp_path).path
    assert find_unverifiable(tmp_path) == []
    as_of_format_1(path)
    store = Store.open(path)
    assert (store.dtype, store.channels) == ("uint8", ("red", "green", "blue"))
    assert list(store.samples) == list(glands().samples)
    for index in range(4):
        image, labels = glands().read(index)
        assert np.array_equal(store.image(index), image)
        assert np.array_equal(store.labels(index), labels)
    assert find_unverifiable(tmp_path) == [path]
    assert find_leftovers(tmp_path) == []
    flip_a_bit(path / "labels.bin", 0)
    with pytest.raises(DamagedStoreError, match="written to since it was opened"):
        store.check_unchanged()


# ---- files that change while they are read ----


def write_folder(root: Path, num_images: int = 5) -> Path:
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for n in range(num_images):
        Image.fromarray(np.full((16, 16, 3), 10 * n, np.uint8)).save(root / "images" / f"im{n}.png")
        paint(root / "labels" / f"im{n}.png", 1)
    return root


def paint(file: Path, label: int) -> None:
    labels = np.zeros((16, 16), np.uint8)
    labels[4:9, 4:9] = label
    Image.fromarray(labels).save(file)


def write_glas(root: Path) -> Path:
    root.mkdir()
    for n in range(1, 6):
        Image.fromarray(np.full((16, 16, 3), n, np.uint8)).save(root / f"train_{n}.bmp")
        paint(root / f"train_{n}_anno.bmp", 1)
    return root


SOURCES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], SampleSource], str]] = {
    "folder": (write_folder, LabelFolder, "labels/im4.png"),
    "glas": (write_glas, GlasFolder, "train_5_anno.bmp"),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("is_put_back", [False, True])
def test_a_file_that_changes_while_the_store_is_built(tmp_path: Path, kind: str, is_put_back: bool) -> None:
    write, open_source, name = SOURCES[kind]
    root = write(tmp_path / "data")
    file, kept = root / name, (root / name).read_bytes()
    source = open_source(root)
    before = source.fingerprint()
    changes = 0

    def progress(done: int, _total: int) -> None:
        nonlocal changes
        if done == 1 and not changes:
            changes += 1
            paint(file, 3)
        if done == 5 and is_put_back:
            file.write_bytes(kept)  # between the decoding and any look afterwards

    store = prepare_store(source, tmp_path / "cache", progress=progress)
    now = open_source(root)
    assert store.fingerprint == now.fingerprint()
    assert (store.fingerprint == before) is is_put_back
    assert store.labels(4).max() == now.read(4)[1].max() == (1 if is_put_back else 3)
    file.write_bytes(kept)
    again = prepare_store(open_source(root), tmp_path / "cache")
    assert again.fingerprint == before
    assert again.labels(4).max() == 1


def test_a_file_that_never_stops_changing_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data")
    changes = 0

    def progress(done: int, _total: int) -> None:
        nonlocal changes
        changes += done == 1
        paint(root / "labels" / "im3.png", changes + 1)

    with pytest.raises(ChangedDataError) as caught:
        prepare_store(LabelFolder(root), tmp_path / "cache", progress=progress)
    (line,) = caught.value.problems
    assert line.startswith(
        f"{root / 'labels' / 'im3.png'}: the file must stay the same while the data set is read"
    )
    assert changes == 3, "it was read three times"
    assert [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


def test_a_file_that_is_still_being_copied_is_not_called_damaged(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data")
    file = root / "images" / "im4.png"
    whole = file.read_bytes()

    def progress(done: int, total: int) -> None:
        if done == 1:
            file.write_bytes(whole[: len(whole) // 2])
        if done == total - 1:
            progress_ends.append(file.write_bytes(whole + b"trailing bytes, which decoders skip"))

    progress_ends: list[int] = []
    store = prepare_store(LabelFolder(root), tmp_path / "cache", progress=progress)
    assert store.fingerprint == LabelFolder(root).fingerprint()
    assert progress_ends, "it was read again"


def test_a_source_without_files_that_changes_is_refused(tmp_path: Path, array_source, coordinates) -> None:
    source = array_source([coordinates(4, 5)])
    names = iter(f"{n:064d}" for n in range(100))
    source.fingerprint = lambda: next(names)
    with pytest.raises(DataError, match="arrays: the data set must stay the same while it is read"):
        prepare_store(source, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


# ---- depths and channels ----


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("num_channels", [1, 2, 4, 7])
def test_any_depth_and_number_of_channels(
    tmp_path: Path, array_source, dtype: str, num_channels: int
) -> None:
    rng = np.random.default_rng(0)
    high = np.iinfo(dtype).max
    items = [
        (rng.integers(0, high, (*size, num_channels), dtype, endpoint=True), np.ones(size, np.int32))
        for size in ((3, 5), (9, 2))
    ]
    store = Store.open(prepare_store(array_source(items), tmp_path).path)
    assert store.dtype == dtype
    assert store.channels == tuple(f"channel {n + 1}" for n in range(num_channels))
    for index, (image, labels) in enumerate(items):
        assert store.image(index).dtype == dtype
        assert np.array_equal(store.image(index), image)
        assert np.array_equal(store.labels(index), labels)
