"""Augmentation: what each preset may do to an image, and that labels go along and stay labels.

The image of `coordinates` says in red and green where each pixel came from, and its label map gives each pixel
a number of its own, so that what came out tells where it came from.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from searcher.data_pipeline import PRESETS, DataError, SyntheticGlands, augment, build_augmentation, warp

Made = tuple[NDArray[np.uint8], NDArray[np.int32]]


def make(
    preset: str, image: NDArray, labels: NDArray, *, crop_px: int, seed: int = 0, strength: float = 1.0
) -> Made:
    out_image = np.full((crop_px, crop_px, 3), 123, np.uint8)
    out_labels = np.full((crop_px, crop_px), -1, np.int32)
    augmentation = build_augmentation(preset, crop_px=crop_px, strength=strength)
    augmentation(image, labels, np.random.default_rng(seed), out_image, out_labels)
    return out_image, out_labels


def came_from(labels: NDArray[np.int32], width: int) -> tuple[NDArray, NDArray]:
    """Return y and x in the source of each pixel, from labels made by `coordinates`."""
    return (labels - 1) // width, (labels - 1) % width


@pytest.fixture
def reflections_keep_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests in which a label tells where a pixel came from."""
    for module in (augment, warp):
        monkeypatch.setattr(module, "separate_reflections", lambda *_: None)


