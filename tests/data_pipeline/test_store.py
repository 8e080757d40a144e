"""The store: exact, shared, and either whole or not there."""

import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from searcher.data_pipeline import DataError, Store, SyntheticGlands, open_dataset, prepare_store
from searcher.data_pipeline.store import find_leftovers, remove_leftover


def glands(num_images: int = 6) -> SyntheticGlands:
    return SyntheticGlands(num_images=num_images, size_px=64, seed=3, num_test_images=2)


def entries(folder: Path) -> list[str]:
    """Return what lies in a cache folder besides lock files."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_gives_back_what_the_source_gave(tmp_path: Path) -> None:
    source = glands()
    store = prepare_store(source, tmp_path)
    assert store.path == tmp_path / source.fingerprint()
    assert store.fingerprint == source.fingerprint()
    assert list(store.samples) == list(source.samples)
    assert len(store) == 8
    for index in range(8):
        image, labels = source.read(index)
        assert np.array_equal(store.image(index), image)
        assert np.array_equal(store.labels(index), labels)


def test_indices_of_a_split(tmp_path: Path) -> None:
    store = prepare_store(glands(), tmp_path)
    assert store.indices("train") == [0, 1, 2, 3, 4, 5]
    assert store.indices("testA") == [6, 7]
    assert store.indices("testB") == []


def test_sizes_may_differ_and_labels_take_32_bits_only_where_needed(
    tmp_path: Path, array_source, coordinates
) -> None:
    items = [coordinates(*shape) for shape in ((1, 1), (7, 3), (300, 300), (5, 11))]
    store = prepare_store(array_source(items), tmp_path)
    for index, (image, labels) in enumerate(items):
        assert np.array_equal(store.image(index), image)
        assert np.array_equal(store.labels(index), labels)
    assert [store.labels(i).dtype for i in range(4)] == [np.uint16, np.uint16, np.int32, np.uint16]


def test_views_of_the_map_cannot_be_written(tmp_path: Path) -> None:
    store = prepare_store(glands(), tmp_path)
    for view in (store.image(0), store.labels(0)):
        assert not view.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            view[0, 0] = 1


def test_an_existing_store_is_returned_without_reading_the_source(
    tmp_path: Path, array_source, coordinates
) -> None:
    source = array_source([coordinates(4, 5)])
    prepare_store(source, tmp_path)
    source.read = None  # type: ignore[method-assign]
    calls: list[tuple[int, int]] = []
    assert len(prepare_store(source, tmp_path, progress=lambda *done: calls.append(done))) == 1
    assert calls == []


def test_progress_counts_images(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    prepare_store(glands(), tmp_path, progress=lambda *done: calls.append(done))
    assert calls == [(n, 8) for n in range(1, 9)]


def test_pickles_as_its_path(tmp_path: Path) -> None:
    store = prepare_store(glands(), tmp_path)
    message = pickle.dumps(store)
    assert len(message) < 1000
    assert np.array_equal(pickle.loads(message).image(2), store.image(2))


def test_an_empty_source_is_refused(tmp_path: Path, array_source) -> None:
    with pytest.raises(DataError, match="at least one image, got none"):
        prepare_store(array_source([]), tmp_path)


# ---- a store that is not whole is not opened, and is built again ----


@pytest.mark.parametrize("file", ["pixels.bin", "labels.bin", "index.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing", "longer"])
def test_damage_is_seen_on_opening_and_repaired_by_preparing(tmp_path: Path, file: str, damage: str) -> None:
    path = prepare_store(glands(), tmp_path).path
    victim = path / file
    content = victim.read_bytes()
    if damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes(content[:-1] if damage == "truncated" else content + b"\n ")
    if (file, damage) == ("index.json", "longer"):
        Store.open(path)  # blanks after the index change nothing that it says
        return
    with pytest.raises(DataError) as caught:
        Store.open(path)
    (problem,) = caught.value.problems
    assert str(victim) in problem
    assert np.array_equal(prepare_store(glands(), tmp_path).image(0), glands().read(0)[0])


def test_an_index_that_was_edited_is_refused(tmp_path: Path) -> None:
    index = prepare_store(glands(), tmp_path).path / "index.json"
    index.write_text(index.read_text().replace('"train_1"', '"train_9"'))
    with pytest.raises(DataError, match="must match its own digest"):
        Store.open(index.parent)


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"digest": ""}'])
def test_an_index_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    index = prepare_store(glands(), tmp_path).path / "index.json"
    index.write_text(text)
    with pytest.raises(DataError, match=r"index\.json: the index must match its own digest"):
        Store.open(index.parent)


def test_no_store_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"index\.json: a store needs this file, got nothing"):
        Store.open(tmp_path / "gone")


# ---- files that cannot be decoded, disks that are full, processes that die ----


def test_all_undecodable_files_are_named_and_nothing_is_left(
    tmp_path: Path, write_glas: Callable[..., None]
) -> None:
    folder = tmp_path / "glas"
    write_glas(folder, [f"train_{n}" for n in range(1, 6)])
    for name in ("train_2.bmp", "train_4_anno.bmp"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError) as caught:
        prepare_store(open_dataset(folder), tmp_path / "cache")
    assert [Path(problem.partition(":")[0]).name for problem in caught.value.problems] == [
        "train_2.bmp",
        "train_4_anno.bmp",
    ]
    assert entries(tmp_path / "cache") == []


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_store(glands(), tmp_path, progress=interrupt)
    assert entries(tmp_path) == []


PREPARE = """
import resource, signal, sys, time
from pathlib import Path
from searcher.data_pipeline import DataError, SyntheticGlands, prepare_store

