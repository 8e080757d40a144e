"""A first study for a data set, planned from its images: shown, written, or launched at once."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import ValidationError

from searcher.api.places import storage_folder
from searcher.api.writing import write_text
from searcher.data_pipeline.datasets.view import DataView
from searcher.data_pipeline.store import Store, prepare_store
from searcher.exceptions import UserError
from searcher.extras import is_installed
from searcher.planning.facts import data_facts
from searcher.planning.finetune import plan_finetuning
from searcher.planning.plan import Plan, plan_study
from searcher.storage.mirror import cache_dir, storage_at
from searcher.study.config import DataConfig
from searcher.study.reader import parse_study
from searcher.study.spec import StudySection
from searcher.training.data_check import check_annotations, reading_remarks
from searcher.training.dataset import DataRequest, trained_on

__all__ = ["plan_data", "planned_file"]

Preparing = Callable[[], AbstractContextManager[Callable[[int, int], None]]]
"""Enters the decoding of images; gives what is called with (done, total)."""


def plan_data(
    folder: str, view: DataView, preparing: Preparing, *, name: str | None = None, bundle: Path | None = None
) -> Plan:
    """Return a plan of a first study for a data set.

    Args:
        folder: The data set's folder, or its URI in an object store.
        view: How to read the data set.
        preparing: Shows the progress of decoding the images.
        name: Name of the study; None to derive one from the folder's name.
        bundle: Folder of a bundle whose network is fine-tuned; None to train a new network.

    Raises:
        DataError: The data set cannot be used.
        UserError: The data set cannot be split, `name` is no valid name of a study, or there is no such bundle.
    """
    name = _study_name(name, folder)
    request = DataRequest(folder, str(cache_dir()), DataConfig(), view)
    with preparing() as advance:
        store = prepare_store(request.source(advance), cache_dir(), progress=advance, with_classes=True)
    if bundle is not None:
        plan = _finetuning(store, folder, name, bundle)
        parse_study(plan.text, source=f"{name}.toml")
        return plan
    plan = plan_study(
        data_facts(store, folder),
        name=name,
        where=folder,
        has_imagenet=is_installed("pretrained"),
        num_cpus=os.cpu_count() or 1,
        remarks=[*reading_remarks(store), *check_annotations(store, request, trained_on(store))],
    )
    for text in (plan.text, plan.folds_text):
        if text is not None:
            parse_study(text, source=f"{name}.toml")
    return plan


def _finetuning(store: Store, folder: str, name: str, bundle: Path) -> Plan:
    from searcher.bundle.load import load_bundle  # imports torch, seconds

    network = load_bundle(bundle).networks[0]
    if store.channels and len(store.channels) != network.config.model.channels:
        raise UserError(
            f"--from {bundle}: must be of images with {len(store.channels)} channels as those of {folder}, got "
            f"{network.config.model.channels}; plan a new network without --from"
        )
    return plan_finetuning(
        data_facts(store, folder),
        network.config,
        name=name,
        where=folder,
        bundle=bundle,
        num_cpus=os.cpu_count() or 1,
    )


def planned_file(
    folder: str | None, view: DataView, storage: str, preparing: Preparing, remark: Callable[[str], None]
) -> Path:
    """Return the study file for a launch without a named study; it is planned and written at the first launch.

    Later launches use the same file, with any changes that the user made.

    Args:
        folder: Folder of the data set, or its URI in an object store; None if the user named none.
        view: How to read the data set.
        storage: Folder for the study file.
        preparing: Shows the progress of decoding the images.
        remark: Receives each remark for the user, one line.

    Raises:
        DataError: The data set cannot be used.
        UserError: No data set was named, it cannot be split, or the file cannot be written.
    """
    if folder is None:
        raise UserError(
            "--study: must name a study, or --data the images to plan one for, got neither; "
            "for a first look take the study unet-demo"
        )
    if storage_at(storage).is_remote:
        raise UserError(
            f"--storage {storage}: must be a folder where no --study is named, got an object store; "
            "write a study file by searcher plan, and name that"
        )
    storage_root = storage_folder(storage)
    file = storage_root / f"{_study_name(None, folder)}.toml"
    if file.is_file():
        remark(f"going on with the study planned before, {file}")
        return file
    plan = plan_data(folder, view, preparing)
    try:
        storage_root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--storage {storage_root}: cannot be made: {error.strerror or error}") from None
    if plan.folds_text is not None:
        write_text("--storage", file.with_name(f"{plan.name}-folds.toml"), plan.folds_text)
    write_text("--storage", file, plan.text)
    for line in plan.remarks:
        remark(line)
    remark(f"planned a study for {folder}, with its reasons in {file}")
    return file


def _study_name(given: str | None, folder: str) -> str:
    """Return the study's name: what is given, or what is left of the folder's name."""
    if given is not None:
        try:
            return StudySection(name=given).name
        except ValidationError:
            raise UserError(
                f"--name: must be lower-case letters, digits, '.', '_' and '-', up to 94, got {given!r}"
            ) from None
    stem = Path(folder).name.lower()
    kept = "".join(each if each.isascii() and each.isalnum() else "-" for each in stem).strip("-")
    return f"plan-{kept[:80]}" if kept else "plan"