# ---- every preset ----


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
@pytest.mark.parametrize("shape", [(90, 120), (64, 64), (40, 100), (20, 30), (1, 1), (3, 200)])
def test_labels_are_moved_not_mixed_and_only_reflections_have_new_ones(
    preset: str, dtype: type, shape: tuple[int, int], request: pytest.FixtureRequest
) -> None:
    rng = np.random.default_rng(0)
    top = 65_535 if dtype is np.uint16 else 2**31 - 1
    labels = rng.choice([0, 1, 255, 256, 257, top - 1, top], size=shape).astype(dtype)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    separated = [make(preset, image, labels, crop_px=64, seed=seed)[1] for seed in range(6)]
    request.getfixturevalue("reflections_keep_labels")
    for seed, made in enumerate(separated):
        _, as_they_were = make(preset, image, labels, crop_px=64, seed=seed)
        assert set(np.unique(as_they_were)) <= set(np.unique(labels).tolist())
        pairs = np.unique(np.stack([made.ravel(), as_they_were.ravel()]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1]  # a new label is a part of one old label
        assert np.array_equal(made == 0, as_they_were == 0)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_same_generator_gives_the_same_crop_and_another_one_another(
    preset: str, coordinates: Callable
) -> None:
    image, labels = coordinates(600, 700)
    first, again, other = (make(preset, image, labels, crop_px=64, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("preset", PRESETS)
def test_the_store_is_not_written_to(preset: str, coordinates: Callable) -> None:
    image, labels = coordinates(100, 100)
    image.flags.writeable = labels.flags.writeable = False
    before = image.copy(), labels.copy()
    for seed in range(8):
        make(preset, image, labels, crop_px=100, seed=seed)
    assert np.array_equal(image, before[0])
    assert np.array_equal(labels, before[1])


@pytest.mark.parametrize("preset", PRESETS)
def test_threads_may_share_one_augmentation(preset: str) -> None:
    image, labels = SyntheticGlands(num_images=1, size_px=128, seed=0).read(0)
    shared = build_augmentation(preset, crop_px=96)
    expected = [make(preset, image, labels, crop_px=96, seed=seed) for seed in range(24)]
    made: list[Made | None] = [None] * 24

    def work(first: int) -> None:
        for seed in range(first, 24, 4):
            out = np.empty((96, 96, 3), np.uint8), np.empty((96, 96), np.int32)
            shared(image, labels, np.random.default_rng(seed), *out)
            made[seed] = out

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for want, got in zip(expected, made, strict=True):
        assert got is not None
        assert np.array_equal(want[0], got[0])
        assert np.array_equal(want[1], got[1])


# ---- none ----


def test_none_is_a_window_of_the_image_and_reaches_every_place(coordinates: Callable) -> None:
    image, labels = coordinates(10, 12)
    corners = set()
    for seed in range(300):
        made_image, made_labels = make("none", image, labels, crop_px=8, seed=seed)
        y, x = (int(v[0, 0]) for v in came_from(made_labels, 12))
        corners.add((y, x))
        assert np.array_equal(made_image, image[y : y + 8, x : x + 8])
        assert np.array_equal(made_labels, labels[y : y + 8, x : x + 8])
    assert corners == {(y, x) for y in range(3) for x in range(5)}


def test_none_continues_a_small_image_by_reflection() -> None:
    labels = np.array([[1, 2, 3]], np.uint16)
    image = np.repeat(labels[..., None], 3, axis=2).astype(np.uint8)
    made_image, made_labels = make("none", image, labels, crop_px=7)
    assert made_image[0, :, 0].tolist() == [3, 2, 1, 2, 3, 2, 1]
    # What is not connected with its instance is another one: with labels that are free.
    assert made_labels.tolist() == [[4, 5, 1, 2, 3, 6, 7]] * 7


# ---- poster ----


def poster_moves(made_labels: NDArray[np.int32], width: int) -> tuple[bool, bool, bool]:
    """Return whether a poster crop of a 600 x 700 image was flipped vertically, horizontally, and cropped."""
    y, x = came_from(made_labels, width)
    return bool(y[0, 0] > y[-1, 0]), bool(x[0, 0] > x[0, -1]), bool(abs(int(x[0, -1]) - int(x[0, 0])) < 512)


def test_poster_flips_and_crops_with_probability_one_half_each_and_independently(
    coordinates: Callable,
) -> None:
    image, labels = coordinates(600, 700)
    counts: dict[tuple[bool, bool, bool], int] = {}
    for seed in range(400):
        moves = poster_moves(make("poster", image, labels, crop_px=32, seed=seed)[1], 700)
        counts[moves] = counts.get(moves, 0) + 1
    assert len(counts) == 8
    # Each of the 8 has an expectation of 50 and a standard deviation of 6.6.
    assert min(counts.values()) > 25
    assert max(counts.values()) < 80


def test_poster_without_a_crop_is_the_resized_image(coordinates: Callable) -> None:
    """Against NumPy: nearest labels at pixel centres, a linear image within rounding, flips by indexing."""
    image, labels = coordinates(600, 700)
    y, x = (np.floor((np.arange(64) + 0.5) * size / 64).astype(int) for size in (600, 700))
    seen = set()
    for seed in range(40):
        made_image, made_labels = make("poster", image, labels, crop_px=64, seed=seed)
        down, across, cropped = moves = poster_moves(made_labels, 700)
        if cropped:
            continue
        seen.add(moves)
        order = np.s_[:: -1 if down else 1, :: -1 if across else 1]
        assert np.array_equal(made_labels, labels[np.ix_(y, x)][order])
        expected = cv2.resize(image, (64, 64), interpolation=cv2.INTER_LINEAR)[order]
        assert np.array_equal(made_image, expected)
    assert len(seen) == 4


def test_poster_crops_512_px_and_resizes_them(coordinates: Callable) -> None:
    image, labels = coordinates(600, 700)
    seen = 0
    for seed in range(40):
        made_image, made_labels = make("poster", image, labels, crop_px=512, seed=seed)
        down, across, cropped = poster_moves(made_labels, 700)
        y, x = came_from(made_labels, 700)
        cropped = len(np.unique(x)) == 512 and int(x.max() - x.min()) == 511
        if not cropped:
            continue
        seen += 1
        top, left = int(y.min()), int(x.min())
        order = np.s_[:: -1 if down else 1, :: -1 if across else 1]
        assert np.array_equal(made_image, image[top : top + 512, left : left + 512][order])
        assert np.array_equal(made_labels, labels[top : top + 512, left : left + 512][order])
    assert seen > 10


def test_poster_takes_all_of_an_image_smaller_than_its_crop() -> None:
    labels = np.zeros((40, 600), np.uint16)
    labels[0], labels[-1] = 1, 2
    image = np.zeros((40, 600, 3), np.uint8)
    for seed in range(10):
        assert {1, 2} <= set(np.unique(make("poster", image, labels, crop_px=64, seed=seed)[1]))


# ---- standard and strong ----

DISTORTING = pytest.mark.parametrize("preset", ["standard", "strong"])


@DISTORTING
@pytest.mark.usefixtures("reflections_keep_labels")
def test_image_and_labels_are_taken_from_the_same_place(preset: str, coordinates: Callable) -> None:
    """Where no jitter was drawn, red and green tell where a pixel came from, and so does its label."""
    image, labels = coordinates(250, 250)
    checked = 0
    for seed in range(60):
        made_image, made_labels = make(preset, image, labels, crop_px=100, seed=seed)
        if not (made_image[..., 2] == 7).all():
            continue  # blue is 7 everywhere unless colours were jittered
        y, x = came_from(made_labels, 250)
        assert np.abs(made_image[..., 0].astype(int) - x).max() <= 1
        assert np.abs(made_image[..., 1].astype(int) - y).max() <= 1
        checked += 1
    assert checked >= 3


@DISTORTING
def test_strength_0_only_crops_flips_and_turns(preset: str, coordinates: Callable) -> None:
    image, labels = coordinates(40, 50)
    symmetries = set()
    for seed in range(200):
        made_image, made_labels = make(preset, image, labels, crop_px=20, seed=seed, strength=0)
        y, x = came_from(made_labels, 50)
        window = labels[y.min() : y.max() + 1, x.min() : x.max() + 1]
        of_window = {
            (turns, mirrored): np.rot90(window.T if mirrored else window, turns)
            for turns in range(4)
            for mirrored in (False, True)
        }
        (found,) = [name for name, turned in of_window.items() if np.array_equal(turned, made_labels)]
        symmetries.add(found)
        assert np.array_equal(made_image, image[y, x])
    assert len(symmetries) == 8


@pytest.mark.parametrize(
    ("preset", "low", "high", "spread"), [("standard", 0.6, 1.6, 0.05), ("strong", 0.3, 2.2, 0.17)]
)
@pytest.mark.usefixtures("reflections_keep_labels")
def test_the_scale_keeps_within_its_range(
    preset: str, low: float, high: float, spread: float, coordinates: Callable
) -> None:
    """The area seen by a crop is its own, times the square of a scale within 0.8..1.25 (`strong` 0.67..1.5) and a
    little shear and bend."""
    image, labels = coordinates(250, 250)
    scales = []
    for seed in range(60):
        y, x = (
            v.astype(float) for v in came_from(make(preset, image, labels, crop_px=60, seed=seed)[1], 250)
        )
        across = np.array([x[0, -1] - x[0, 0], y[0, -1] - y[0, 0]]) / 59
        down = np.array([x[-1, 0] - x[0, 0], y[-1, 0] - y[0, 0]]) / 59
        scales.append(np.sqrt(abs(across[0] * down[1] - across[1] * down[0])))
    assert min(scales) > low
    assert max(scales) < high
    assert np.std(scales) > spread


@DISTORTING
def test_strength_scales_how_far_colours_go(preset: str) -> None:
    image = np.full((64, 64, 3), (200, 120, 160), np.uint8)
    labels = np.ones((64, 64), np.uint16)

    def mean_shift(strength: float) -> float:
        shifts = [
            np.abs(
                make(preset, image, labels, crop_px=64, seed=seed, strength=strength)[0].astype(float) - image
            )
            for seed in range(30)
        ]
        return float(np.mean(shifts))

    assert mean_shift(0) == 0
    assert 1 < mean_shift(0.5) < mean_shift(1.0) < mean_shift(2.0)


@DISTORTING
def test_corners_are_filled_with_reflected_tissue_never_with_black(preset: str) -> None:
    image = np.full((50, 50, 3), (200, 120, 160), np.uint8)
    labels = np.full((50, 50), 9, np.uint16)
    for seed in range(30):
        made_image, made_labels = make(preset, image, labels, crop_px=50, seed=seed)
        assert (made_labels == 9).all()
        assert (
            np.ptp(made_image.reshape(-1, 3), axis=0).max() <= 2
        )  # one colour in, one out, but for rounding


@pytest.mark.parametrize(("preset", "smallest", "largest"), [("standard", 0.5, 2.2), ("strong", 0.3, 3.2)])
def test_instances_stay_in_one_piece(preset: str, smallest: float, largest: float) -> None:
    """A smooth bend tears nothing: a disc stays one piece of about its area."""
    labels = np.zeros((400, 400), np.uint16)
    cv2.circle(labels, (200, 200), 40, 300, cv2.FILLED)
    image = np.zeros((400, 400, 3), np.uint8)
    whole = 0
    for seed in range(60):
        # So far from the border that no reflected disc is seen, wherever the crop lies.
        _, made = make(preset, image, labels, crop_px=200, seed=seed)
        mask = (made == 300).astype(np.uint8)
        pieces, _ = cv2.connectedComponents(mask)
        assert pieces <= 2
        if pieces == 2 and not mask[[0, -1]].any() and not mask[:, [0, -1]].any():
            whole += 1
            # The scale squared, and the bend.
            assert smallest < mask.sum() / (labels == 300).sum() < largest
    assert whole > 10


@pytest.mark.usefixtures("reflections_keep_labels")
def test_strong_blurs_a_part_of_the_images_and_no_labels() -> None:
    """A chessboard of fields of 8 px: what lies between black and white is the interpolation's, or the blur's."""
    y, x = np.indices((200, 200)) // 8
    labels = ((y + x) % 2).astype(np.uint16)
    image = np.repeat(labels[..., None] * 255, 3, axis=2).astype(np.uint8)
    blurred = 0
    for seed in range(100):
        made_image, made_labels = make("strong", image, labels, crop_px=100, seed=seed, strength=1.0)
        contrast = made_image[..., 1].astype(float)
        blurred += (
            float(np.abs(contrast - np.median(contrast[made_labels == 1]))[made_labels == 1].mean()) > 25
        )
        assert set(np.unique(made_labels)) == {0, 1}
    # A quarter is blurred by up to 1.5 px; the weaker half of those is not seen.
    assert 4 < blurred < 35


# ---- building ----


@pytest.mark.parametrize(
    ("preset", "arguments", "expected"),
    [
        ("heavy", {"crop_px": 8}, "must be one of none, poster, standard, strong, got 'heavy'"),
        ("none", {"crop_px": 0}, "crop_px: must be at least 1, got 0"),
        ("standard", {"crop_px": 8, "strength": -0.5}, "strength: must be at least 0, got -0.5"),
    ],
)
def test_what_cannot_be_built_is_one_line(preset: str, arguments: dict, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        build_augmentation(preset, **arguments)
    (problem,) = caught.value.problems
    assert expected in problem


def test_importing_the_pipeline_imports_no_albumentations_and_building_standard_keeps_it_off_the_network() -> (
    None
):
    code = (
        "import os, sys, searcher.data_pipeline\n"
        "assert 'albumentations' not in sys.modules\n"
        "searcher.data_pipeline.build_augmentation('standard', crop_px=8)\n"
        "assert 'albumentations' in sys.modules\n"
        "assert os.environ['NO_ALBUMENTATIONS_UPDATE'] == '1'\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
