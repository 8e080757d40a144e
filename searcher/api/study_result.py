"""A study in the database, as a notebook looks at it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searcher.api.best_trial import check_plot, find_best, picture_of, write_plot
from searcher.api.progress import ProgressLine
from searcher.api.words import in_python
from searcher.extras import need
from searcher.ledger.address import DatabaseAddress
from searcher.ledger.database import Database
from searcher.ledger.records import StudyRecord, TrialRecord
from searcher.report.study import StudyPicture

if TYPE_CHECKING:
    from searcher.api.predicting import LoadedBundle

__all__ = ["BestTrial", "StudyPlot", "StudyResult", "read_study"]


@dataclass(frozen=True)
class BestTrial:
    """The best trial of a study: its number, value, epoch, parameters, metrics and checkpoint."""

    number: int
    value: float
    """The objective at its best epoch."""
    epoch: int
    """That epoch, counted from 1."""
    params: Mapping[str, Any]
    """The searched parameters by dotted key, such as `optimizer.lr`."""
    metrics: Mapping[str, float]
    """All metrics of that epoch; distances in pixels, times in seconds."""
    checkpoint: str | None
    """Path or URI of its checkpoint; None if it was removed."""


@dataclass(frozen=True)
class StudyPlot:
    """Pictures of a study, which a notebook displays: history, importances, parallel coordinates, learning curves."""

    _picture: StudyPicture = field(repr=False)

    def _repr_png_(self) -> bytes:
        from searcher.report.study_png import study_png

        return study_png(self._picture)

    @in_python
    def save(self, path: str | Path) -> None:
        """Write the pictures to a file: a searchable page (.html), or one picture (.png).

        Raises:
            UserError: The file cannot be written, or its name has another ending.
        """
        check_plot(Path(path))
        write_plot(Path(path), self._picture)


@dataclass(frozen=True)
class StudyResult:
    """A study in the state in which it was read from the database; `searcher.load_study` reads it again."""

    name: str
    objective: str
    """The metric that is searched for, such as `object_dice`."""
    direction: str
    """`maximize` or `minimize`."""
    budget: int
    """Trials that the study has."""
    num_done: int
    """Trials of the budget that are done: COMPLETE or PRUNED."""
    outcome: str | None
    """How the newest launch ended: `finished`, `interrupted`, `failed` or `lost`; None while it runs."""
    records: tuple[TrialRecord, ...] = field(repr=False)
    """Every trial with all its epochs."""
    _study: StudyRecord = field(repr=False)
    _database: DatabaseAddress = field(repr=False)

    @property
    def trials(self) -> Any:
        """All trials, a row each, as a pandas DataFrame; as a list of dictionaries if pandas is not installed.

        The columns are those of Optuna's `trials_dataframe`: `number`, `value` (with several objectives `values_NAME`),
        `datetime_start`, `datetime_complete` (UTC), `duration` in seconds, `params_KEY`, `state`. Two are added:
        `epochs`, the number of trained epochs, and `reason`, why the trial ended.
        """
        rows = [self._row(record) for record in self.records]
        try:
            import pandas
        except ImportError:
            return rows
        return pandas.DataFrame(rows)

    @property
    def best(self) -> BestTrial:
        """The best COMPLETE trial by the study's objective.

        Raises:
            UserError: No trial is COMPLETE.
        """
        return self._best()

    @in_python
    def plot(self) -> StudyPlot:
        """Return pictures of the study, which a notebook displays.

        Raises:
            UserError: No trial is COMPLETE, or the extra `plots` is not installed.
        """
        need("plots", "plot")
        with Database.open(self._database) as database:
            return StudyPlot(picture_of(database, find_best(database, self.name)))

    @in_python
    def export(
        self,
        to: str | Path,
        *,
        trial: int | None = None,
        ensemble: bool = False,
        name: str | None = None,
        tune: str | None = None,
        data: str | Path | None = None,
        data_licence: str | None = None,
        pixel_size_um: float | None = None,
        onnx: bool = False,
        example: str | Path | None = None,
        force: bool = False,
        progress: bool = False,
    ) -> "LoadedBundle":
        """Write the networks of the best trial, or of another, as a bundle, and return the bundle.

        A bundle can be used without the database and the training data.

        Args:
            to: Folder of the bundle; must be new.
            trial: Number of the trial to export; None for the best.
            ensemble: Whether to export all runs of a rerank's winner together.
            name: Name of the bundle; None for the names of study and trial.
            tune: Metric, or `objective`, for which post-processing is tuned again for the networks together; needs the
                data. None to keep the tuning.
            data: Folder or URI of the training data, if they were moved.
            data_licence: Licence of the training data; None for the one that the data set states.
            pixel_size_um: Side of a pixel of the training images in micrometres; None for the known one.
            onnx: Whether to add the network for ONNX Runtime.
            example: An image for the model card, shown with its objects outlined. Check its licence.
            force: Whether to replace an existing bundle.
            progress: Whether to show a progress bar.

        Returns:
            The written bundle, opened.

        Raises:
            UserError: The folder exists, or the trial has no checkpoint. Nothing is left behind.
        """
        from searcher.api.exporting import ExportWish, export_networks
        from searcher.api.networks import NetworksNamed, find_members
        from searcher.api.places import data_place
        from searcher.api.predicting import LoadedBundle
        from searcher.bundle.formats import BUNDLE
        from searcher.bundle.load import load_bundle

        named = NetworksNamed(
            study=self.name, trial=trial, ensemble=ensemble, database=self._database, who="export"
        )
        wish = ExportWish(
            to=Path(to),
            force=force,
            name=name,
            formats=(BUNDLE, *(("onnx",) if onnx else ())),
            example=None if example is None else Path(example),
            data=data_place(data),
            tune=tune,
            data_licence=data_licence,
            pixel_size_um=pixel_size_um,
        )
        export_networks(find_members(named), wish, ProgressLine(progress).step)
        return LoadedBundle(load_bundle(Path(to)), device=None, tta=None, normalisation="bundle")

    @in_python
    def _best(self) -> BestTrial:
        with Database.open(self._database) as database:
            found = find_best(database, self.name)
        best = found.best
        epoch = int(best.notes.get("best_epoch", best.num_epochs))
        assert best.value is not None
        return BestTrial(
            best.number, best.value, epoch, dict(best.params), dict(best.epochs.get(epoch, {})), found.path
        )

    def _row(self, record: TrialRecord) -> dict[str, Any]:
        objectives = (self.objective, *self._study.secondary_objectives)
        if len(objectives) == 1:
            values: dict[str, Any] = {"value": record.value}
        else:
            known = record.values or (None,) * len(objectives)
            values = {f"values_{name}": value for name, value in zip(objectives, known, strict=True)}
        return {
            "number": record.number,
            **values,
            "datetime_start": record.started_at,
            "datetime_complete": record.ended_at,
            "duration": record.duration_s,
            **{f"params_{name}": value for name, value in record.params.items()},
            "state": record.state,
            "epochs": record.num_epochs,
            "reason": record.notes.get("fail_reason") or record.notes.get("stop_reason"),
        }


def read_study(name: str, address: DatabaseAddress) -> StudyResult:
    """Return a study in its present state in the database.

    Raises:
        UserError: There is no such study, or the database cannot be opened.
    """
    with Database.open(address) as database:
        study, trials = database.study(name), database.trials(name)
    launch = study.last_launch
    return StudyResult(
        name=study.name,
        objective=study.objective,
        direction=str(study.directions[0]),
        budget=study.budget,
        num_done=study.num_done,
        outcome=None if launch is None else launch.outcome,
        records=tuple(trials),
        _study=study,
        _database=address,
    )
