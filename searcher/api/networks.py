"""Trained networks, named by file, by bundle, or by their study."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searcher.api.best_trial import find_best

if TYPE_CHECKING:
    import torch

    from searcher.bundle.load import Bundle
    from searcher.bundle.member import BundleMember
    from searcher.inference.predictor import Predictor
    from searcher.ledger.address import DatabaseAddress
    from searcher.ledger.database import Database
    from searcher.ledger.records import StudyRecord, TrialRecord
    from searcher.models.base import SegmentationModel
    from searcher.study.ancestor import Ancestor

__all__ = [
    "FoundNetworks",
    "NetworksNamed",
    "find_members",
    "models_for",
    "normalise_as_wished",
    "predictor_for",
]

_MAX_NAMED = 3
"""Of checkpoints that are named by their folders."""


@dataclass(frozen=True)
class FoundNetworks:
    """Trained networks, and the files, bundle or study that they come from."""

    name: str
    """What they are called."""
    members: "tuple[BundleMember, ...]"
    """At least one; several are an ensemble."""
    paths: tuple[Path, ...]
    """The checkpoints or the bundle."""
    study: "StudyRecord | None" = None
    """Their study, where the database was read."""
    database: "DatabaseAddress | None" = field(default=None, repr=False)
    """The database that was read."""
    bundle: "Bundle | None" = None
    """The bundle, where that is what was named."""

    @property
    def trials(self) -> dict[int, str]:
        """The digest of each member's checkpoint, by the number of its trial; empty without a study."""
        return {
            member.facts.trial: member.facts.checkpoint_sha256
            for member in self.members
            if member.facts.trial is not None
        }


@dataclass(frozen=True, kw_only=True)
class NetworksNamed:
    """The networks that the user named, by files or by their study, not yet read."""

    paths: tuple[Path, ...] = ()
    """A bundle, or checkpoints, or trials' folders."""
    study: str | None = None
    """Instead of files: the best trial of this study."""
    trial: int | None = None
    """With a study: this trial instead of its best."""
    ensemble: bool = False
    """With a study that is a rerank: all runs of its winner together."""
    database: "DatabaseAddress | None" = field(default=None, repr=False)
    """With a study: where it is."""
    who: str = "networks"
    """Who asks, for messages."""


def find_members(named: NetworksNamed) -> FoundNetworks:
    """Return the trained networks that the user named, after reading their files.

    Raises:
        UserError: The user named none, or both files and a study, or a file cannot be used.
    """
    from searcher.exceptions import UserError

    if bool(named.paths) == (named.study is not None):
        got = "both" if named.paths else "neither"
        raise UserError(f"{named.who}: must be given either files or --study NAME, got {got}; see --help")
    if named.study is not None:
        return _of_study(named)
    for option, is_given in (
        ("--ensemble", named.ensemble),
        ("--trial", named.trial is not None),
    ):
        if is_given:
            raise UserError(f"{option}: must be given with --study, got files; leave it out")
    return _of_files(named.paths)


def predictor_for(found: FoundNetworks, tta: bool | None) -> "Predictor":
    """Return a predictor on this machine's device, with the settings of the bundle or of the networks.

    Args:
        found: The networks.
        tta: Whether to average the predictions of 8 rotated and mirrored views. None: as the bundle says, or if all
            networks were tuned for it.

    Raises:
        UserError: The weights do not fit this version, or the networks cannot predict together, or not with this `tta`.
    """
    from searcher.inference.precision import default_device
    from searcher.inference.trained import predictor_of

    device = default_device()
    if found.bundle is not None:
        return found.bundle.predictor(device=device, tta=tta)
    networks = [member.network for member in found.members]
    return predictor_of(networks, models_for(found, device), device=device, tta=tta)


def models_for(found: FoundNetworks, device: "torch.device") -> "list[SegmentationModel]":
    """Return the models of trained networks on a device, in eval mode.

    Raises:
        UserError: The weights do not fit this version of searcher.
    """
    from searcher.exceptions import UserError

    models = []
    for member, path in zip(found.members, found.paths, strict=True):
        try:
            models.append(member.network.model(device))
        except ValueError as error:
            raise UserError(
                f"{path}: its weights must fit this version of searcher, got {error}; use the version that wrote it"
            ) from error
    return models


def normalise_as_wished(predictor: "Predictor", wish: str, configs: Iterable[Mapping[str, Any]]) -> None:
    """Set a predictor's normalisation to the one that the user chose.

    Args:
        predictor: Changed in place.
        wish: Value of the option: `bundle`, `fixed` or `percentile`.
        configs: Configurations of the predictor's networks. For old ones without normalisation, dark images are
            brightened.
    """
    from searcher.data_pipeline.normalisation import Normalisation

    kind = predictor.kind
    if wish == "bundle" and not all("normalisation" in config.get("data", {}) for config in configs):
        predictor.kind = replace(kind, normalisation=replace(kind.normalisation, brightens_dark=True))
    if wish == "bundle" or wish == kind.normalisation.kind:
        return
    normalisation = Normalisation("percentile" if wish == "percentile" else "fixed")
    predictor.kind = replace(kind, normalisation=normalisation)


