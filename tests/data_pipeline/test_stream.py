"""The stream: a pure function of (seed, epoch, index), and no thread left behind."""

import gc
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from searcher.data_pipeline import Batch, BatchStream, DataError, Store, build_augmentation, prepare_store
from searcher.data_pipeline.augment import Augmentation

CROP = 48


def stream(store: Store, **changes: object) -> BatchStream:
    arguments = {
        "indices": store.indices("train"),
        "batch_size": 4,
        "samples_per_epoch": 18,
        "augmentation": build_augmentation("standard", crop_px=CROP),
        "seed": 5,
        "num_threads": 2,
    }
    return BatchStream(store, **(arguments | changes))  # type: ignore[arg-type]


def copies(batches: object) -> list[Batch]:
    return [Batch(b.images.copy(), b.labels.copy(), b.ids) for b in batches]  # type: ignore[attr-defined]


def same(left: list[Batch], right: list[Batch]) -> bool:
    return len(left) == len(right) and all(
        a.ids == b.ids and np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
        for a, b in zip(left, right, strict=True)
    )


def stream_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("stream-")]


@pytest.fixture(autouse=True)
def _leaves_no_thread() -> object:
    assert stream_threads() == []
    yield
    assert stream_threads() == []


def test_batches_have_the_promised_types_and_the_last_one_what_is_left(store: Store) -> None:
    with stream(store) as batches:
        assert batches.num_batches == 5
        made = copies(batches.epoch(0))
    assert [len(batch.ids) for batch in made] == [4, 4, 4, 4, 2]
    for batch in made:
        assert (batch.images.dtype, batch.images.shape) == (np.uint8, (len(batch.ids), CROP, CROP, 3))
        assert (batch.labels.dtype, batch.labels.shape) == (np.int32, (len(batch.ids), CROP, CROP))


def test_what_comes_out_is_what_the_augmentation_makes_of_the_named_sample(
    tmp_path: Path, array_source: Callable, coordinates: Callable
) -> None:
    """Every crop is a window of the image that its id names, found by its labels."""
    items = [coordinates(60, 70 + n) for n in range(5)]
    source = prepare_store(array_source(items), tmp_path)
    augmentation = build_augmentation("none", crop_px=32)
    with BatchStream(source, range(5), batch_size=3, augmentation=augmentation, seed=0) as batches:
        for batch in batches.epoch(0):
            for image, labels, name in zip(*batch[:3], strict=True):
                number = int(name.removeprefix("item_"))
                y, x = divmod(int(labels[0, 0]) - 1, 70 + number)
                assert np.array_equal(image, items[number][0][y : y + 32, x : x + 32])
                assert np.array_equal(labels, items[number][1][y : y + 32, x : x + 32])


@pytest.mark.parametrize("preset", ["none", "poster", "standard", "strong"])
def test_the_number_of_threads_does_not_matter(store: Store, preset: str) -> None:
    augmentation = build_augmentation(preset, crop_px=CROP)
    made = []
    for num_threads in (0, 1, 2, 16):
        with stream(store, augmentation=augmentation, num_threads=num_threads) as batches:
            made.append(copies(batches.epoch(3)))
    assert same(made[0], made[1])
    assert same(made[0], made[2])
    assert same(made[0], made[3])


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_the_prefetch_does_not_matter(store: Store, prefetch: int) -> None:
    with stream(store) as usual, stream(store, prefetch=prefetch) as other:
        assert same(copies(usual.epoch(0)), copies(other.epoch(0)))


def test_seed_and_epoch_matter_and_epochs_may_come_in_any_order(store: Store) -> None:
    with stream(store) as batches:
        first, second = copies(batches.epoch(0)), copies(batches.epoch(1))
        assert same(copies(batches.epoch(0)), first)
    assert not same(first, second)
    with stream(store, seed=6) as batches:
        assert not same(copies(batches.epoch(0)), first)


def test_the_same_image_is_augmented_anew_each_time(store: Store) -> None:
    with stream(store, indices=[0], samples_per_epoch=4) as batches:
        (batch,) = copies(batches.epoch(0))
        (later,) = copies(batches.epoch(1))
    assert len({image.tobytes() for image in (*batch.images, *later.images)}) == 8


def test_opencvs_own_threads_are_switched_off_but_not_by_a_stream_without_threads(store: Store) -> None:
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        with stream(store, num_threads=0):
            assert cv2.getNumThreads() == 2
        with stream(store, num_threads=1):
            assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("num_threads", [0, 2])
@pytest.mark.parametrize("start_batch", range(6))
def test_resuming_gives_the_remaining_batches(store: Store, start_batch: int, num_threads: int) -> None:
    with stream(store, num_threads=num_threads) as batches:
        whole = copies(batches.epoch(2))
        assert same(copies(batches.epoch(2, start_batch)), whole[start_batch:])


def test_an_epoch_takes_every_image_equally_often(store: Store) -> None:
    with stream(store, samples_per_epoch=33) as batches:  # of 10 images: three passes and three images more
        names = [name for batch in batches.epoch(0) for name in batch.ids]
    for first in (0, 10, 20):
        assert sorted(names[first : first + 10]) == sorted(f"train_{n}" for n in range(1, 11))
    assert sorted(Counter(names).values()) == [3] * 7 + [4] * 3
    assert names[:10] != names[10:20]


