"""What the values of label maps tell about their meaning: one number per object, or something else.

A label map gives each object a number of its own, so nearly every number is one connected piece. In a mask, a map of
classes, or a mask with soft edges, nearly every number lies in many pieces. That is what is counted here.

Pieces are 8-connected. Three things keep true label maps from being refused:

- Pieces that touch the same edge of the image count as one: the object may hang together outside.
- Pieces smaller than 1% of the largest piece of their number do not count: stray pixels of an annotation tool.
- A verdict needs several numbers in several pieces, so that an object cut by a fold says nothing.

`docs/label-evidence.md` has the thresholds, and the errors that were measured with them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.unannotated import objects_only

__all__ = ["KINDS", "LabelFacts", "Verdict", "judge", "label_facts"]

_SPECK = 0.01
"""A piece smaller than this part of the largest piece of its number does not count."""
_SPLIT_SHARE = 0.2
"""A data set with a larger share of labels in several pieces is refused."""
_ODD_SHARE = 0.02
"""With a larger one, one line warns."""
_SPLIT_SHARE_OF_MASKS = 0.05
"""The refused share where every image has one label only, the same in all."""
_SPLIT_SHARE_OF_ONE = 0.5
"""The refused share of a single image among others."""
_LEAST_SPLIT = 3
"""Fewer labels in several pieces are no evidence."""
_MANY_PIECES = 4
"""Pieces per label of a single image: more than folds cut an object into."""
_MASK_VALUES = (255, 65535)
"""No tool numbers its only object so."""
_SMOOTH_VALUES = 8
"""More labels than this in an image, most of them thin lines, are grey levels of soft edges."""
_THIN_SHARE = 0.5
_MOST_CLASSES = 50
_COUNTED_BELOW = 1 << 20
"""Labels below this are counted in a table, which is faster than sorting them."""
_BORDER_SHARE = 0.9
"""The part of an image's border that an inverted mask's background covers."""


@dataclass(frozen=True)
class LabelFacts:
    """Counts of one label map. `areas` and `extents` have an entry for each label, in the order of the labels."""

    areas: tuple[int, ...]
    """Pixels of each label but 0."""
    extents: tuple[tuple[int, int], ...]
    """Height and width in pixels of each label's bounding box."""
    num_split: int
    """Labels that lie in several pieces, by the rules above."""
    num_pieces: int
    """Pieces of all labels together, by the rules above."""
    num_thin: int
    """Labels without any 3 by 3 block of pixels."""
    largest: int
    """The label with most pixels; 0 where there is none."""
    has_background: bool
    """Whether any pixel is 0."""
    frames: bool
    """Whether the only label covers nearly the whole border of the image, and background lies within it."""

    @property
    def num_labels(self) -> int:
        """Number of different labels, without the background."""
        return len(self.areas)


@dataclass(frozen=True)
class Verdict:
    """The conclusion that label maps are something else, such as masks, and the evidence for it."""

    kind: str
    """One of `KINDS`."""
    images: tuple[int, ...]
    """Indices of the images that show it."""
    evidence: str
    """The counts, in words."""
    is_sure: bool = True
    """Whether to refuse the data; otherwise one line says it."""
    is_of_all: bool = True
    """Whether the images were judged together; otherwise these are wrong ones among others."""


KINDS = {
    "binary": "binary masks",
    "inverted": "inverted masks, whose background has a value and whose objects are 0",
    "classes": "class maps",
    "soft": "masks with soft edges (anti-aliased, resized or JPEG)",
    "split": "other pictures than label maps",
    "no background": "pictures whose background is not 0",
}
"""What label maps can be taken for, in words."""


def label_facts(labels: NDArray[np.integer]) -> LabelFacts:
    """Return counts of a label map: areas, extents, connected pieces.

    Args:
        labels: integer[H, W], 0 background, -1 not annotated.
    """
    has_background = bool((labels == 0).any())
    compact, numbers = _compact(objects_only(labels))
    if not len(numbers):
        return LabelFacts((), (), 0, 0, 0, 0, has_background, False)
    from scipy import ndimage

    areas = np.bincount(compact.ravel(), minlength=len(numbers) + 1)[1:]
    boxes = ndimage.find_objects(compact)
    pieces = _pieces(compact, areas)
    return LabelFacts(
        areas=tuple(map(int, areas)),
        extents=tuple((rows.stop - rows.start, columns.stop - columns.start) for rows, columns in boxes),
        num_split=int((pieces > 1).sum()),
        num_pieces=int(pieces.sum()),
        num_thin=len(numbers) - _num_thick(compact),
        largest=int(numbers[areas.argmax()]),
        has_background=has_background,
        frames=len(numbers) == 1 and _frames(compact),
    )