def glands():
    return SyntheticGlands(num_images=6, size_px=64, seed=3, num_test_images=2)

cache = Path(sys.argv[1])
"""


def test_a_disk_that_takes_no_more_is_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    code = PREPARE + (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # less than the pixels need\n"
        "try:\n    prepare_store(glands(), cache)\n"
        "except DataError as error:\n    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    (line,) = run.stdout.splitlines()
    assert line.startswith(f"{tmp_path}: the store must be writable, got File too large; free space or")
    assert entries(tmp_path) == []


def test_a_cache_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="the store must be writable") as caught:
        prepare_store(glands(), tmp_path / "file" / "cache")
    assert len(caught.value.problems) == 1


def test_a_killed_builder_leaves_nothing_that_is_trusted_and_the_next_cleans_up(tmp_path: Path) -> None:
    code = PREPARE + (
        "def progress(done, total):\n"
        "    if done == 5:\n        print('half-way', flush=True); time.sleep(60)\n"
        "prepare_store(glands(), cache, progress=progress)\n"
    )
    builder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert builder.stdout is not None
    assert builder.stdout.readline() == "half-way\n"
    builder.send_signal(signal.SIGKILL)
    assert builder.wait(10) == -signal.SIGKILL
    fingerprint = glands().fingerprint()
    assert entries(tmp_path) == [f"{fingerprint}.partial"]
    with pytest.raises(DataError):
        Store.open(tmp_path / f"{fingerprint}.partial")
    store = prepare_store(glands(), tmp_path)  # without waiting for the dead builder's lock
    assert entries(tmp_path) == [fingerprint]
    assert np.array_equal(store.image(7), glands().read(7)[0])


BUILD_SLOWLY = PREPARE + (
    "def progress(done, total):\n"
    "    if done == 5:\n        print('half-way', flush=True); sys.stdin.readline()\n"
    "prepare_store(glands(), cache, progress=progress)\n"
)


def test_what_a_killed_builder_left_is_found_and_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    fingerprint = glands().fingerprint()
    builder = subprocess.Popen(
        [sys.executable, "-c", BUILD_SLOWLY, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert builder.stdout is not None
    assert builder.stdout.readline() == "half-way\n"
    assert entries(tmp_path) == [f"{fingerprint}.partial"]
    assert find_leftovers(tmp_path) == [], "it is being built"
    builder.send_signal(signal.SIGKILL)
    builder.wait(10)
    before = sorted(tmp_path.iterdir())
    (leftover,) = find_leftovers(tmp_path)
    assert leftover.path == tmp_path / f"{fingerprint}.partial"
    assert leftover.fingerprint == fingerprint
    assert leftover.problem == f"{leftover.path}: half-built, and its builder is gone"
    assert leftover.num_bytes >= 5 * 64 * 64 * 3 // 2, "what was written of the images"
    assert sorted(tmp_path.iterdir()) == before, "looking changes nothing"
    assert remove_leftover(leftover)
    assert entries(tmp_path) == []
    assert find_leftovers(tmp_path) == []
    assert not remove_leftover(leftover), "it is gone already"


def test_a_store_that_does_not_open_is_found_and_a_good_one_is_not(
    tmp_path: Path, array_source, coordinates
) -> None:
    prepare_store(glands(), tmp_path)
    bad = prepare_store(array_source([coordinates(4, 5)]), tmp_path)
    (bad.path / "pixels.bin").write_bytes(b"short")
    (leftover,) = find_leftovers(tmp_path)
    assert leftover.path == bad.path
    assert "pixels.bin: must be 60 bytes, got 5" in leftover.problem
    assert remove_leftover(leftover)
    assert entries(tmp_path) == [glands().fingerprint()]


def test_a_leftover_that_became_a_store_meanwhile_stays(tmp_path: Path) -> None:
    path = prepare_store(glands(), tmp_path).path
    index = (path / "index.json").read_bytes()
    (path / "index.json").unlink()
    (leftover,) = find_leftovers(tmp_path)
    (path / "index.json").write_bytes(index)
    assert not remove_leftover(leftover)
    assert len(Store.open(path)) == 8


def test_what_is_not_of_the_cache_is_no_leftover(tmp_path: Path) -> None:
    assert find_leftovers(tmp_path / "nowhere") == []
    outside = tmp_path / "outside"
    cache = tmp_path / "cache"
    for name in ("photos", "photos.partial", "a" * 63):
        (cache / name).mkdir(parents=True)
    outside.mkdir()
    (cache / ("b" * 64)).write_bytes(b"a file")
    (cache / ("c" * 64)).symlink_to(outside)
    assert find_leftovers(cache) == []


def test_processes_that_build_at_once_end_with_one_good_store(tmp_path: Path) -> None:
    code = PREPARE + (
        "print('ready', flush=True); sys.stdin.readline()\n"
        "calls = []\n"
        "store = prepare_store(glands(), cache, progress=lambda *done: calls.append(done) or time.sleep(0.02))\n"
        "good = all((store.image(i) == glands().read(i)[0]).all() for i in range(len(store)))\n"
        "print(len(calls), good)\n"
    )
    builders = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for builder in builders:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "ready\n"
    for builder in builders:
        assert builder.stdin is not None
        builder.stdin.write("\n")
        builder.stdin.flush()
    answers = [builder.communicate(timeout=60)[0].split() for builder in builders]
    assert sorted(answers) == [["0", "True"], ["0", "True"], ["8", "True"]]  # one built, the others waited
    assert entries(tmp_path) == [glands().fingerprint()]
