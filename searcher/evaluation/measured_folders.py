"""Folders of label maps, any method's against the truth's: which belong together, and all figures of them."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from searcher.data_pipeline.datasets.glas import GlasFolder
from searcher.data_pipeline.datasets.tables import read_grades
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import label_maps_in, single_files
from searcher.data_pipeline.unannotated import check_annotated, is_partial, marked_value
from searcher.evaluation import official_metrics
from searcher.evaluation.glas import poster
from searcher.evaluation.label_maps import read_label_map, relabelled
from searcher.evaluation.labelled_objects import IntArray
from searcher.evaluation.summary import ImageMetrics, Summary, summarise

__all__ = ["LabelMapPair", "MeasuredFolders", "measure_folders"]

_GRADES_FILE = "Grade.csv"
_NUM_THREADS = 2
"""Decoding and comparing are Pillow's, numpy's and OpenCV's, which let another thread run."""


@dataclass(frozen=True)
class LabelMapPair:
    """The true and the predicted label map of one image, as files."""

    id: str
    """The files' name without extension and without `_anno`."""
    truth: Path
    prediction: Path
    stratum: str
    """The grade; empty where unknown."""


@dataclass(frozen=True, kw_only=True)
class MeasuredFolders:
    """The metrics of a folder of predicted label maps against a folder of true ones."""

    summary: Summary
    """As asked for: relabelled, or as labelled."""
    as_labelled: Summary | None
    """The same as labelled, where `summary` is relabelled; else None."""
    in_pieces: tuple[str, ...]
    """Images whose truth has one label only, in several places: for the metrics, one object."""

    @property
    def seems_binary(self) -> bool:
        """Whether the predictions seem to be masks: none has more than one label, but a true label map does."""
        images = (self.as_labelled or self.summary).images
        return max(image.num_predicted for image in images) <= 1 < max(image.num_true for image in images)


@dataclass(frozen=True)
class _MeasuredPair:
    """One image: as labelled, relabelled where that is wanted, and whether its truth is one label in pieces."""

    plain: ImageMetrics
    relabelled: ImageMetrics | None
    in_pieces: bool


def measure_folders(
    truth: Path,
    prediction: Path,
    *,
    split: str | None = None,
    relabel: bool = False,
    with_poster: bool = False,
    not_annotated: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MeasuredFolders:
    """Return the metrics of a folder of predicted label maps against a folder of true ones.

    Two files belong together if their names agree without ending and without `_anno` (`testA_1_anno.bmp` and
    `testA_1.png`). If a folder has both, the one with `_anno` is the label map and the other its image. Of the outputs
    of `searcher predict`, only `testA_1.labels.tif` is read, not the overlay or the image. Strata are the grades in the
    truth's `Grade.csv`, if there is one.

    Args:
        truth: Folder of the true label maps: png, tif, bmp or npy files.
        prediction: Folder of the predicted label maps.
        split: Prefix of the image names to use in both folders, such as `testA` in a GlaS release; None for all.
        relabel: Whether each piece of a label becomes an object of its own, on both sides; see `relabelled`.
        with_poster: Whether to compute the DTU poster's metrics as well.
        not_annotated: Number that marks pixels without annotation in the truth, in addition to -1; see
            `where_annotated`.
        progress: Called with the numbers of finished and of all images.

    Raises:
        DataError: One line for each file that has no partner, cannot be decoded, is no label map, or differs from its
            partner in size.
    """
    pairs, problems = _pairs(truth, prediction, split)
    measured: list[_MeasuredPair] = []

    def measure(pair: LabelMapPair) -> _MeasuredPair | DataError:
        try:
            return _measure(pair, relabel, with_poster, not_annotated)
        except DataError as error:
            return error

    with ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="measuring") as pool:
        for num_done, result in enumerate(pool.map(measure, pairs), start=1):
            if isinstance(result, DataError):
                problems.extend(result.problems)
            else:
                measured.append(result)
            if progress is not None:
                progress(num_done, len(pairs))
    if problems:
        raise DataError(*problems)
    plain = summarise([each.plain for each in measured])
    again = [each.relabelled for each in measured if each.relabelled is not None]
    return MeasuredFolders(
        summary=summarise(again) if relabel else plain,
        as_labelled=plain if relabel else None,
        in_pieces=tuple(each.plain.id for each in measured if each.in_pieces),
    )