def _compact(labels: NDArray[np.integer]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the label map with labels 1 to n, int32[H, W], and what they were, int64[n] in ascending order."""
    if labels.size and labels.max() < _COUNTED_BELOW:
        present = np.bincount(labels.ravel()) > 0
        present[0] = False
        numbers = np.flatnonzero(present)
        lookup = np.zeros(len(present), np.int32)
        lookup[numbers] = np.arange(1, len(numbers) + 1)
        return lookup[labels], numbers
    numbers = np.unique(labels)
    numbers = numbers[numbers != 0].astype(np.int64)
    compact = np.where(labels == 0, 0, np.searchsorted(numbers, labels) + 1)
    return compact.astype(np.int32), numbers


def _pieces(compact: NDArray[np.int32], areas: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return in how many pieces that count each label lies, at least 1; int64[n].

    Args:
        compact: int32[H, W], labels 1 to n.
        areas: int64[n], their pixels.
    """
    from skimage.measure import label

    pieces, num = label(compact, background=0, connectivity=2, return_num=True)
    sizes = np.bincount(pieces.ravel(), minlength=num + 1)[1:]
    owner = np.zeros(num + 1, np.int64)
    owner[pieces] = compact
    owner = owner[1:] - 1
    largest = np.zeros(len(areas), np.int64)
    np.maximum.at(largest, owner, sizes)
    counts = sizes >= _SPECK * largest[owner]
    group = np.arange(num)
    for edge in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
        _join_outside(group, owner, np.unique(edge[edge > 0]) - 1)
    groups = np.unique(np.stack([owner[counts], group[counts]]), axis=1)
    return np.bincount(groups[0], minlength=len(areas))


def _join_outside(group: NDArray[np.int64], owner: NDArray[np.int64], at_edge: NDArray[np.int64]) -> None:
    """Put pieces of one label that touch the same edge of the image into one group, in place."""
    first: dict[int, int] = {}
    for piece in at_edge:
        known = first.setdefault(int(owner[piece]), int(piece))
        group[group == group[piece]] = group[known]


def _num_thick(compact: NDArray[np.int32]) -> int:
    """Return how many labels have a block of 3 by 3 pixels."""
    if min(compact.shape) < 3:
        return 0
    import cv2

    values = compact.astype(np.float32)
    square = np.ones((3, 3), np.uint8)
    same = cv2.erode(values, square) == cv2.dilate(values, square)
    return int(np.unique(compact[1:-1, 1:-1][same[1:-1, 1:-1] & (compact[1:-1, 1:-1] > 0)]).size)


def _frames(compact: NDArray[np.int32]) -> bool:
    """Return whether the foreground covers nearly the whole border, and background lies within it."""
    border = np.concatenate([compact[0], compact[-1], compact[:, 0], compact[:, -1]])
    return bool((border > 0).mean() >= _BORDER_SHARE and (compact == 0).any())


def judge(facts: Sequence[LabelFacts]) -> Verdict | None:
    """Return the evidence that the label maps of a split are something else; None if there is none, or no object.

    Args:
        facts: The counts of all label maps of the split.
    """
    filled = [index for index, each in enumerate(facts) if each.num_labels]
    if not filled:
        return None
    return _judge_all(facts, filled) or _judge_each(facts, filled) or _doubt(facts, filled)


def _judge_all(facts: Sequence[LabelFacts], filled: Sequence[int]) -> Verdict | None:
    """Judge by all images together: most of them are the same thing."""
    num_labels, num_split = _total(facts, filled, "num_labels"), _total(facts, filled, "num_split")
    framed = [index for index in filled if facts[index].frames]
    if len(framed) >= 2 and len(framed) > len(filled) / 2:
        evidence = f"one value around the whole border of {len(framed)} of {len(filled)} images"
        return Verdict("inverted", tuple(framed), evidence)
    value, most = Counter(facts[index].largest for index in filled).most_common(1)[0]
    is_same = most == len(filled)
    if is_same and len(filled) >= 2 and not any(facts[index].has_background for index in filled):
        evidence = f"no pixel is 0, and {value} is the most frequent value of all {len(filled)} images"
        return Verdict("no background", tuple(filled), evidence)
    is_mask = is_same and num_labels == len(filled)
    needed = (1 if value in _MASK_VALUES else 2) if is_mask else _LEAST_SPLIT
    share = _SPLIT_SHARE_OF_MASKS if is_mask else _SPLIT_SHARE
    if num_split < needed or num_split <= share * num_labels:
        return None
    return _verdict(facts, [index for index in filled if facts[index].num_split])


def _judge_each(facts: Sequence[LabelFacts], filled: Sequence[int]) -> Verdict | None:
    """Judge each image alone: wrong ones among many."""
    wrong = []
    for index in filled:
        each = facts[index]
        mostly_split = (
            each.num_split >= _LEAST_SPLIT and each.num_split > _SPLIT_SHARE_OF_ONE * each.num_labels
        )
        if mostly_split or each.num_pieces >= _MANY_PIECES * each.num_labels:
            wrong.append(index)
    return replace(_verdict(facts, wrong), is_of_all=False) if wrong else None


def _doubt(facts: Sequence[LabelFacts], filled: Sequence[int]) -> Verdict | None:
    """Return what is odd, and yet may be the truth."""
    num_split = _total(facts, filled, "num_split")
    if num_split < _LEAST_SPLIT or num_split <= _ODD_SHARE * _total(facts, filled, "num_labels"):
        return None
    verdict = _verdict(facts, [index for index in filled if facts[index].num_split])
    return replace(verdict, is_sure=False)


def _verdict(facts: Sequence[LabelFacts], images: Sequence[int]) -> Verdict:
    num_labels, num_split, num_pieces = (
        _total(facts, images, key) for key in ("num_labels", "num_split", "num_pieces")
    )
    evidence = (
        f"{num_split} of {num_labels} label values in several separate pieces, {num_pieces} pieces in all"
    )
    return Verdict(_kind(facts, images), tuple(images), evidence)


def _total(facts: Sequence[LabelFacts], images: Sequence[int], key: str) -> int:
    return sum(int(getattr(facts[index], key)) for index in images)


def _kind(facts: Sequence[LabelFacts], images: Sequence[int]) -> str:
    """Return what label maps in many pieces most probably are."""
    mean = float(np.mean([facts[index].num_labels for index in images]))
    if mean <= 1:
        return "binary"
    thin = _total(facts, images, "num_thin") / _total(facts, images, "num_labels")
    if mean > _SMOOTH_VALUES and thin > _THIN_SHARE:
        return "soft"
    most = max(facts[index].num_labels for index in images)
    return "classes" if most <= _MOST_CLASSES else "split"
