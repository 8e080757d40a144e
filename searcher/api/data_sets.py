"""Data sets from Python: opening, inspecting, converting and drawing them, and planning a first study."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from searcher.api.arguments import PathLike, check_count, view_of_data
from searcher.api.places import data_place
from searcher.api.progress import ProgressLine
from searcher.api.words import in_python
from searcher.data_pipeline.datasets import SampleSource
from searcher.data_pipeline.datasets.view import DataView, LabelsAre
from searcher.exceptions import UserError

if TYPE_CHECKING:
    from searcher.data_pipeline.datasets.canonical import ImportReport
    from searcher.data_pipeline.datasets.exports.exporter import ExportReport
    from searcher.data_pipeline.inspect import DatasetReport
    from searcher.planning.plan import Plan

__all__ = [
    "draw_dataset",
    "export_dataset",
    "import_dataset",
    "inspect_dataset",
    "open_dataset",
    "opened",
    "plan",
]

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Enters a step of the work by its title; gives what is called with (done, total)."""


def opened(folder: str, view: DataView, bar: Bar, *, strict: bool) -> SampleSource:
    """Return a data set, after downloading it if it is in an object store.

    Args:
        folder: Folder or URI of the data set, see `data_place`.
        view: How to read the data set.
        bar: Shows the progress of the download.
        strict: Whether to raise an error at once if a file is unusable, instead of when it is read.

    Raises:
        UserError: The object store cannot be used.
        DataError: There is no data set, or it is unusable.
    """
    from searcher.data_pipeline.datasets.view import viewed
    from searcher.storage.fetched_data import open_data
    from searcher.storage.mirror import cache_dir

    with bar("fetching images") as advance:
        source = open_data(folder, cache_dir(), strict=strict, progress=advance)
    return viewed(source, view)


@in_python
def open_dataset(
    data: PathLike,
    *,
    labels_are: LabelsAre = "",
    patient_from: str = "",
    resample_um: float | None = None,
    not_annotated: int | None = None,
    val_region: str = "",
    progress: bool = False,
) -> SampleSource:
    """Return a data set in any layout that searcher supports, without decoding pixels.

    `source.samples` has each image's name, split, patient and grade; `source.read(index)` returns the image,
    uint8 or uint16[H, W, C], and its label map, int32[H, W], 0 for background and a number per object.

    Args:
        data: Folder of the data set, or its URI in an object store, from which it is downloaded.
        labels_are: See `launch`.
        patient_from: See `launch`.
        resample_um: See `launch`.
        not_annotated: See `launch`.
        val_region: See `launch`.
        progress: Whether to show a progress bar on standard error during a download.

    Raises:
        DataError: There is no data set, or it cannot be read.
        UserError: The object store cannot be used.
    """
    view = view_of_data(labels_are, patient_from, resample_um, not_annotated, val_region)
    return opened(_place(data), view, ProgressLine(progress).step, strict=True)


@in_python
def inspect_dataset(
    data: PathLike,
    *,
    labels_are: LabelsAre = "",
    patient_from: str = "",
    resample_um: float | None = None,
    not_annotated: int | None = None,
    val_region: str = "",
    progress: bool = False,
) -> "DatasetReport":
    """Return a report of what a data set contains and which files are unusable, like `searcher data inspect`.

    Args:
        data: Folder of the data set, or its URI in an object store.
        labels_are: See `launch`.
        patient_from: See `launch`.
        resample_um: See `launch`.
        not_annotated: See `launch`.
        val_region: See `launch`.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The report. `report.splits` has, by name, counts, sizes in pixels and quantiles of the objects.
        `report.problems` says why files are unusable, `report.remarks` what else to know, one line each.

    Raises:
        DataError: There is no data set.
        UserError: The object store cannot be used.
    """
    from searcher.data_pipeline.inspect import inspect_dataset as inspected

    line = ProgressLine(progress)
    view = view_of_data(labels_are, patient_from, resample_um, not_annotated, val_region)
    source = opened(_place(data), view, line.step, strict=False)
    with line.step("reading images") as advance:
        return inspected(source, labels_are_said=bool(labels_are), progress=advance)


@in_python
def import_dataset(
    data: PathLike,
    to: PathLike | None,
    *,
    labels_are: LabelsAre = "",
    patient_from: str = "",
    resample_um: float | None = None,
    not_annotated: int | None = None,
    val_region: str = "",
    progress: bool = False,
) -> "ImportReport":
    """Write a data set of any layout as `images/`, `labels/` and tables, like `searcher data import`.

    Args:
        data: Folder of the data set, or its URI in an object store.
        to: Folder to write; must be new or empty. None writes nothing, and returns the report only.
        labels_are: See `launch`.
        patient_from: See `launch`.
        resample_um: See `launch`.
        not_annotated: See `launch`.
        val_region: See `launch`.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The report: the recognised layout, the number of images and objects, and what was left out, one line each.

    Raises:
        DataError: There is no data set, or the folder is not empty or cannot be written.
        UserError: The object store cannot be used.
    """
    from searcher.data_pipeline.datasets.canonical import import_dataset as imported

    line = ProgressLine(progress)
    folder = _place(data)
    source = opened(
        folder,
        view_of_data(labels_are, patient_from, resample_um, not_annotated, val_region),
        line.step,
        strict=False,
    )
    with line.step("importing images") as advance:
        return imported(
            source,
            folder,
            None if to is None else Path(to),
            labels_are_said=bool(labels_are),
            progress=advance,
        )


