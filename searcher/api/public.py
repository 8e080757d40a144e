"""What `import searcher` gives: each verb as a function. Nothing here prints, but for the bar of `progress=True`."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searcher.api.places import data_place, database_place, storage_folder
from searcher.api.progress import LoggingListener, ProgressLine, logger
from searcher.api.words import in_python
from searcher.data_pipeline.datasets import SampleSource
from searcher.data_pipeline.datasets.view import LABELS_ARE, DataView, LabelsAre
from searcher.exceptions import SearchBrokeOffError, UserError
from searcher.settings import read_setting
from searcher.storage.mirror import cache_dir, storage_at
from searcher.study.space import Value
from searcher.study.spec import StudySpec

if TYPE_CHECKING:
    from searcher.api.evaluation import Evaluation
    from searcher.api.predicting import LoadedBundle
    from searcher.api.study_result import StudyResult
    from searcher.api.training import TrainedTrial
    from searcher.ledger.address import DatabaseAddress
    from searcher.orchestration.driver import LaunchResult

__all__ = ["evaluate", "launch", "load_bundle", "load_study", "open_dataset", "train"]

_RAYS_VARIABLES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
_NORMALISATIONS = ("bundle", "fixed", "percentile")

PathLike = str | os.PathLike[str]


@in_python
def launch(
    study: PathLike | None = None,
    *,
    data: PathLike | None = None,
    db: PathLike | None = None,
    storage: PathLike = "runs",
    trials: int | None = None,
    epochs: int | None = None,
    set: Mapping[str, Value] | None = None,
    with_parents: bool = False,
    address: str | None = None,
    labels_are: LabelsAre = "",
    patient_from: str = "",
    resample_um: float | None = None,
    not_annotated: int | None = None,
    progress: bool = False,
) -> "StudyResult":
    """Run a study until its budget is used, or go on with it; the same as `searcher launch`.

    Ctrl-C, and a notebook's stop button, end it after the current step: running trials are queued again, nothing is
    lost, and KeyboardInterrupt is raised. Once more ends it at once. Launching again goes on.

    Args:
        study: A shipped study's name, or a .toml file; None for one that is planned for the data, written into the
            storage folder, and gone on with from there.
        data: The data set's folder, or its URI in an object store; None for synthetic glands.
        db: The study database: a file (SQLite), a URL (PostgreSQL), or `@FILE` with the URL in it; None for
            `SEARCHER_DB` of the environment, else `searcher.db` here.
        storage: Folder of checkpoints and logs, or an object store's URI.
        trials: The study's budget, instead of its file's.
        epochs: Epochs of a trial, instead of its file's.
        set: Any keys of the study file by dotted name; a searched one becomes fixed.
        with_parents: Run the studies that it comes from first, as far as they are not done.
        address: HOST:PORT of a running Ray cluster; None for `RAY_ADDRESS` of the environment, else a cluster on this
            machine.
        labels_are: What label maps hold: `instances`, `binary`, `binary-inverted`, `binary-watershed` or `classes`.
        patient_from: Regular expression whose one group, in an image's name, is the patient.
        resample_um: Resample all images to pixels of this side in micrometres.
        not_annotated: Number that label maps have where nothing is annotated, 255 or 65535 say, beside -1.
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

    view = _view(labels_are, patient_from, resample_um, not_annotated)
    where, line = data_place(data), ProgressLine(progress)
    if study is None:
        from searcher.api.planning import planned_file

        watcher = _Watcher(line)
        study = planned_file(where, view, os.fspath(storage), watcher.preparing, watcher.remark)
    spec = _spec(study, set, {"study.trials": trials, "train.epochs": epochs})
    database = _database(db)
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

    return read_study(name, _database(db))


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
        progress: Show a bar on standard error.

    Raises:
        UserError: An argument or the study cannot be used.
        DataError: An image or annotation cannot be used.
        TrialError: The trial cannot go on, as when a loss is no number.
    """
    from searcher.api.training import only_point, train_trial
    from searcher.training.dataset import DataRequest

    spec = _spec(study, set, {"train.epochs": epochs})
    if storage_at(os.fspath(storage)).is_remote:
        raise UserError(f"storage: must be a folder for a single trial, got {storage}; use launch")
    view = _view(labels_are, patient_from, resample_um, not_annotated)
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
def open_dataset(
    data: PathLike,
    *,
    labels_are: LabelsAre = "",
    patient_from: str = "",
    resample_um: float | None = None,
    not_annotated: int | None = None,
    progress: bool = False,
) -> SampleSource:
    """Return a data set of any layout that searcher reads. No pixel is decoded yet.

    `source.samples` has each image's name, split, patient and grade; `source.read(index)` returns the image,
    uint8 or uint16[H, W, C], and its label map, int32[H, W], 0 for background and a number per object.

    Args:
        data: Its folder, or its URI in an object store, from which it is fetched.
        labels_are: See `launch`.
        patient_from: See `launch`.
        resample_um: See `launch`.
        not_annotated: See `launch`.
        progress: Show a bar on standard error while it is fetched.

    Raises:
        DataError: There is no data set, or it cannot be read.
        UserError: The object store cannot be used.
    """
    from searcher.data_pipeline.datasets.view import viewed
    from searcher.storage.data import open_data

    where = data_place(data)
    assert where is not None
    with ProgressLine(progress).step("fetching images") as advance:
        source = open_data(where, cache_dir(), progress=advance)
    return viewed(source, _view(labels_are, patient_from, resample_um, not_annotated))


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

    _check_choice("normalisation", normalisation, _NORMALISATIONS)
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

    _check_choice("normalisation", normalisation, _NORMALISATIONS)
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


def _spec(study: PathLike, chosen: Mapping[str, Value] | None, named: Mapping[str, int | None]) -> StudySpec:
    """Return a study with what was chosen instead of its file's values."""
    from searcher.study.catalog import load_study as read_spec

    for key, value in named.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            word = key.rpartition(".")[2]
            raise UserError(
                f"{word}: must be a whole number of at least 1, got {value!r}; leave it out, or give one"
            )
    fixed = {key: value for key, value in named.items() if value is not None}
    return read_spec(os.fspath(study), {**(chosen or {}), **fixed})


