"""The official metrics: every rule by a hand-calculated example, then everything against plain loops."""

import functools
import json
import math

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from searcher.cli.main import main
from searcher.evaluation import hausdorff as hausdorff_module
from searcher.evaluation import official_metrics
from searcher.evaluation import specks as specks_module
from searcher.evaluation.official_metrics import METRICS, compare


def official(values):
    """Return the official figures; those of nuclei have tests of their own."""
    return {name: values[name] for name in METRICS}


def pooled(comparisons):
    return official(official_metrics.pooled(comparisons))


def mean(comparisons):
    return official(official_metrics.mean(comparisons))


def row(*labels: int) -> np.ndarray:
    return np.array([labels], np.int32)


def block(shape, *boxes):
    """Labels 1, 2, .. painted as boxes (top, left, height, width)."""
    labels = np.zeros(shape, np.int32)
    for label, (top, left, height, width) in enumerate(boxes, start=1):
        labels[top : top + height, left : left + width] = label
    return labels


# --- detection


def test_half_a_gland_is_not_enough():
    comparison = compare(truth=row(1, 1, 1, 1), prediction=row(1, 1, 0, 0))
    assert (comparison.tp, comparison.fp, comparison.fn) == (0, 1, 1)


def test_more_than_half_a_gland_is():
    comparison = compare(truth=row(1, 1, 1, 1), prediction=row(1, 1, 1, 0))
    assert (comparison.tp, comparison.fp, comparison.fn) == (1, 0, 0)


def test_the_glands_pixels_count_not_the_predictions_own():
    """A tenth of the prediction lies on the gland, but it covers all of it."""
    truth, prediction = block((10, 10), (0, 0, 1, 10)), block((10, 10), (0, 0, 10, 10))
    assert compare(truth, prediction).tp == 1


def test_background_is_nobodys_partner():
    """Most of the prediction lies on background; its partner is the gland all the same."""
    comparison = compare(truth=row(1, 1, 1, 0, 0, 0, 0), prediction=row(0, 1, 1, 1, 1, 1, 1))
    assert comparison.tp == 1
    assert comparison.prediction.dice.tolist() == [2 * 2 / (6 + 3)]


def test_equal_overlaps_go_to_the_lowest_label():
    """Two pixels on label 7 (2 px) and on label 3 (4 px): the partner is 3, and 2 of 4 is not more than half."""
    comparison = compare(truth=row(7, 7, 0, 3, 3, 3, 3), prediction=row(1, 1, 1, 1, 1, 0, 0))
    assert comparison.tp == 0
    assert comparison.prediction.dice.tolist() == [2 * 2 / (5 + 4)]


def test_a_split_gland_is_won_once_and_a_merged_pair_once():
    split = compare(truth=row(1, 1, 1, 1, 1), prediction=row(1, 1, 1, 2, 2))
    merged = compare(truth=row(1, 1, 1, 0, 2, 2), prediction=row(1, 1, 1, 1, 1, 1))
    assert (split.tp, split.fp, split.fn) == (1, 1, 0)
    assert (merged.tp, merged.fp, merged.fn) == (1, 0, 1)


# --- labels


@pytest.mark.parametrize("count", [300, 66_000])
def test_hundreds_of_objects_stay_apart(count):
    labels = np.zeros((2, 2 * count), np.int32)
    labels[0, ::2] = np.arange(1, count + 1)
    with_distances = count < 1000  # which take a quarter of a millisecond for each speck
    comparison = compare(labels, labels.copy(), hausdorff=with_distances)
    assert comparison.tp == len(comparison.truth_areas) == count
    assert pooled([comparison])["object_dice"] == 1
    assert not with_distances or pooled([comparison])["object_hausdorff"] == 0


