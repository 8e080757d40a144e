"""What label maps are told from, and what they are not taken for. Every count here can be made by hand."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from searcher.data_pipeline import SyntheticGlands
from searcher.data_pipeline.annotations import problem_of
from searcher.data_pipeline.label_evidence import judge, label_facts

Labels = NDArray[np.int32]
OBJECTS = [(5, 5, 20), (5, 40, 14), (30, 10, 12), (32, 36, 22)]
"""Top, left and side of squares that do not touch."""


def squares(*numbers: int, size: int = 64) -> Labels:
    """Return a map with the numbers given to `OBJECTS`."""
    labels = np.zeros((size, size), np.int32)
    for number, (top, left, side) in zip(numbers, OBJECTS, strict=False):
        labels[top : top + side, left : left + side] = number
    return labels


def verdict(*maps: Labels) -> tuple[str, bool] | None:
    found = judge([label_facts(each) for each in maps])
    return None if found is None else (found.kind, found.is_sure)


def jpeg(mask: Labels) -> Labels:
    encoded = cv2.imencode(".jpg", mask.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)).astype(np.int32)


def disc(value: int) -> Labels:
    return cv2.circle(np.zeros((64, 64), np.int32), (32, 32), 25, value, -1)


SOFT = cv2.GaussianBlur(squares(255, 255, 255, 255).astype(np.float32), (0, 0), 2).astype(np.int32)
FOLDED = squares(1, 2, 3, 4)
FOLDED[12:14] = 0  # cuts the first two in halves
DIAGONAL = np.eye(64, dtype=np.int32)
COVERING = np.full((64, 64), 1, np.int32)
COVERING[:3, :3] = 0


@pytest.mark.parametrize(
    ("maps", "kind"),
    [
        pytest.param([squares(255, 255, 255, 255)], "binary", id="one mask of 255"),
        pytest.param([squares(255, 255), squares(255)], "binary", id="255, two pieces in one image"),
        pytest.param([squares(1, 1), squares(1, 1), squares(1)], "binary", id="masks of 1"),
        pytest.param([SOFT, SOFT], "soft", id="soft edges"),
        pytest.param([jpeg(disc(255) + 0), jpeg(squares(255, 255))], "soft", id="JPEG"),
        pytest.param([squares(1, 2, 1, 2), squares(1, 1, 2, 2)], "classes", id="classes"),
        pytest.param([255 - squares(255, 255), 255 - squares(255, 0, 255)], "inverted", id="inverted"),
        pytest.param([squares(1, 2, 3) + 1, squares(1, 2) + 1], "no background", id="background is 1"),
    ],
)
def test_other_things_than_label_maps_are_told(maps: list[Labels], kind: str) -> None:
    assert verdict(*maps) == (kind, True)


@pytest.mark.parametrize(
    "maps",
    [
        pytest.param([squares(1, 2, 3, 4)], id="plain"),
        pytest.param([squares(7, 300, 70_000, 2_000_000)], id="any numbers"),
        pytest.param([FOLDED, squares(1, 2, 3, 4), squares(1, 2, 3, 4)], id="two of twelve cut by a fold"),
        pytest.param([DIAGONAL], id="diagonal pixels are one piece"),
        pytest.param([COVERING], id="one object covers all"),
        pytest.param([COVERING, squares(1, 2)], id="one object covers one image"),
        pytest.param([disc(1), disc(1), disc(1)], id="one object an image"),
        pytest.param([disc(255), disc(255)], id="masks of one object are label maps too"),
        pytest.param([np.zeros((9, 9), np.int32)], id="empty"),
        pytest.param([np.arange(1, 65 * 65 + 1, dtype=np.int32).reshape(65, 65)], id="every pixel an object"),
        pytest.param([np.ones((1, 1), np.int32), np.ones((2, 1), np.int32)[:0]], id="tiny"),
    ],
)
def test_label_maps_are_not_refused(maps: list[Labels]) -> None:
    found = verdict(*maps)
    assert found is None or not found[1]


def test_pieces_at_one_edge_may_be_one_object_outside() -> None:
    ring = cv2.circle(np.zeros((64, 64), np.int32), (32, 32), 20, 5, 6)
    assert (label_facts(ring).num_split, label_facts(ring[:32]).num_split) == (0, 0)
    two_edges = np.zeros((20, 20), np.int32)
    two_edges[:3, 5:15], two_edges[-3:, 5:15] = 5, 5
    assert label_facts(two_edges).num_split == 1


def test_stray_pixels_do_not_count() -> None:
    labels = squares(1)
    labels[60, 60] = 1  # 1 of 401 px
    assert label_facts(labels).num_split == 0
    labels[59:62, 59:62] = 1  # 9 px, 2%
    assert label_facts(labels).num_split == 1


def test_synthetic_glands_and_nuclei_are_label_maps_and_their_masks_are_not() -> None:
    glands = [SyntheticGlands(num_images=6, size_px=128, seed=3).read(i)[1] for i in range(6)]
    assert verdict(*glands) is None
    assert verdict(*((each > 0) * 255 for each in glands)) == ("binary", True)
    tiles = [
        each[y : y + 32, x : x + 32] for each in glands for y in range(0, 97, 32) for x in range(0, 97, 32)
    ]
    assert verdict(*tiles) is None


def test_a_wrong_file_among_many_is_named() -> None:
    maps = [squares(1, 2, 3, 4)] * 30 + [squares(1, 1, 1, 1)]
    ids = [f"n{i}" for i in range(31)]
    found = problem_of("data", ids, [label_facts(each) for each in maps])
    assert found is not None
    assert found[0] == (
        "data: a label map must have one number per object, got 1 of 1 label values in several separate pieces, 4 "
        "pieces in all in n30 (1 of 31 images), as binary masks have; correct these files, or move them away, or "
        "--labels-are instances if every number is one object"
    )


def test_many_folds_are_said_and_not_refused() -> None:
    maps = [FOLDED] * 2 + [squares(1, 2, 3, 4)] * 20  # 4 of 88 are cut
    assert verdict(*maps) == ("classes", False)


def test_facts_are_counted() -> None:
    facts = label_facts(squares(3, 9))
    assert (facts.areas, facts.extents) == ((400, 196), ((20, 20), (14, 14)))
    assert (facts.num_pieces, facts.num_split, facts.num_thin, facts.largest) == (2, 0, 0, 3)
    assert facts.has_background
    assert not facts.frames
