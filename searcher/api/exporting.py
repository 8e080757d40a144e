"""Trained networks as a bundle, or in another format, which needs neither database nor cluster nor training data."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from searcher.api.networks import FoundNetworks, models_for, predictor_for
from searcher.bundle.folder import check_target
from searcher.bundle.formats import BUNDLE, EXPORTS, Networks, check_formats
from searcher.bundle.write import Written, write_export
from searcher.data_pipeline.datasets.view import DataView
from searcher.extras import is_installed

if TYPE_CHECKING:
    from searcher.bundle.manifest import DataFacts
    from searcher.data_pipeline.datasets import SampleSource
    from searcher.data_pipeline.pixel_arrays import Pixels
    from searcher.inference.image_kind import ImageKind
    from searcher.inference.tuning import Tuned

__all__ = ["ONNX_SIZE_PX", "ExportWish", "ExportedNetworks", "export_networks"]

logger = logging.getLogger(__name__)

ONNX_SIZE_PX = 512
"""Side of the images that the ONNX network takes where nobody says."""

_SAME_PIXEL_SIZE = 1.02
"""Largest ratio of the pixel sizes that the networks of one bundle were trained at."""

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Enters a step of the work by its title; gives what is called with (done, total)."""


@dataclass(frozen=True, kw_only=True)
class ExportWish:
    """The user's choices for an export."""

    to: Path
    """The folder, which must be new."""
    force: bool = False
    """Replace an export that is there."""
    name: str | None = None
    """What to call it in tables; None: study and trial."""
    formats: tuple[str, ...] = (BUNDLE,)
    """What to write, of `searcher.bundle.formats.EXPORTS`; `onnx` is the network (U-Net) for ONNX Runtime, compared
    with PyTorch."""
    onnx_size: int = ONNX_SIZE_PX
    """Side in pixels of the images that the ONNX network takes, or that of another format which has to fix it."""
    example: Path | None = None
    """An image to put on the model card, with its objects outlined."""
    data: str | None = None
    """Folder or URI of the training data; None: where the study says."""
    view: DataView = field(default_factory=DataView)
    """How those are read."""
    tune: str | None = None
    """Tune post-processing again for the networks together: `objective` or a metric; None: not."""
    data_licence: str | None = None
    """Licence of the training data; None: if known."""
    pixel_size_um: float | None = None
    """Side of a pixel of the training images in micrometres; None: if known."""


@dataclass(frozen=True)
class ExportedNetworks:
    """The result of an export: its name, the files written, and the tuning."""

    name: str
    """What the networks are called."""
    written: Written
    tuned: "Tuned | None" = None
    """How post-processing was tuned for the networks together, where that was wanted."""


def export_networks(found: FoundNetworks, wish: ExportWish, bar: Bar) -> ExportedNetworks:
    """Write networks as a bundle or in other formats, and record the export in their study database.

    Args:
        found: The networks.
        wish: The user's choices.
        bar: Shows the progress of each step.

    Raises:
        UserError: The folder exists, or the networks cannot be exported in such a way; nothing is left behind.
        DataError: The training data cannot be used.
    """
    check_formats(wish.formats)
    check_target(wish.to, force=wish.force)
    name = _name(wish, found)
    source = _source(wish, found, bar)
    tuned = None
    if wish.tune:
        tuned = _tuned_together(wish.tune, found, source, bar)
        found = dataclasses.replace(
            found, members=tuple(member.with_tuning(tuned) for member in found.members)
        )
    models = models_for(found, torch.device("cpu"))
    for check in [EXPORTS[each].check for each in wish.formats]:
        if check is not None:
            check(models)
    networks = Networks(
        name=name,
        members=found.members,
        models=models,
        data=_data_facts(wish, found, source),
        channels=_kind(found).channels,
        size_px=wish.onnx_size,
        pixel_size_um=wish.pixel_size_um or _pixel_size(found, source),
        images={} if wish.formats == (BUNDLE,) else _real_images(wish, source, _kind(found)),
        pictures=_pictures(wish, found) if BUNDLE in wish.formats else {},
    )
    written = write_export(wish.to, networks, formats=wish.formats, force=wish.force)
    _record(wish, found, written.sha256)
    return ExportedNetworks(name, written, tuned)


