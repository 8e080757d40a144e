"""`searcher export`: trained networks as a bundle, which needs neither database nor cluster nor training data."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.cli.members import Found, add_members, find_members, models_for, predictor_for
from searcher.cli.options import Verbs, add_view, open_source, positive_float, positive_int
from searcher.study.objectives import TUNING_TARGETS

if TYPE_CHECKING:
    from searcher.bundle.manifest import DataFacts, OnnxFacts
    from searcher.data_pipeline.datasets import SampleSource
    from searcher.data_pipeline.datasets.base import Pixels
    from searcher.inference.image_kind import ImageKind
    from searcher.models.base import SegmentationModel

__all__ = ["add_parser"]

_ONNX_SIZE_PX = 512

_SAME_PIXEL_SIZE = 1.02
"""Largest ratio of the pixel sizes that the networks of one bundle were trained at."""


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "export", help="write the winner as a bundle to evaluate, share and use anywhere"
    )
    add_members(parser, bundles=False)
    parser.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="the bundle's folder, which must be new"
    )
    parser.add_argument("--force", action="store_true", help="replace a bundle that is there")
    parser.add_argument("--name", metavar="NAME", help="what to call it in tables; default: study and trial")
    parser.add_argument(
        "--onnx", action="store_true", help="add the network (U-Net) for ONNX Runtime, compared with PyTorch"
    )
    parser.add_argument(
        "--onnx-size",
        type=positive_int,
        default=_ONNX_SIZE_PX,
        metavar="PX",
        help=f"side of the images that the ONNX network takes; default {_ONNX_SIZE_PX}",
    )
    parser.add_argument(
        "--example",
        type=Path,
        metavar="IMAGE",
        help="put this image with its outlined objects on the model card; mind its licence",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="where the training data are now, to state what they are; default: as the study says",
    )
    parser.add_argument(
        "--tune",
        nargs="?",
        const="objective",
        choices=("objective", *TUNING_TARGETS),
        metavar="METRIC",
        help="tune post-processing anew for the networks together, each asked about the images it was validated on: "
        f"for what they were tuned for, or one of {', '.join(TUNING_TARGETS)}; needs the training data",
    )
    add_view(parser)
    parser.add_argument(
        "--data-licence", metavar="TEXT", help="licence of the training data; default: if known"
    )
    parser.add_argument(
        "--pixel-size-um",
        type=positive_float,
        metavar="X",
        help="side of a pixel of the training images in micrometres; default: if known",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    import torch

    from searcher.bundle.onnx import check_exportable
    from searcher.bundle.write import check_target, write_bundle
    from searcher.cli.terminal import console

    check_target(args.to, force=args.force)
    found = find_members(args)
    name = _name(args, found)
    source = _source(args, found)
    if args.tune:
        found = _tuned_together(args.tune, found, source)
    models = models_for(found, torch.device("cpu"))
    onnx = None
    if args.onnx:
        check_exportable(models)
        onnx = _exporter(
            models, args.onnx_size, _kind(found).channels, _real_images(args, source, _kind(found))
        )
    pictures = _pictures(args, found)
    manifest, sha256 = write_bundle(
        args.to,
        name,
        found.members,
        models,
        data=_data_facts(args, found, source),
        pixel_size_um=args.pixel_size_um or _pixel_size(found, source),
        pictures=pictures,
        onnx=onnx,
        force=args.force,
    )
    _record(args, found, sha256)
    networks = "1 network" if len(found.members) == 1 else f"{len(found.members)} networks, averaged"
    num_bytes = sum(facts.num_bytes for facts in manifest.files.values())
    console.print(
        f"{args.to}: {manifest.name}, {networks}, {num_bytes / 1e6:.1f} MB in {len(manifest.files) + 1} files",
        markup=False,
        soft_wrap=True,
    )
    if manifest.onnx is not None:
        console.print(
            f"{manifest.onnx.file}: differs from PyTorch by at most {manifest.onnx.max_difference:.1e} on "
            f"{', '.join(manifest.onnx.compared_on)}",
            markup=False,
        )
    console.print(f"  searcher predict {args.to} IMAGE… --to DIR", markup=False, soft_wrap=True)
    return 0


def _kind(found: Found) -> "ImageKind":
    """Return what images the networks take; that all take the same is looked at when the bundle is written."""
    return found.members[0].network.kind


def _pixel_size(found: Found, source: "SampleSource | None") -> float | None:
    """Return the pixel size that the networks were trained at, if they agree on it; else what the data set says."""
    sizes = {member.pixel_size_um for member in found.members}
    known = [size for size in sizes if size is not None]
    if known and None not in sizes:
        return known[0] if max(known) <= min(known) * _SAME_PIXEL_SIZE else None
    return source.pixel_size_um if source is not None else None


def _name(args: argparse.Namespace, found: Found) -> str:
    from searcher.bundle.manifest import MAX_NAME
    from searcher.exceptions import UserError

    name: str = args.name or found.name
    if len(name) > MAX_NAME:
        raise UserError(
            f"--name: must have at most {MAX_NAME} characters, got {len(name)}; give a shorter one"
        )
    return name


def _source(args: argparse.Namespace, found: Found) -> "SampleSource | None":
    """Return the data set that the networks were trained on, None if it is not to be had.

    Raises:
        DataError: `--data` names no data set.
        UserError: It names another one.
    """
    from searcher.data_pipeline.datasets import SyntheticGlands
    from searcher.data_pipeline.exceptions import DataError
    from searcher.exceptions import StorageError, UserError
    from searcher.storage.data import open_data
    from searcher.storage.mirror import cache_dir
    from searcher.training.dataset import DataRequest

    if args.data is not None:
        source: SampleSource = open_source(args)
        if not _is_what_was_trained_on(source, found):
            raise UserError(
                f"--data {args.data}: must be what the networks were trained on, got other images; leave it out, or "
                "give that folder"
            )
        return source
    if found.study is None:
        return None
    if found.study.data_source == SyntheticGlands.name:
        return DataRequest(None, "", found.members[0].network.config.data).source()
    try:
        source = open_data(found.study.data_source, cache_dir())
        return source if _is_what_was_trained_on(source, found) else None
    except (DataError, StorageError):  # moved or changed since then: the bundle says what is known without it
        return None


def _is_what_was_trained_on(source: "SampleSource", found: Found) -> bool:
    return {source.fingerprint()} == {member.facts.data_fingerprint for member in found.members}


def _tuned_together(metric: str, found: Found, source: "SampleSource | None") -> Found:
    """Return the networks with post-processing that was tuned for all of them on all their validation images.

    Raises:
        UserError: There are no training data, or the networks cannot be averaged.
    """
    from searcher.cli.terminal import console, progress_bar, tuning_text
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
    with progress_bar("preparing images") as advance:
        store = prepare_store(source, cache_dir(), progress=advance)
    store = normalised(store, networks[0].kind.normalisation)
    config = networks[0].config
    objective = Objective(found.members[0].facts.objective)
    tuned = tune_together(
        [(network.config, model) for network, model in zip(networks, models, strict=True)],
        tuning_target(config.tuning.metric if metric == "objective" else metric, objective),
        store,
        device=device,
        tta=config.tuning.tta,
    )
    console.print(tuning_text(tuned.to_dict()), markup=False, soft_wrap=True)
    return dataclasses.replace(found, members=tuple(member.with_tuning(tuned) for member in found.members))


def _pictures(args: argparse.Namespace, found: Found) -> dict[str, bytes]:
    """Return the model card's pictures by file name: learning curves, and an image with what is found in it.

    The image is one that the command line gives or synthetic: training data often must not be passed on.
    """
    from searcher.data_pipeline.datasets import SyntheticGlands
    from searcher.prediction.images import read_as_seen
    from searcher.report.pictures import learning_curve, overlay_jpeg

    pictures = {}
    for number, facts in enumerate((member.facts for member in found.members), start=1):
        if facts.history:
            lines: list[dict[str, float | None]] = [
                {"epoch": epoch, **metrics} for epoch, metrics in sorted(facts.history.items())
            ]
            name = "learning-curve.png" if len(found.members) == 1 else f"learning-curve-{number}.png"
            pictures[name] = learning_curve(lines, best_epoch=facts.epoch)
    if args.example is not None:
        image, truth = read_as_seen(args.example, _kind(found)), None
    elif found.study is not None and found.study.data_source == SyntheticGlands.name:
        data = found.members[0].network.config.data
        glands = SyntheticGlands(
            num_images=data.synthetic_images,
            size_px=data.synthetic_size_px,
            seed=data.synthetic_seed,
            num_test_images=1,  # of a patient that was not trained on
        )
        image, truth = glands.read(data.synthetic_images)
        image = _kind(found).normalised(image)
    else:
        return pictures
    predictor = predictor_for(found, None)
    prediction = predictor.cut(predictor.see(image)).labels
    pictures["example.jpg"] = overlay_jpeg(image, truth, prediction)
    return pictures


def _data_facts(args: argparse.Namespace, found: Found, source: "SampleSource | None") -> "DataFacts":
    from searcher.bundle.manifest import DataFacts

    licence = args.data_licence or (source.licence if source is not None else "")
    return DataFacts(
        name=source.name if source is not None else "data that are not at hand",
        licence=licence or "not stated. Ask whoever trained it before you pass it on.",
        fingerprints=tuple(dict.fromkeys(member.facts.data_fingerprint for member in found.members)),
    )


def _real_images(
    args: argparse.Namespace, source: "SampleSource | None", kind: "ImageKind"
) -> "Mapping[str, Pixels]":
    """Return an image that is none of noise, to compare networks on."""
    from searcher.data_pipeline.datasets import SyntheticGlands
    from searcher.prediction.images import read_as_seen

    if args.example is not None:
        return {args.example.name: read_as_seen(args.example, kind)}
    if source is None and not kind.takes(3):
        return {}
    if source is None:
        source = SyntheticGlands(num_images=1, size_px=args.onnx_size, seed=0)
    return {f"{source.samples[0].id} of {source.name}": kind.normalised(source.read(0)[0])}


def _exporter(
    models: "list[SegmentationModel]", size_px: int, channels: int, inputs: "Mapping[str, Pixels]"
) -> "Callable[[Path], OnnxFacts]":
    from searcher.bundle.onnx import export_onnx

    return lambda path: export_onnx(models, path, size_px=size_px, channels=channels, inputs=inputs)


def _record(args: argparse.Namespace, found: Found, sha256: str) -> None:
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
            path=str(args.to.absolute()),
            sha256=sha256,
        )
        for member in found.members
        if member.facts.trial is not None
    ]
    with Database.open(found.database) as database:
        record_exports(database, found.study.name, records)
