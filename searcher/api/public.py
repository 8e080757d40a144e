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
    """Run a study until its budget is used, or resume it, and return the study; like `searcher launch`.

    Ctrl-C, or a notebook's stop button, ends the launch after the current step. Running trials are queued again,
    nothing is lost, and KeyboardInterrupt is raised. A second Ctrl-C ends the launch at once. Launching again resumes
    the study.

    Args:
        study: Name of a shipped study, or a .toml file. With None, a study is planned for the data and written into the
            storage folder, and later launches use that file.
        data: Folder of the data set, or its URI in an object store; None for synthetic glands.
        db: The study database: a file (SQLite), a URL (PostgreSQL), or `@FILE`, a file that contains the URL. None for
            the variable `SEARCHER_DB`; without that, `searcher.db` in the working folder.
        storage: Folder or object store's URI for checkpoints and logs.
        trials: Budget of the study; None for the one in its file.
        hours: Hours of this launch: no trial begins that is not expected to end in time; None for the file's.
        gpu_hours: Hours of this launch's trials together, times GPUs of a trial; None for the file's.
        epochs: Epochs of a trial; None for the number in the file.
        set: Values for any keys of the study file, by dotted name; a searched parameter becomes fixed.
        with_parents: Whether to run unfinished parent studies first.
        address: HOST:PORT of a running Ray cluster. None for the variable `RAY_ADDRESS`; without that, a new cluster on
            this machine.
        labels_are: Meaning of the label maps' values: `instances`, `binary`, `binary-inverted`, `binary-watershed` or
            `classes`; empty for `instances`, which is checked.
        patient_from: Regular expression whose one group finds the patient in an image's name; empty to use the data
            set's own patients.
        resample_um: Side of a pixel in micrometres to which all images are resampled; None to leave them as they are.
        not_annotated: Number that marks pixels without annotation in label maps, such as 255 or 65535, in addition to
            -1.
        val_region: Part of each training image that is used for validation, for data with one image or one patient:
            `left`, `right`, `top` or `bottom`, alone or with a share, as in `right:0.25`. Empty for none.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The study as the database has it now.

    Raises:
        UserError: An argument, the study, the data or the cluster cannot be used; one line for each problem.
        DataError: An image or annotation cannot be used.
        SearchBrokeOffError: The search ended before its budget was used; finished trials are in the database.
        KeyboardInterrupt: The user interrupted the launch; everything done is in the database.
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
    limits = {"study.hours": hours, "study.gpu_hours": gpu_hours}
    chosen = {**(set or {}), **{key: value for key, value in limits.items() if value is not None}}
    spec = study_spec(study, chosen, {"study.trials": trials, "train.epochs": epochs})
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
    """Return a study that was launched before, here or elsewhere, in its present state in the database.

    Args:
        name: Name of the study.
        db: The study database, see `launch`.

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
    """Train one trial of a study in this process, without cluster and database, and return it; like `searcher train`.

    The trial has the parameters of the study's first known-good point; `set` overrides them.

    Args:
        study: Name of a shipped study, or a .toml file.
        data: Folder of the data set, or its URI in an object store; None for synthetic glands.
        storage: Folder in which a new folder for this run is created.
        epochs: Epochs to train; None for the number in the file.
        set: Values for any keys of the study file, by dotted name.
        labels_are: See `launch`.
        patient_from: See `launch`.
        resample_um: See `launch`.
        not_annotated: See `launch`.
        val_region: See `launch`.
        progress: Whether to show a progress bar on standard error.

    Raises:
        UserError: An argument or the study is invalid.
        DataError: An image or annotation cannot be used.
        TrialError: The trial cannot continue, for example because a loss is NaN.
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
    """Return the networks of a bundle, ready to predict: `searcher.load_bundle(path).predict(image).labels`.

    Args:
        path: Folder that `searcher export` or `StudyResult.export` wrote.
        device: `cpu` or `cuda`; None for a GPU if there is one.
        tta: Whether to average the 8 turned and mirrored versions of an image; None to do as the bundle says.
        normalisation: How pixel values become 0..255: `bundle` (as in training), `fixed` (unchanged) or `percentile`.

    Raises:
        UserError: The folder is no bundle, or damaged. Nothing in it is executed.
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
    """Return the official metrics of networks on a data set; like `searcher evaluate`.

    Args:
        networks: A bundle or its folder, a checkpoint, or several checkpoints whose maps are averaged.
        data: Folder of the data set, or its URI in an object store.
        splits: Names of the splits to measure on. None for testA; without that, all except train and val.
        tta: See `load_bundle`.
        normalisation: See `load_bundle`.
        name: Name of the networks in the record and the report; None for their own.
        report: Path of an .html file for a report with pictures; None for none.
        labels_are: See `launch`.
        patient_from: See `launch`.
        resample_um: See `launch`.
        not_annotated: See `launch`.
        val_region: See `launch`.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The evaluation. `evaluation.splits["testA"].pooled` has `f1`, `object_dice`, `pixel_dice` (0 to 1, 1 is best)
        and `object_hausdorff` (pixels, 0 is best).

    Raises:
        UserError: The networks do not fit the images, or there is no such split.
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
    """Return the memory use of a study's largest trial on this machine's GPU, else its CPU; like `searcher probe`.

    Args:
        study: Name of a shipped study, or a .toml file.
        data: Folder of the data set, or its URI in an object store; None for synthetic glands.
        trials: See `launch`.
        epochs: See `launch`.
        set: Values for any keys of the study file, by dotted name.
        labels_are: See `launch`.
        patient_from: See `launch`.
        resample_um: See `launch`.
        not_annotated: See `launch`.
        val_region: See `launch`.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The measurement: `measured.params`, and `measured.use` with `peak_bytes`, `host_bytes`, `fits`, and `gpus`, a
        suitable value for `resources.gpus`.

    Raises:
        UserError: An argument or the study is invalid.
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
        """Log the outcome and the number of finished trials."""
        logger.info("%s: %s, %d of %d trials done", spec.name, result.outcome, result.num_done, result.budget)

    def remark(self, text: str) -> None:
        """Log the line."""
        logger.info("%s", text)

    def problem(self, text: str) -> None:
        """Log the line as a warning."""
        logger.warning("%s", text)


@contextmanager
def _rays_address(address: str | None) -> Iterator[str | None]:
    """Give the Ray cluster to use, and keep Ray's variables from winning over it meanwhile."""
    before: dict[str, Any] = {name: os.environ.pop(name, None) for name in _RAYS_VARIABLES}
    try:
        yield address or (before["RAY_ADDRESS"] or "").strip() or None
    finally:
        os.environ.update({name: value for name, value in before.items() if value is not None})