def test_zero_samples_per_epoch_means_each_image_once(store: Store) -> None:
    with stream(store, samples_per_epoch=0, indices=[1, 4, 7]) as batches:
        names = [name for batch in batches.epoch(0) for name in batch.ids]
    assert sorted(names) == ["train_2", "train_5", "train_8"]


def test_a_batch_holds_until_the_next_one_is_asked_for(store: Store) -> None:
    with stream(store, num_threads=4, samples_per_epoch=60) as batches:
        for batch in batches.epoch(0):
            before = batch.images.copy(), batch.labels.copy()
            time.sleep(0.01)  # the threads are ahead by now
            assert np.array_equal(batch.images, before[0])
            assert np.array_equal(batch.labels, before[1])


# ---- ending ----


class Counting:
    """An augmentation that counts, and fails at one call."""

    crop_px = CROP

    def __init__(self, fail_at: int = -1, wait_s: float = 0.0) -> None:
        self.calls = 0
        self._lock = threading.Lock()
        self._fail_at = fail_at
        self._wait_s = wait_s

    def __call__(
        self, image: object, labels: object, rng: object, out_image: object, out_labels: object
    ) -> None:
        with self._lock:
            self.calls += 1
            number = self.calls
        time.sleep(self._wait_s)
        if number == self._fail_at:
            raise ValueError("of all\nthings")


def is_augmentation(value: Augmentation) -> Augmentation:
    return value


def test_prefetch_is_bounded(store: Store) -> None:
    counting = Counting()
    with stream(store, augmentation=is_augmentation(counting), samples_per_epoch=400, prefetch=2) as batches:
        next(epoch := batches.epoch(0))
        time.sleep(0.2)
        assert counting.calls <= 4 * 4  # prefetch + 2 batches of 4
        epoch.close()  # type: ignore[attr-defined]


def test_leaving_an_epoch_in_the_middle_and_starting_another(store: Store) -> None:
    with stream(store) as batches:
        expected = copies(batches.epoch(1))
        for _ in batches.epoch(0):
            break
        assert same(copies(batches.epoch(1)), expected)


def test_starting_another_epoch_ends_the_one_before(store: Store) -> None:
    with stream(store) as batches:
        expected = copies(batches.epoch(1))
        old = batches.epoch(0)
        next(old)
        new = batches.epoch(1)
        first = copies([next(new)])
        with pytest.raises(RuntimeError, match="another epoch of this stream was started"):
            next(old)
        assert same(first + copies(new), expected)


def test_an_exception_in_the_consumer_closes_the_stream(store: Store) -> None:
    def consume() -> None:
        with stream(store) as batches:
            for _ in batches.epoch(0):
                raise KeyError

    with pytest.raises(KeyError):
        consume()
    assert stream_threads() == []


def test_close_stops_a_running_epoch_and_may_be_called_again(store: Store) -> None:
    counting = Counting(wait_s=0.02)
    batches = stream(store, augmentation=is_augmentation(counting), samples_per_epoch=4000)
    epoch = batches.epoch(0)
    next(epoch)
    batches.close()
    batches.close()
    assert counting.calls < 400  # of 4000: it does not wait for the epoch's end
    with pytest.raises(RuntimeError, match="closed"):
        next(epoch)
    with pytest.raises(RuntimeError, match="closed"):
        batches.epoch(1)


def test_a_forgotten_stream_takes_its_threads_along(store: Store) -> None:
    batches = stream(store)
    next(batches.epoch(0))
    assert len(stream_threads()) == 2
    del batches
    gc.collect()
    assert stream_threads() == []


@pytest.mark.parametrize("num_threads", [0, 1, 4])
def test_an_error_in_a_worker_surfaces_with_the_samples_name_and_file(store: Store, num_threads: int) -> None:
    failing = is_augmentation(Counting(fail_at=6))
    with stream(store, augmentation=failing, num_threads=num_threads) as batches:
        names = [name for batch in copies(stream_of_names(store)) for name in batch.ids]
        made: list[Batch] = []
        with pytest.raises(DataError) as caught:
            made.extend(batches.epoch(0))
    (problem,) = caught.value.problems
    assert problem.startswith(f"{store.path}: sample train_")
    assert "ValueError: of all things" in problem
    assert isinstance(caught.value.__cause__, ValueError)
    if num_threads <= 1:  # then the sixth call makes the sixth sample
        assert f"sample {names[5]} " in problem
        assert len(made) == 1  # the batch before the failure was handed out


def stream_of_names(store: Store) -> list[Batch]:
    with stream(store) as batches:
        return copies(batches.epoch(0))


def test_after_an_error_the_next_epoch_is_whole(store: Store) -> None:
    counting = Counting(fail_at=3)
    with stream(store, augmentation=is_augmentation(counting)) as batches:
        with pytest.raises(DataError):
            list(batches.epoch(0))
        assert len(list(batches.epoch(1))) == 5


def test_no_image_is_refused(store: Store) -> None:
    with pytest.raises(DataError, match="a stream needs at least one image, got none"):
        stream(store, indices=[])