def _of_files(paths: Sequence[Path]) -> FoundNetworks:
    from searcher.bundle.load import is_bundle, load_bundle
    from searcher.exceptions import UserError

    bundles = [path for path in paths if is_bundle(path)]
    if bundles and len(paths) > 1:
        raise UserError(
            f"{bundles[0]}: a bundle must be named alone, got {len(paths)} paths; export the checkpoints as one bundle"
        )
    if bundles:
        bundle = load_bundle(bundles[0])
        return FoundNetworks(bundle.name, bundle.members, (bundle.path,), bundle=bundle)
    files = [_checkpoint_file(path) for path in paths]
    members = tuple(_member(file, None, (), number, len(files)) for number, file in enumerate(files))
    names = dict.fromkeys(f"{file.parent.parent.name}/{file.parent.name}" for file in files)
    name = " + ".join(names) if len(names) <= _MAX_NAMED else f"{next(iter(names))} and {len(names) - 1} more"
    return FoundNetworks(name, members, tuple(files))


def _of_study(named: NetworksNamed) -> FoundNetworks:
    from searcher.exceptions import UserError
    from searcher.ledger.database import Database
    from searcher.ledger.outcomes import ancestors
    from searcher.ledger.ranking import best_checkpoint
    from searcher.ledger.stored import load_stored_plugins

    address = named.database
    assert address is not None
    assert named.study is not None
    with Database.open(address) as database:
        database.check_writable()  # what is made of the trials is recorded in the end
        study, chosen = _chosen(named, database)
        load_stored_plugins(database.study_row(study.name))
        before = tuple(ancestors(database, study.name))
    paths, members = [], []
    for number, trial in enumerate(chosen):
        path = best_checkpoint(study, trial)
        if path is None:
            what = "one that was removed" if "best" in trial.checkpoints else "none yet"
            raise UserError(
                f"--study {named.study}: trial {trial.number} must have a checkpoint, got {what}; name another one"
            )
        paths.append(path)
        members.append(_member(path, (study, trial), before, number, len(chosen)))
    numbers = ", ".join(str(trial.number) for trial in chosen)
    return FoundNetworks(
        name=f"{study.name}, trial{'s' if len(chosen) > 1 else ''} {numbers}",
        members=tuple(members),
        paths=tuple(paths),
        study=study,
        database=address,
    )


def _chosen(named: NetworksNamed, database: "Database") -> "tuple[StudyRecord, list[TrialRecord]]":
    """Return the study, and its trials that are wanted."""
    assert named.study is not None
    from searcher.exceptions import UserError
    from searcher.ledger.ranking import runs_of

    if named.trial is not None:
        if named.ensemble:
            raise UserError(
                "--trial: must not be given with --ensemble, which takes all runs of the winner; leave one out"
            )
        study, chosen = database.study(named.study), database.trials(named.study, [named.trial])
        if not chosen:
            raise UserError(
                f"--trial {named.trial}: must be a trial of {named.study}, which has {study.num_trials}; "
                "see searcher trials"
            )
        return study, chosen
    found = find_best(database, named.study)
    if not named.ensemble:
        return found.study, [found.best]
    runs = database.trials(named.study, runs_of(found.best, found.results))
    if len(runs) < 2:
        raise UserError(
            f"--ensemble: must name a rerank with several COMPLETE runs of its winner, got {len(runs)} of "
            f"{named.study}; leave it out, or name checkpoints"
        )
    return found.study, runs


def _member(
    path: Path,
    of: "tuple[StudyRecord, TrialRecord] | None",
    lineage: "tuple[Ancestor, ...]",
    number: int,
    num_members: int,
) -> "BundleMember":
    from pydantic import ValidationError

    from searcher.bundle.contents import weights_files
    from searcher.bundle.manifest import MemberFacts
    from searcher.bundle.member import BundleMember
    from searcher.escaping import one_line
    from searcher.exceptions import CheckpointError, UserError
    from searcher.training.checkpoints import load_checkpoint
    from searcher.training.trained import trained_network

    try:
        checkpoint, file = load_checkpoint(
            path, sha256=None if of is None else of[1].checkpoints["best"].sha256
        )
        network = trained_network(checkpoint)
    except CheckpointError as error:  # here it is what the command line names, not what a trial wrote
        raise UserError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    try:
        facts = MemberFacts(
            weights=weights_files(num_members)[number],
            study=None if of is None else of[0].name,
            trial=None if of is None else of[1].number,
            epoch=checkpoint.epoch,
            objective=checkpoint.objective,
            value=checkpoint.value,
            params={} if of is None else dict(of[1].params),
            config=network.config.to_dict(),
            tuned=checkpoint.tuned,
            checkpoint_sha256=file.sha256,
            data_fingerprint=checkpoint.data_fingerprint,
            history=_history(path) if of is None else _finite(of[1].epochs),
            lineage=lineage,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{path}: {where} must be what a bundle can hold, got {one_line(str(first['input'])[:40])} "
            f"({first['msg'][:100]}); use another checkpoint"
        ) from error
    return BundleMember(network, facts, checkpoint.pixel_size_um)


def _checkpoint_file(path: Path) -> Path:
    from searcher.exceptions import UserError

    file = path / "best.pt" if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"{path}: must be a bundle, a checkpoint or a trial's folder, got none of them; `searcher best` names one"
        )
    return file.absolute()


def _history(checkpoint: Path) -> dict[int, dict[str, float]]:
    """Return the metrics of every epoch of the run that a checkpoint lies in, nothing if they were moved apart."""
    from searcher.training.history import read_history

    try:
        lines = read_history(checkpoint.parent / "metrics.jsonl")
    except OSError:  # the history is worth having, and no more
        return {}
    return _finite({int(line["epoch"] or 0): line for line in lines})


def _finite(epochs: "Mapping[int, Mapping[str, float | None]]") -> dict[int, dict[str, float]]:
    return {
        epoch: {
            name: value
            for name, value in metrics.items()
            if name != "epoch" and isinstance(value, int | float) and math.isfinite(value)
        }
        for epoch, metrics in epochs.items()
        if epoch >= 0
    }