def _view(
    labels_are: str, patient_from: str, resample_um: float | None, not_annotated: int | None
) -> DataView:
    import re

    _check_choice("labels_are", labels_are, ("", *LABELS_ARE))
    if patient_from:
        try:
            groups = re.compile(patient_from).groups
        except re.error as error:
            raise UserError(
                f"patient_from: must be a regular expression, got {patient_from!r}: {error}; correct it"
            ) from None
        if groups != 1:
            raise UserError(
                f"patient_from: must have one group in brackets, the patient, as '(P\\d+)_' has, got {groups} in "
                f"{patient_from!r}; correct it"
            )
    if resample_um is not None and not 0 < resample_um < float("inf"):
        raise UserError(
            f"resample_um: must be a number of micrometres above 0, got {resample_um!r}; leave it out, or give one"
        )
    if not_annotated is not None and (type(not_annotated) is not int or not_annotated < 1):
        raise UserError(
            f"not_annotated: must be a whole number of at least 1, got {not_annotated!r}; leave it out where "
            "label maps have -1"
        )
    return DataView(labels_are, patient_from, resample_um, not_annotated)  # type: ignore[arg-type]  # checked above


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        known = ", ".join(choice or "''" for choice in choices)
        raise UserError(f"{name}: must be one of {known}, got {value!r}; choose one of them")


def _database(db: PathLike | None) -> "DatabaseAddress":
    """Return where the study database lies. Workers do not inherit `SEARCHER_DB`: see `child_environment`."""
    return database_place(db, read_setting("SEARCHER_DB"))


@contextmanager
def _rays_address(address: str | None) -> Iterator[str | None]:
    """Give the Ray cluster to use, and keep Ray's variables from winning over it meanwhile."""
    before: dict[str, Any] = {name: os.environ.pop(name, None) for name in _RAYS_VARIABLES}
    try:
        yield address or (before["RAY_ADDRESS"] or "").strip() or None
    finally:
        os.environ.update({name: value for name, value in before.items() if value is not None})