@pytest.mark.parametrize(
    "values", [(1, 2), (9, 4), (255, 256), (70_000, 3), (2**31 - 1, 2**31 - 2), (2**40, 5)]
)
def test_labels_may_be_anything_above_zero(values):
    high, low = values
    truth, prediction = np.array([[1, 1, 0, 2, 2]]), np.array([[high, 0, 0, low, low]])
    assert pooled([compare(truth, prediction)]) == pytest.approx(
        {"f1": 2 / 4, "object_dice": (2 / 4 * (2 / 3) + 2 / 4 + 1 / 3 * (2 / 3) + 2 / 3) / 2}
        | {"object_hausdorff": (2 / 4 * 1 + 1 / 3 * 1) / 2, "pixel_dice": 6 / 7}
    )


def test_hundreds_of_objects_keep_their_own_pixels():
    """The same dots numbered from the other end; a number that wraps would send one elsewhere."""
    truth = np.zeros((1, 600), np.int32)
    truth[0, ::2] = np.arange(1, 301)
    prediction = np.where(truth > 0, 301 - truth, 0)
    assert compare(truth, prediction).truth.hausdorff.tolist() == [0] * 300


def test_one_label_in_two_places_is_one_object():
    """Relabelling the truth would make it two, as in the public ports. Nothing is relabelled here."""
    comparison = compare(truth=row(4, 4, 0, 4, 4), prediction=row(1, 1, 0, 2, 2))
    assert comparison.truth_areas.tolist() == [4]
    assert (comparison.tp, comparison.fp, comparison.fn) == (0, 2, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.uint64])
def test_any_integer_type_and_read_only_maps(dtype):
    truth = row(1, 1, 0, 200).astype(dtype)
    truth.setflags(write=False)
    assert pooled([compare(truth, truth)])["f1"] == 1


# --- Hausdorff


def test_distance_is_between_pixel_sets_not_contours():
    """A solid 11x11 square against the same with a 5x5 hole: the hole's centre is 3 px from the ring."""
    solid, ring = block((11, 11), (0, 0, 11, 11)), block((11, 11), (0, 0, 11, 11))
    ring[3:8, 3:8] = 0
    assert compare(solid, ring).truth.hausdorff.tolist() == [3]


def test_a_shift_is_its_own_distance():
    truth, prediction = block((20, 20), (2, 3, 8, 8)), block((20, 20), (5, 7, 8, 8))
    assert compare(truth, prediction).truth.hausdorff.tolist() == [5]  # 3 rows, 4 columns


def test_without_a_partner_the_nearest_by_hausdorff_not_by_edge():
    """The bar's edge is 2 px away but its end 30; the dot's distance is 15."""
    truth, prediction = block((40, 40), (0, 0, 1, 1)), block((40, 40), (0, 2, 1, 29), (15, 0, 1, 1))
    assert compare(truth, prediction).truth.hausdorff.tolist() == [15]


@pytest.mark.parametrize("shift", [(1, 3000), (700, 3600), (3, 4099)])
def test_distances_that_float32_would_blur_are_exact(shift):
    """OpenCV measures in float32, whose squares are off by more than 1 here. 30x30 is above a speck."""
    truth, prediction = (
        block((800, 4200), (5, 9, 30, 30)),
        block((800, 4200), (5 + shift[0], 9 + shift[1], 30, 30)),
    )
    assert compare(truth, prediction).truth.hausdorff.tolist() == [math.sqrt(shift[0] ** 2 + shift[1] ** 2)]


# --- sets of images


def test_one_side_empty_costs_the_diagonal():
    empty, gland = np.zeros((3, 4), np.int32), block((3, 4), (0, 0, 2, 2))
    for comparison in (compare(gland, empty), compare(empty, gland)):
        assert comparison.touched_by_empty_rule
        assert pooled([comparison]) == {"f1": 0, "object_dice": 0, "object_hausdorff": 5, "pixel_dice": 0}