def _kind(found: FoundNetworks) -> "ImageKind":
    """Return what images the networks take; that all take the same is looked at when the bundle is written."""
    return found.members[0].network.kind


def _pixel_size(found: FoundNetworks, source: "SampleSource | None") -> float | None:
    """Return the pixel size that the networks were trained at, if they agree on it; else what the data set says."""
    sizes = {member.pixel_size_um for member in found.members}
    known = [size for size in sizes if size is not None]
    if known and None not in sizes:
        return known[0] if max(known) <= min(known) * _SAME_PIXEL_SIZE else None
    return source.pixel_size_um if source is not None else None


def _name(wish: ExportWish, found: FoundNetworks) -> str:
    from searcher.bundle.manifest import MAX_NAME
    from searcher.exceptions import UserError

    name: str = wish.name or found.name
    if len(name) > MAX_NAME:
        raise UserError(
            f"--name: must have at most {MAX_NAME} characters, got {len(name)}; give a shorter one"
        )
    return name


def _source(wish: ExportWish, found: FoundNetworks, bar: Bar) -> "SampleSource | None":
    """Return the data set that the networks were trained on, None if it is not to be had.

    Raises:
        DataError: `--data` names no data set.
        UserError: It names another one.
    """
    from searcher.data_pipeline.datasets.synthetic import is_synthetic
    from searcher.data_pipeline.exceptions import DataError
    from searcher.exceptions import StorageError, UserError
    from searcher.storage.fetched_data import open_data
    from searcher.storage.mirror import cache_dir
    from searcher.training.dataset import DataRequest

    if wish.data is not None:
        source: SampleSource = _opened(wish, bar)
        if not _is_what_was_trained_on(source, found):
            raise UserError(
                f"--data {wish.data}: must be what the networks were trained on, got other images; leave it out, or "
                "give that folder"
            )
        return source
    if found.study is None:
        return None
    if is_synthetic(found.study.data_source):
        return DataRequest(None, "", found.members[0].network.config.data).source()
    try:
        source = open_data(found.study.data_source, cache_dir())
        return source if _is_what_was_trained_on(source, found) else None
    except (DataError, StorageError):  # moved or changed since then: the bundle says what is known without it
        return None


def _opened(wish: ExportWish, bar: Bar) -> "SampleSource":
    from searcher.data_pipeline.datasets.view import viewed
    from searcher.storage.fetched_data import open_data
    from searcher.storage.mirror import cache_dir

    assert wish.data is not None
    with bar("fetching images") as advance:
        return viewed(open_data(wish.data, cache_dir(), progress=advance), wish.view)


def _is_what_was_trained_on(source: "SampleSource", found: FoundNetworks) -> bool:
    return {source.fingerprint()} == {member.facts.data_fingerprint for member in found.members}


def _tuned_together(metric: str, found: FoundNetworks, source: "SampleSource | None", bar: Bar) -> "Tuned":
    """Return post-processing that is tuned for all networks together on all their validation images.

    Raises:
        UserError: There are no training data, or the networks cannot be averaged.
    """
    from searcher.data_pipeline.store import normalised, prepare_store
    from searcher.exceptions import UserError
    from searcher.inference.precision import default_device
    from searcher.inference.trained import predictor_of
    from searcher.inference.tuning import tuning_target
    from searcher.storage.mirror import cache_dir
    from searcher.study.objectives import Objective
    from searcher.training.checkpoint_tuning import tune_together

    if source is None:
        raise UserError("--tune: must have the training data, got none at hand; add --data DIR")
    networks, device = [member.network for member in found.members], default_device()
    models = models_for(found, device)
    predictor_of(networks, models, device=device)  # refuses what cannot be averaged, before minutes of tuning
    with bar("preparing images") as advance:
        store = prepare_store(source, cache_dir(), progress=advance)
    store = normalised(store, networks[0].kind.normalisation)
    config = networks[0].config
    objective = Objective(found.members[0].facts.objective)
    return tune_together(
        [(network.config, model) for network, model in zip(networks, models, strict=True)],
        tuning_target(config.tuning.metric if metric == "objective" else metric, objective),
        store,
        device=device,
        tta=config.tuning.tta,
    )


