"""Searching, training and measuring from Python. Nothing here prints, but for the bar of `progress=True`."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searcher.api.arguments import PathLike, check_choice, database_address, study_spec, view_of_data
from searcher.api.data_sets import open_dataset
from searcher.api.places import data_place, storage_folder
from searcher.api.progress import LoggingListener, ProgressLine, logger
from searcher.api.words import in_python
from searcher.data_pipeline.datasets.view import LabelsAre
from searcher.exceptions import SearchBrokeOffError, UserError
from searcher.storage.mirror import cache_dir, storage_at
from searcher.study.space import Value
from searcher.study.spec import StudySpec

if TYPE_CHECKING:
    from searcher.api.evaluation import Evaluation
    from searcher.api.predicting import LoadedBundle
    from searcher.api.study_result import StudyResult
    from searcher.api.training import TrainedTrial
    from searcher.orchestration.driver import LaunchResult
    from searcher.training.memory_probe import MeasuredTrial

__all__ = ["evaluate", "launch", "load_bundle", "load_study", "probe", "train"]

_RAYS_VARIABLES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
_NORMALISATIONS = ("bundle", "fixed", "percentile")


@in_python
def launch(
    study: PathLike | None = None,
    *,
    data: PathLike | None = None,
    db: PathLike | None = None,
    storage: PathLike = "runs",
    trials: int | None = None,
    hours: float | None = None,
    gpu_hours: float | None = None,
    epochs: int | None = None,
    set: Mapping[str, Value] | None = None,
    with_parents: bool = False,
    address: str | None = None,
    labels_are: LabelsAre = "",
    patient_from: str = "",
    resample_um: float | None = None,
    not_annotated: int | None = None,
    val_region: str = "",
    progress: bool = False,
) -> "StudyResult":
    """Run a study until its budget is used, or go on with it; the same as `searcher launch`.

    Ctrl-C, and a notebook's stop button, end it after the current step: running trials are queued again, nothing is
    lost, and KeyboardInterrupt is raised. Once more ends it at once. Launching again continues the study.

    Args:
        study: A shipped study's name, or a .toml file; None for one that is planned for the data, written into the
            storage folder, and continued from there.
        data: The data set's folder, or its URI in an object store; None for synthetic glands.
        db: The study database: a file (SQLite), a URL (PostgreSQL), or `@FILE` with the URL in it; None for
            `SEARCHER_DB` of the environment, else `searcher.db` here.
        storage: Folder of checkpoints and logs, or an object store's URI.
        trials: The study's budget, instead of its file's.
        hours: Hours of this launch: no trial begins that is not expected to end within them.
        gpu_hours: Hours of this launch's trials together, times GPUs of a trial, in the same way.
        epochs: Epochs of a trial, instead of its file's.
        set: Any keys of the study file by dotted name; a searched one becomes fixed.
        with_parents: Run the studies that it comes from first, as far as they are not done.
        address: HOST:PORT of a running Ray cluster; None for `RAY_ADDRESS` of the environment, else a cluster on this
            machine.
        labels_are: What label maps hold: `instances`, `binary`, `binary-inverted`, `binary-watershed` or `classes`.
        patient_from: Regular expression whose one group, in an image's name, is the patient.
        resample_um: Resample all images to pixels of this side in micrometres.
        not_annotated: Number that label maps have where nothing is annotated, 255 or 65535 say, besides -1.
        val_region: For one image or one patient, the part of each training image that is validated on: `left`, `right`,
            `top` or `bottom`, alone or with its share, as in `right:0.25`.
        progress: Show a bar on standard error.

    Returns:
        The study as the database has it now.

    Raises:
        UserError: An argument, the study, the data or the cluster cannot be used; one line a problem.
        DataError: An image or annotation cannot be used.
        SearchBrokeOffError: The search ended before its budget; trials that are done are in the database.
        KeyboardInterrupt: It was interrupted; all that was done is in the database.
    """
    from searcher.api.launching import LaunchPlace, launch_in_order
    from searcher.api.study_result import read_study
    from searcher.ledger.database import Database

    view = view_of_data(labels_are, patient_from, resample_um, not_annotated, val_region)
    where, line = data_place(data), ProgressLine(progress)
    if study is None:
        from searcher.api.planning import planned_file

        watcher = _Watcher(line)
        study = planned_file(where, view, os.fspath(storage), watcher.preparing, watcher.remark)
    named = {
        "study.trials": trials,
        "study.hours": hours,
        "study.gpu_hours": gpu_hours,
        "train.epochs": epochs,
    }
    spec = study_spec(study, set, named)
    database = database_address(db)
    Database.probe(database)
    with _rays_address(address) as cluster:
        place = LaunchPlace(
            database=database,
            data=where,
            view=view,
            storage_root=storage_folder(storage),
            address=cluster,
            command=f"searcher.launch({os.fspath(study)!r}, ...)",
        )
        try:
            result = launch_in_order(spec, place, _Watcher(line), with_parents=with_parents)
        finally:
            line.end()
    if result.was_signalled and result.outcome != "finished":
        raise KeyboardInterrupt
    if result.outcome == "failed":
        raise SearchBrokeOffError(
            f"{spec.name}: failed with {result.num_done} of {result.budget} trials done: {result.problem}; "
            "searcher.load_study gives what is done, launch again to go on"
        )
    return read_study(spec.name, database)


@in_python
def load_study(name: str, *, db: PathLike | None = None) -> "StudyResult":
    """Return a study that was launched, here or elsewhere, as the database has it now.

    Args:
        name: The study's name.
        db: The study database, as for `launch`.

    Raises:
        UserError: There is no such study, or the database cannot be opened.
    """
    from searcher.api.study_result import read_study

    return read_study(name, database_address(db))


@in_python
def train(
    study: PathLike,
    *,
    data: PathLike | None = None,
    storage: PathLike = "runs",
    epochs: int | None = None,
    set: Mapping[str, Value] | None = None,
    labels_are: LabelsAre = "",
    patient_from: str = "",
    resample_um: float | None = None,
    not_annotated: int | None = None,
    val_region: str = "",
    progress: bool = False,
) -> "TrainedTrial":
    """Train one trial of a study in this process, without cluster and database; the same as `searcher train`.

    The trial is the study's first known-good point; `set` gives it other values.

    Args:
        study: A shipped study's name, or a .toml file.
        data: The data set's folder, or its URI in an object store; None for synthetic glands.
        storage: The run gets a new folder in it.
        epochs: Epochs to train, instead of the file's.
        set: Any keys of the study file by dotted name.
        labels_are: See `launch`.
        patient_from: See `launch`.
        resample_um: See `launch`.
        not_annotated: See `launch`.
        val_region: See `launch`.
        progress: Show a bar on standard error.

    Raises:
        UserError: An argument or the study cannot be used.
        DataError: An image or annotation cannot be used.
        TrialError: The trial cannot go on, as when a loss is no number.
    """
    from searcher.api.training import only_point, train_trial
    from searcher.training.dataset import DataRequest

    spec = study_spec(study, set, {"train.epochs": epochs})
    if storage_at(os.fspath(storage)).is_remote:
        raise UserError(f"storage: must be a folder for a single trial, got {storage}; use launch")
    view = view_of_data(labels_are, patient_from, resample_um, not_annotated, val_region)
    config = spec.trial_config(only_point(spec))
    line = ProgressLine(progress)

    def epoch_done(epoch: int, metrics: Mapping[str, float]) -> None:
        logger.info("epoch %d: %s", epoch, dict(metrics))
        value = metrics[spec.objective.name]
        line.show(spec.name, epoch, config.train.epochs, f" epochs, {spec.objective.name} {value:.4g}")

    try:
        return train_trial(
            spec,
            DataRequest(data_place(data), str(cache_dir()), config.data, view),
            storage_folder(storage),
            preparing=line.step("preparing images"),
            remark=logger.warning,
            begun=lambda params: logger.info("%s: %s", spec.name, dict(params)),
            epoch_done=epoch_done,
        )
    finally:
        line.end()


@in_python
def load_bundle(
    path: PathLike, *, device: str | None = None, tta: bool | None = None, normalisation: str = "bundle"
) -> "LoadedBundle":
    """Return a bundle that predicts: `labels, scores = searcher.load_bundle(path).predict(image)`.

    Args:
        path: A folder that `searcher export` or `StudyResult.export` wrote.
        device: `cpu` or `cuda`; None takes a GPU where there is one.
        tta: Whether to take the mean of the 8 turned and mirrored versions of an image; None: as the bundle says.
        normalisation: How values become 0..255: `bundle` (as in training), `fixed` (as they are) or `percentile`.

    Raises:
        UserError: It is no bundle, or damaged. Nothing in it is executed.
    """
    from searcher.api.predicting import LoadedBundle
    from searcher.bundle.load import load_bundle as opened

    check_choice("normalisation", normalisation, _NORMALISATIONS)
    return LoadedBundle(opened(Path(path)), device=device, tta=tta, normalisation=normalisation)


@in_python
def evaluate(
    networks: "PathLike | LoadedBundle | Sequence[PathLike]",
    data: PathLike,
    *,
    splits: str | Sequence[str] | None = None,
    tta: bool | None = None,
    normalisation: str = "bundle",
    name: str | None = None,
    report: PathLike | None = None,
    labels_are: LabelsAre = "",
    patient_from: str = "",
    resample_um: float | None = None,
    not_annotated: int | None = None,
    val_region: str = "",
    progress: bool = False,
) -> "Evaluation":
    """Measure networks by the official metrics on a data set; the same as `searcher evaluate`.

    Args:
        networks: A bundle or its folder, a checkpoint, or several checkpoints whose maps are averaged.
        data: The data set's folder, or its URI in an object store.
        splits: Which of its splits; None: testA, or where there is none all but train and val.
        tta: See `load_bundle`.
        normalisation: See `load_bundle`.
        name: What the networks are called in the record and the page.
        report: An .html file for one page with pictures.
        labels_are: See `launch`.
        patient_from: See `launch`.
        resample_um: See `launch`.
        not_annotated: See `launch`.
        val_region: See `launch`.
        progress: Show a bar on standard error.

    Returns:
        `evaluation.splits["testA"].pooled` has `f1`, `object_dice`, `pixel_dice` (0 to 1, 1 is best) and
        `object_hausdorff` (pixels, 0 is best).

    Raises:
        UserError: Networks and images do not go together, or a split is missing.
        DataError: The images cannot be used.
    """
    from searcher.api.evaluation import evaluate_networks
    from searcher.api.evaluation_page import check_report
    from searcher.api.networks import NetworksNamed, find_members
    from searcher.api.predicting import LoadedBundle

    check_choice("normalisation", normalisation, _NORMALISATIONS)
    if isinstance(networks, LoadedBundle):
        paths: list[PathLike] = [networks.path]
    else:
        paths = [networks] if isinstance(networks, str | os.PathLike) else list(networks)
    if not paths:
        raise UserError("networks: must be a bundle or checkpoints, got none; give the path of one")
    page = None if report is None else Path(report)
    check_report(page)
    found = find_members(NetworksNamed(paths=tuple(Path(path) for path in paths), who="evaluate"))
    folder = data_place(data)
    assert folder is not None
    line = ProgressLine(progress)
    return evaluate_networks(
        found,
        open_dataset(
            data,
            labels_are=labels_are,
            patient_from=patient_from,
            resample_um=resample_um,
            not_annotated=not_annotated,
            val_region=val_region,
            progress=progress,
        ),
        folder,
        splits=splits if splits is None or isinstance(splits, str) else ",".join(splits),
        tta=tta,
        normalisation=normalisation,
        labels_are_said=bool(labels_are),
        name=name,
        report=page,
        command="searcher.evaluate(...)",
        bar=line.step,
        remark=logger.warning,
    )


@in_python
def probe(
    study: PathLike,
    *,
    data: PathLike | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    set: Mapping[str, Value] | None = None,
    labels_are: LabelsAre = "",
    patient_from: str = "",
    resample_um: float | None = None,
    not_annotated: int | None = None,
    val_region: str = "",
    progress: bool = False,
) -> "MeasuredTrial":
    """Measure the memory of a study's largest trial on this machine's GPU, else its CPU; the same as `searcher probe`.

    Args:
        study: A shipped study's name, or a .toml file.
        data: The data set's folder, or its URI in an object store; None for synthetic glands.
        trials: See `launch`.
        epochs: See `launch`.
        set: Any keys of the study file by dotted name.
        labels_are: See `launch`.
        patient_from: See `launch`.
        resample_um: See `launch`.
        not_annotated: See `launch`.
        val_region: See `launch`.
        progress: Show a bar on standard error.

    Returns:
        `measured.params`; and `measured.use` with `peak_bytes`, `host_bytes`, `fits`, and `gpus`, which fits
        `resources.gpus`.

    Raises:
        UserError: An argument or the study cannot be used.
        DataError: An image or annotation cannot be used.
    """
    from searcher.api.probing import check_probed, measure_memory

    spec = study_spec(study, set, {"study.trials": trials, "train.epochs": epochs})
    check_probed(spec)
    view = view_of_data(labels_are, patient_from, resample_um, not_annotated, val_region)
    largest, _ = measure_memory(spec, data_place(data), view, ProgressLine(progress).step)
    return largest


class _Watcher:
    """A `LaunchWatcher` that logs, and draws one line."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line

    def preparing(self) -> AbstractContextManager[Callable[[int, int], None]]:
        """Draw the bar of the images."""
        return self._line.step("preparing images")

    @contextmanager
    def watching(self, spec: StudySpec) -> Iterator[LoggingListener]:
        """Draw the bar of the trials."""
        try:
            yield LoggingListener(spec, self._line)
        finally:
            self._line.end()

    def ended(self, spec: StudySpec, result: "LaunchResult") -> None:
        """Log how it ended."""
        logger.info("%s: %s, %d of %d trials done", spec.name, result.outcome, result.num_done, result.budget)

    def remark(self, text: str) -> None:
        """Log it."""
        logger.info("%s", text)

    def problem(self, text: str) -> None:
        """Log it."""
        logger.warning("%s", text)


@contextmanager
def _rays_address(address: str | None) -> Iterator[str | None]:
    """Give the Ray cluster to use, and keep Ray's variables from winning over it meanwhile."""
    before: dict[str, Any] = {name: os.environ.pop(name, None) for name in _RAYS_VARIABLES}
    try:
        yield address or (before["RAY_ADDRESS"] or "").strip() or None
    finally:
        os.environ.update({name: value for name, value in before.items() if value is not None})