def test_both_sides_empty_is_perfect():
    comparison = compare(np.zeros((3, 4), np.int32), np.zeros((3, 4), np.int32))
    assert comparison.touched_by_empty_rule
    assert pooled([comparison]) == {"f1": 1, "object_dice": 1, "object_hausdorff": 0, "pixel_dice": 1}


def test_objects_on_both_sides_do_not_touch_the_empty_rule():
    assert not compare(row(1, 0), row(0, 1)).touched_by_empty_rule


def test_pooled_sums_counts_and_weighs_areas_over_the_whole_set():
    """Image 1: 6 px found exactly. Image 2: 2 px missed by a 1-px object that lies 2 px (Hausdorff) away.

    Pooled: TP 1, FP 1, FN 1. Weights 6/8, 2/8 of the truth; 6/7, 1/7 of the prediction.
    """
    comparisons = [
        compare(row(1, 1, 1, 1, 1, 1), row(1, 1, 1, 1, 1, 1)),
        compare(row(1, 1, 0, 0, 0, 0), row(0, 0, 1, 0, 0, 0)),
    ]
    assert pooled(comparisons) == pytest.approx(
        {
            "f1": 2 / 4,
            "object_dice": (6 / 8 + 6 / 7) / 2,
            "object_hausdorff": (2 / 8 * 2 + 1 / 7 * 2) / 2,
            "pixel_dice": 2 * 6 / (8 + 7),
        }
    )
    assert mean(comparisons) == pytest.approx(
        {"f1": 1 / 2, "object_dice": 1 / 2, "object_hausdorff": 1, "pixel_dice": 1 / 2}
    )


def test_an_empty_image_adds_nothing_to_the_pool_but_counts_in_the_mean():
    nothing = compare(row(0, 0), row(0, 0))
    half = compare(row(1, 1), row(1, 0))
    assert pooled([nothing, half]) == pooled([half])
    assert mean([nothing, half])["pixel_dice"] == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("summary", [pooled, mean])
def test_no_image_has_no_metrics(summary):
    with pytest.raises(ValueError, match="at least one compared image"):
        summary([])


# --- what is refused


def test_other_shapes_are_refused_by_name():
    with pytest.raises(ValueError, match=r"truth \(3, 4\) prediction \(4, 3\)"):
        compare(np.zeros((3, 4), int), np.zeros((4, 3), int))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 2)), "float64"),
        (np.zeros((2, 2), bool), "bool"),
        (np.zeros((2, 2, 1), int), r"\(2, 2, 1\)"),
        (np.array([[-1, 0]]), "got -1"),
    ],
)
def test_what_is_not_a_label_map_is_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        compare(labels, labels)


# --- against the definitions in plain loops


@pytest.fixture(params=[0, 4, 600], ids=lambda px: f"specks{px}")
def speck_px(request, monkeypatch):
    """All three ways of measuring: transforms only, mixed, pixel by pixel only."""
    monkeypatch.setattr(specks_module, "SPECK_PX", request.param)