def _pictures(wish: ExportWish, found: FoundNetworks) -> dict[str, bytes]:
    """Return the model card's pictures by file name: learning curves, and an image with what is found in it.

    The image is one that a person gives or synthetic: training data often must not be passed on.
    """
    from searcher.data_pipeline.datasets.synthetic import SYNTHETIC, is_synthetic
    from searcher.prediction.images import read_as_seen
    from searcher.report.pictures import NO_CURVE, learning_curve, overlay_jpeg

    pictures = {}
    can_plot = is_installed("plots")
    if not can_plot and any(member.facts.history for member in found.members):
        logger.warning(NO_CURVE)
    for number, facts in enumerate((member.facts for member in found.members), start=1):
        if facts.history and can_plot:
            lines: list[dict[str, float | None]] = [
                {"epoch": epoch, **metrics} for epoch, metrics in sorted(facts.history.items())
            ]
            name = "learning-curve.png" if len(found.members) == 1 else f"learning-curve-{number}.png"
            pictures[name] = learning_curve(lines, best_epoch=facts.epoch)
    if wish.example is not None:
        image, truth = read_as_seen(wish.example, _kind(found)), None
    elif found.study is not None and is_synthetic(found.study.data_source):
        data = found.members[0].network.config.data
        drawn = SYNTHETIC[data.synthetic](
            num_images=data.synthetic_images,
            size_px=data.synthetic_size_px,
            seed=data.synthetic_seed,
            num_test_images=1,  # of a patient that was not trained on
        )
        image, truth = drawn.read(data.synthetic_images)
        image = _kind(found).normalised(image)
    else:
        return pictures
    predictor = predictor_for(found, None)
    prediction = predictor.cut(predictor.see(image)).labels
    pictures["example.jpg"] = overlay_jpeg(image, truth, prediction)
    return pictures


def _data_facts(wish: ExportWish, found: FoundNetworks, source: "SampleSource | None") -> "DataFacts":
    from searcher.bundle.manifest import MAX_NAME, DataFacts

    classes: tuple[str, ...] = getattr(source, "classes", ())  # of folders alone
    licence = wish.data_licence or (source.licence if source is not None else "")
    return DataFacts(
        name=source.name if source is not None else "data that are not at hand",
        licence=licence or "not stated. Ask whoever trained it before you pass it on.",
        fingerprints=tuple(dict.fromkeys(member.facts.data_fingerprint for member in found.members)),
        class_name=classes[0][:MAX_NAME] if len(classes) == 1 else None,
    )


def _real_images(
    wish: ExportWish, source: "SampleSource | None", kind: "ImageKind"
) -> "Mapping[str, Pixels]":
    """Return an image that is none of noise, to compare networks on."""
    from searcher.data_pipeline.datasets import SyntheticGlands
    from searcher.prediction.images import read_as_seen

    if wish.example is not None:
        return {wish.example.name: read_as_seen(wish.example, kind)}
    if source is None and not kind.takes(3):
        return {}
    if source is None:
        source = SyntheticGlands(num_images=1, size_px=wish.onnx_size, seed=0)
    return {f"{source.samples[0].id} of {source.name}": kind.normalised(source.read(0)[0])}


def _record(wish: ExportWish, found: FoundNetworks, sha256: str) -> None:
    """Write down in the study database what its trials went into."""
    from searcher.ledger.database import Database
    from searcher.ledger.outcomes import record_exports
    from searcher.ledger.records import ExportRecord

    if found.study is None:
        return
    assert found.database is not None
    records = [
        ExportRecord(
            trial=member.facts.trial,
            epoch=member.facts.epoch,
            checkpoint_sha256=member.facts.checkpoint_sha256,
            path=str(wish.to.absolute()),
            sha256=sha256,
        )
        for member in found.members
        if member.facts.trial is not None
    ]
    with Database.open(found.database) as database:
        record_exports(database, found.study.name, records)