@in_python
def export_dataset(
    data: PathLike,
    to: PathLike,
    *,
    format: str,
    labels_are: LabelsAre = "",
    patient_from: str = "",
    resample_um: float | None = None,
    not_annotated: int | None = None,
    val_region: str = "",
    progress: bool = False,
) -> "ExportReport":
    """Write a data set of any layout in another program's format, like `searcher data export`.

    Args:
        data: Folder of the data set, or its URI in an object store.
        to: Folder to write; must be new or empty.
        format: `coco`, `geojson` (QuPath), `cellpose`, `nnunet`, or a format of a plug-in.
        labels_are: See `launch`.
        patient_from: See `launch`.
        resample_um: See `launch`.
        not_annotated: See `launch`.
        val_region: See `launch`.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The report: the number of images and objects, and what was left out, one line each.

    Raises:
        DataError: There is no data set, or the folder is not empty or cannot be written.
        UserError: There is no such format, or the object store cannot be used.
    """
    from searcher.data_pipeline.datasets.exports.exporter import export_dataset as exported
    from searcher.data_pipeline.datasets.exports.table import DATA_FORMATS

    exporter = DATA_FORMATS[format]
    line = ProgressLine(progress)
    folder = _place(data)
    view = view_of_data(labels_are, patient_from, resample_um, not_annotated, val_region)
    source = opened(folder, view, line.step, strict=False)
    with line.step("exporting images") as advance:
        return exported(source, folder, Path(to), format, exporter, progress=advance)


@in_python
def draw_dataset(
    to: PathLike,
    *,
    what: Literal["glands", "nuclei"] = "glands",
    images: int = 40,
    test_images: int = 12,
    size_px: int = 192,
    seed: int = 0,
    progress: bool = False,
) -> SampleSource:
    """Write a data set of synthetic images to try everything on, and return it; like `searcher data draw`.

    Args:
        to: Folder to write; must be new or empty.
        what: `glands`, in the layout of GlaS, or `nuclei` of two classes, as the canonical folder.
        images: Number of images in the split `train`.
        test_images: Number of images in the split `testA`.
        size_px: Side of the images, in pixels.
        seed: The same seed gives the same images.
        progress: Whether to show a progress bar on standard error.

    Raises:
        UserError: A number is too small, or `what` is neither.
        DataError: The folder is not empty, or cannot be written.
    """
    from searcher.data_pipeline.datasets.drawing import write_drawn
    from searcher.data_pipeline.datasets.synthetic import SYNTHETIC

    for name, value in (("images", images), ("test_images", test_images), ("size_px", size_px)):
        check_count(name, value)
    check_count("seed", seed, least=0)
    if what not in SYNTHETIC:
        raise UserError(f"what: must be one of {', '.join(SYNTHETIC)}, got {what!r}; give one of them")
    source = SYNTHETIC[what](num_images=images, size_px=size_px, seed=seed, num_test_images=test_images)
    with ProgressLine(progress).step(f"drawing {what}") as advance:
        write_drawn(source, Path(to), advance)
    return open_dataset(to)


@in_python
def plan(
    data: PathLike,
    *,
    name: str | None = None,
    from_bundle: PathLike | None = None,
    labels_are: LabelsAre = "",
    patient_from: str = "",
    resample_um: float | None = None,
    not_annotated: int | None = None,
    val_region: str = "",
    progress: bool = False,
) -> "Plan":
    """Return a plan of a first study for a data set, with reasons for its settings; like `searcher plan`.

    Args:
        data: Folder of the data set, or its URI in an object store.
        name: Name of the study; None to derive one from the folder's name.
        from_bundle: Folder of a bundle whose network is fine-tuned; None to train a new network.
        labels_are: See `launch`.
        patient_from: See `launch`.
        resample_um: See `launch`.
        not_annotated: See `launch`.
        val_region: See `launch`.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The plan. `plan.text` is the study file: write it to a .toml file and launch that. `plan.folds_text` is a second
        study with folds, for data with few patients; None for others. `plan.remarks` says what to know first.

    Raises:
        DataError: The data set cannot be used.
        UserError: The data set cannot be split, or `name` is no valid name of a study.
    """
    from searcher.api.planning import plan_data

    line = ProgressLine(progress)
    view = view_of_data(labels_are, patient_from, resample_um, not_annotated, val_region)
    bundle = None if from_bundle is None else Path(from_bundle)
    return plan_data(_place(data), view, lambda: line.step("preparing images"), name=name, bundle=bundle)


def _place(data: PathLike) -> str:
    place = data_place(data)
    assert place is not None
    return place