def blobs(seed: int, shape: tuple[int, int], count: int, radius: int) -> np.ndarray:
    """Ellipses, some with holes, some cut by others or by the border; labels with gaps."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    for label in range(1, count + 1):
        centre = (int(rng.integers(shape[1])), int(rng.integers(shape[0])))
        axes = (int(rng.integers(1, radius)), int(rng.integers(1, radius)))
        cv2.ellipse(labels, centre, axes, float(rng.integers(180)), 0, 360, 3 * label, -1)
        if rng.random() < 0.4:
            cv2.ellipse(labels, centre, (axes[0] // 2, axes[1] // 2), 0, 0, 360, 0, -1)
    return labels


def specks(seed: int, shape: tuple[int, int], density: float) -> np.ndarray:
    return cv2.connectedComponents((np.random.default_rng(seed).random(shape) < density).astype(np.uint8))[1]


def ring(shape):
    """A thin ring around the whole image: its border is near everything, its inside far."""
    labels = np.ones(shape, np.int32)
    labels[1:-1, 1:-1] = 0
    return labels


def disc(radius):
    return cv2.circle(np.zeros((60, 60), np.int32), (30, 30), radius, 1, -1)


def dashes(numbers):
    """320 objects of two pixels each, 16 in every other row, numbered as told."""
    labels = np.zeros((40, 50), np.int32)
    labels[::2, :48:3] = labels[::2, 1:48:3] = np.reshape(numbers, (20, 16))
    return labels


def punched(labels):
    """The same with a hole of 2 x 2 px in every 6 x 6."""
    y, x = np.indices(labels.shape)
    return np.where((y % 6 < 2) & (x % 6 < 2), 0, labels)


SHAPE = (40, 50)
TRUTH = blobs(1, SHAPE, 6, 12)
HARD = {
    "itself": (TRUTH, TRUTH),
    "merged": (TRUTH, (TRUTH > 0).astype(np.int32)),
    "split": (TRUTH, np.where(TRUTH > 0, TRUTH * 2 + np.arange(50) % 2, 0)),
    "shifted": (TRUTH, np.roll(TRUTH, (5, -9), (0, 1))),
    "halves of a gland, none above half": (
        block(SHAPE, (4, 4, 10, 20)),
        block(SHAPE, (4, 4, 10, 10), (4, 14, 10, 10)),
    ),
    "holes": (TRUTH, punched(TRUTH)),
    "a hole with a gland in it": (ring(SHAPE), block(SHAPE, (10, 10, 5, 5))),
    "touching the border": (
        block(SHAPE, (0, 0, 9, 50), (31, 0, 9, 9)),
        block(SHAPE, (0, 0, 40, 4), (35, 5, 5, 45)),
    ),
    "over 255 objects": (dashes(range(1, 321)), np.roll(dashes(range(3000, 440, -8)), 1, 1)),
    "over 255 objects as one": (dashes(range(1, 321)), np.minimum(dashes(range(1, 321)), 1)),
    "one pixel each": (block(SHAPE, (7, 7, 1, 1)), block(SHAPE, (7, 7, 1, 1))),
    "one pixel": (block(SHAPE, (0, 0, 1, 1)), block(SHAPE, (39, 49, 1, 1))),
    "specks against glands": (TRUTH, specks(2, SHAPE, 0.04)),
    "specks against specks": (specks(3, SHAPE, 0.015), specks(4, SHAPE, 0.015)),
    "ring around glands": (TRUTH, ring(SHAPE)),
    "ring around one large gland": (block(SHAPE, (3, 3, 34, 44)), ring(SHAPE)),
    "disc inside a disc": (disc(25), disc(5)),
    "whole image": (TRUTH, np.ones(SHAPE, np.int32)),
    "prediction empty": (TRUTH, np.zeros(SHAPE, np.int32)),
    "truth empty": (np.zeros(SHAPE, np.int32), TRUTH),
    "ties everywhere": (np.arange(2000).reshape(SHAPE) // 4 % 9, np.arange(2000).reshape(SHAPE) // 2 % 7),
    "one row": (blobs(5, (1, 60), 9, 4), blobs(6, (1, 60), 9, 4)),
}


@pytest.fixture(scope="module")
def hard_terms(reference):
    """What the loops say of a hard case, which take a tenth of a second for some: each is asked for once."""
    return functools.cache(lambda case: reference.image_terms(*HARD[case]))


@pytest.mark.usefixtures("speck_px")
@pytest.mark.parametrize("case", HARD)
def test_hard_cases_equal_the_definitions(case, reference, hard_terms):
    expected = reference.pooled_terms([hard_terms(case)])
    assert pooled([compare(*HARD[case])]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.usefixtures("speck_px")
def test_a_set_of_images_equals_the_definitions(reference):
    pairs = [(blobs(seed, (30, 40), 5, 10), blobs(seed + 100, (30, 40), 6, 9)) for seed in range(8)]
    pairs.append((np.zeros((30, 40), np.int32), pairs[0][1]))
    comparisons = [compare(*pair) for pair in pairs]
    each = [reference.pooled([pair]) for pair in pairs]
    assert pooled(comparisons) == pytest.approx(reference.pooled(pairs), abs=1e-9)
    assert mean(comparisons) == pytest.approx(
        {name: sum(image[name] for image in each) / len(each) for name in each[0]}, abs=1e-9
    )


@st.composite
def label_map_pairs(draw):
    shape = draw(st.tuples(st.integers(1, 10), st.integers(1, 10)))
    labels = st.sampled_from([0, 0, 0, 1, 2, 3, 7, 300])
    return draw(arrays(np.int32, shape, elements=labels)), draw(arrays(np.int32, shape, elements=labels))


@pytest.mark.usefixtures("speck_px")
@given(label_map_pairs())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_label_maps_equal_the_definitions(reference, pair):
    assert pooled([compare(*pair)]) == pytest.approx(reference.pooled([pair]), abs=1e-9)


@pytest.mark.parametrize("density", [0.0125, 0.02])
def test_thousands_of_specks_do_not_hold_up_an_epoch(density, monkeypatch):
    """An untrained network can predict them. A distance transform for each would take minutes."""
    truth = blobs(7, (522, 775), 20, 70)
    prediction = specks(8, (522, 775), density)
    assert prediction.max() > 4500
    transforms = []

    def counted(*pair):
        transforms.append(pair)
        return transform_pair(*pair)

    transform_pair = hausdorff_module._transform_pair
    monkeypatch.setattr(hausdorff_module, "_transform_pair", counted)
    compare(truth, prediction)
    assert len(transforms) < 100


def test_without_distances_all_else_is_the_same():
    truth = block((20, 20), (1, 1, 6, 6), (10, 10, 5, 5))
    prediction = block((20, 20), (1, 2, 6, 6), (15, 0, 2, 2))
    whole, part = pooled([compare(truth, prediction)]), pooled([compare(truth, prediction, hausdorff=False)])
    assert math.isnan(part.pop("object_hausdorff"))
    assert whole.pop("object_hausdorff") > 0
    assert part == whole
    empty = np.zeros_like(truth)
    assert pooled([compare(truth, empty, hausdorff=False)])["f1"] == 0


def test_the_command_equals_the_definitions_in_all_hard_cases_at_once(tmp_path, reference, hard_terms):
    """From files of several kinds to the JSON of `searcher metrics`: pooled, mean and every image's row."""
    for folder in ("truth", "prediction"):
        (tmp_path / folder).mkdir()
    for number, (name, (truth, prediction)) in enumerate(HARD.items()):
        tifffile.imwrite(
            tmp_path / "truth" / f"{name}_anno.tif", truth.astype((np.uint16, np.int32)[number % 2])
        )
        if number % 3:
            np.save(tmp_path / "prediction" / f"{name}.npy", prediction)
        else:
            Image.fromarray(prediction.astype(np.uint16)).save(tmp_path / "prediction" / f"{name}.png")
    folders = ["--truth", str(tmp_path / "truth"), "--prediction", str(tmp_path / "prediction")]
    assert main(["metrics", *folders, "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    each = {name: reference.pooled_terms([hard_terms(name)]) for name in HARD}
    assert len(found["images"]) == len(HARD)
    for row in found["images"]:
        assert {name: row[name] for name in METRICS} == pytest.approx(each[row["id"]], abs=1e-6), row["id"]
    assert official(found["pooled"]) == pytest.approx(
        reference.pooled_terms([hard_terms(name) for name in HARD]), abs=1e-6
    )
    assert official(found["mean"]) == pytest.approx(
        {name: sum(image[name] for image in each.values()) / len(each) for name in METRICS}, abs=1e-6
    )