def _measure(
    pair: LabelMapPair, relabel: bool, with_poster: bool, not_annotated: int | None
) -> _MeasuredPair:
    truth, prediction = _read_both(pair, not_annotated)

    def result(glands: IntArray, found: IntArray) -> ImageMetrics:
        return ImageMetrics(
            id=pair.id,
            stratum=pair.stratum,
            comparison=official_metrics.compare(glands, found),
            poster=poster.compare_as_poster(glands, found) if with_poster else None,
        )

    plain = result(truth, prediction)
    pieces = relabelled(truth) if relabel or plain.num_true == 1 else None
    return _MeasuredPair(
        plain=plain,
        relabelled=result(pieces, relabelled(prediction)) if relabel and pieces is not None else None,
        in_pieces=plain.num_true == 1 and pieces is not None and int(pieces.max()) > 1,
    )


def _read_both(pair: LabelMapPair, not_annotated: int | None) -> tuple[IntArray, IntArray]:
    """Return both label maps.

    Raises:
        DataError: What is wrong with either, or that their sizes differ.
    """
    maps: list[IntArray] = []
    problems: list[str] = []
    for path in (pair.truth, pair.prediction):
        try:
            maps.append(read_label_map(path))
        except DataError as error:
            problems.extend(error.problems)
    if len(maps) == 2 and maps[0].shape != maps[1].shape:
        (height, width), (got_height, got_width) = (labels.shape for labels in maps)
        problems.append(
            f"{pair.prediction}: must have the size of {pair.truth.name}, {width}x{height}, got "
            f"{got_width}x{got_height}; predict at the image's own size, or resize with nearest-neighbour interpolation"
        )
    if len(maps) == 2 and is_partial(maps[1]):
        problems.append(
            f"{pair.prediction}: labels must be 0 (background) or above, got -1, which only a truth has; save it again"
        )
    if problems:
        raise DataError(*problems)
    truth = marked_value(maps[0], not_annotated)
    check_annotated(pair.truth, truth)
    return truth, maps[1]


def _pairs(truth: Path, prediction: Path, split: str | None) -> tuple[list[LabelMapPair], list[str]]:
    """Return the files that belong together, and a line for each that has no partner or is not the only one."""
    truths, problems = _label_maps(truth)
    predictions, more_problems = _label_maps(prediction)
    problems += more_problems
    is_release = GlasFolder.recognises(truth)
    if is_release and split is not None:
        truths, predictions = _of_split(truths, split), _of_split(predictions, split)
        if not truths:
            problems.append(f"{truth}: must have label maps of {split}, got none; name another --split")
    hint = ", or measure one of its splits with --split" if is_release and split is None else ""
    for these, there, what, remedy in (
        (truths, predictions, "prediction", f"add it{hint}"),
        (predictions, truths, "truth", "add it or move this away"),
    ):
        folder = prediction if these is truths else truth
        problems += [
            f"{these[name]}: must have a {what} of the same name, got none in {folder}; {remedy}"
            for name in sorted(these.keys() - there.keys(), key=_natural_order)
        ]
    grades: dict[str, tuple[str, str]] = {}
    if (truth / _GRADES_FILE).exists():
        found, grade_problems = read_grades(truth)
        problems += grade_problems
        grades = found or {}
    both = sorted(truths.keys() & predictions.keys(), key=_natural_order)
    return [
        LabelMapPair(name, truths[name], predictions[name], grades.get(name, ("", ""))[1]) for name in both
    ], problems


def _label_maps(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the label maps of a folder by name, and a line for every name that several files claim.

    Raises:
        DataError: There is no such folder, or no label map in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: must be a folder of label maps, got none; check the path")
    found = label_maps_in(folder)
    if not found:
        raise DataError(
            f"{folder}: must hold label maps as png, tif, bmp, npy or npz files, got none; check the path"
        )
    return single_files(found)


def _of_split(files: dict[str, Path], split: str) -> dict[str, Path]:
    return {name: path for name, path in files.items() if name.startswith(f"{split}_")}


def _natural_order(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts testA_2 before testA_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
