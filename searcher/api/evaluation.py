"""The official metrics of trained networks on the splits of a data set."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from searcher.api.evaluation_page import is_glas_release, split_report, write_report
from searcher.api.held_out import HELD_OUT, held_out, predictor_of_some
from searcher.api.networks import FoundNetworks, normalise_as_wished, predictor_for
from searcher.data_pipeline.annotations import annotation_facts, problem_of
from searcher.data_pipeline.datasets import SampleSource
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import same_name
from searcher.data_pipeline.normalisation import Normalisation, levels_of
from searcher.data_pipeline.store import Store, normalised, prepare_store
from searcher.evaluation.glas.measured_sets import EVALUATION_SCHEMA
from searcher.evaluation.summary import Summary, summarise
from searcher.exceptions import UserError
from searcher.inference.image_kind import ImageKind
from searcher.inference.measuring import measure_images, see_all
from searcher.ledger.database import Database
from searcher.ledger.outcomes import record_evaluations
from searcher.report.model import SplitReport
from searcher.storage.mirror import cache_dir
from searcher.training.data_check import reading_remarks
from searcher.training.dataset import VALIDATION

__all__ = ["Evaluation", "evaluate_networks", "record_evaluation"]

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Enters a step of the work by its title; gives what is called with (done, total)."""


@dataclass(frozen=True)
class Evaluation:
    """The metrics that networks reached on the splits of a data set."""

    splits: Mapping[str, Summary]
    """All figures by split, such as `testA`; distances in pixels."""
    record: Mapping[str, Any]
    """All of it as plain values, as `searcher evaluate --json` writes them."""
    is_glas: bool = False
    """Whether the data are the GlaS release, which the contest's and the poster's figures are about."""

    def to_dict(self) -> dict[str, Any]:
        """Return the record of the evaluation as plain values, ready for JSON."""
        return dict(self.record)

    def __repr__(self) -> str:
        figures = "; ".join(
            f"{split}: " + ", ".join(f"{name} {value:.4f}" for name, value in summary.pooled.items())
            for split, summary in self.splits.items()
        )
        return f"Evaluation({figures})"


def evaluate_networks(
    found: FoundNetworks,
    source: SampleSource,
    folder: str,
    *,
    splits: str | None,
    tta: bool | None,
    normalisation: str,
    labels_are_said: bool,
    name: str | None,
    report: Path | None,
    command: str,
    bar: Bar,
    remark: Callable[[str], None],
) -> Evaluation:
    """Return the metrics of networks on the splits of a data set.

    Args:
        found: The networks.
        source: The opened data set.
        folder: Folder or URI of the data set, for messages.
        splits: Names of splits, separated by commas; `held-out` for the images that the networks were validated on.
            None for testA; without that, all splits except train and val; without those, `held-out`.
        tta: Whether to average 8 turned and mirrored views; None to do as the networks were tuned.
        normalisation: `bundle`, `fixed` or `percentile`.
        labels_are_said: Whether the user has said what the label maps hold. Then they are not judged by their values.
        name: Name of the networks in the record; None for their own.
        report: File for the report page; None for no page.
        command: Command line that the user typed, for the page.
        bar: Shows the progress of each step.
        remark: Receives each remark about the data, one line.

    Raises:
        UserError: The networks do not fit the images, or there is no such split.
        DataError: The images cannot be used.
    """
    predictor = predictor_for(found, tta)
    normalise_as_wished(predictor, normalisation, [member.facts.config for member in found.members])
    _check_channels(source, folder, predictor.kind)
    learned = found.members[0].network.config.model.class_names
    with bar("preparing images") as advance:
        store = prepare_store(source, cache_dir(), progress=advance, with_classes=bool(learned))
    for line in reading_remarks(store):
        remark(line)
    if learned:
        store = _in_order_of(learned, store, remark)
    wanted = _splits(found, store, splits, folder, remark)
    images = {split: [i for group in groups.values() for i in group] for split, groups in wanted.items()}
    if not labels_are_said:
        _check_annotations(store, folder, images, remark)
    _say_brightened(store, predictor.kind.normalisation, images, remark)
    store = normalised(store, predictor.kind.normalisation)
    measured: dict[str, Summary] = {}
    pages: list[SplitReport] = []
    for split, groups in wanted.items():
        seen, results = [], []
        for numbers, indices in groups.items():
            are_all = len(numbers) in (0, len(found.members))
            some = predictor if are_all else predictor_of_some(found, numbers, predictor)
            with bar(f"predicting {split}") as advance:
                seen_by_some = see_all(some, store, indices, advance)
            seen += seen_by_some
            results += measure_images(some, seen_by_some)
        if is_glas_release(source):  # whose published intervals are over images
            results = [replace(each, patient="") for each in results]
        measured[split] = summarise(results, class_names=learned)
        if report is not None:
            indices = [index for group in groups.values() for index in group]
            pages.append(split_report(split, measured[split], predictor, store, indices, seen))
    record = {
        "schema": EVALUATION_SCHEMA,
        "name": name or found.name,
        "data": {"folder": folder, "fingerprint": store.fingerprint},
        "paths": [str(path) for path in found.paths],
        "members": [member.facts.model_dump(mode="json") for member in found.members],
        "postprocess": predictor.postprocess.model_dump(),
        "tta": predictor.tta,
        "normalisation": str(predictor.kind.normalisation),
        "splits": {split: summary.to_dict() for split, summary in measured.items()},
    }
    if report is not None:
        write_report(
            report,
            name or found.name,
            command,
            found,
            predictor,
            pages,
            source=source,
            fingerprint=store.fingerprint,
        )
    return Evaluation(measured, record, is_glas_release(source))


def record_evaluation(found: FoundNetworks, evaluation: Evaluation) -> None:
    """Write the metrics of an evaluation into the study database, if the networks come from a study."""
    if found.study is None:
        return
    assert found.database is not None
    keys = ("num_images", "pooled", "mean", "intervals", "poster", "classes")
    with Database.open(found.database) as database:
        record_evaluations(
            database,
            found.study.name,
            found.trials,
            data_source=evaluation.record["data"]["folder"],
            data_fingerprint=evaluation.record["data"]["fingerprint"],
            splits={
                split: {key: of[key] for key in keys if key != "classes" or key in of}
                for split, of in evaluation.record["splits"].items()
            },
        )


def _in_order_of(names: Sequence[str], store: Store, remark: Callable[[str], None]) -> Store:
    """Return the store with the numbers that the networks give to its classes, and say which they do not know."""
    if not store.class_names:
        remark("the data set names no classes of objects, so only where objects are is measured")
        return store
    table = store.class_table
    for name, num in table.unknown_to(names).items():
        remark(
            f"class {name!r}: must be one of those that the networks learned, {', '.join(names)}, to be measured; its "
            f"{num} objects count for where objects are alone; rename it if it is one of them"
        )
    return store.with_classes(table.in_order_of(names))


def _check_channels(source: SampleSource, folder: str, kind: ImageKind) -> None:
    """Refuse a data set whose images are none that the networks take.

    Raises:
        UserError: They have other channels, or another depth.
    """
    num = len(source.channels)
    if not kind.takes(num):
        raise UserError(
            f"--data {folder}: images must have {kind.channels} channels, as those that the networks were trained "
            f"on, got {num} ({', '.join(source.channels)}); save those channels alone, or take other networks"
        )
    if source.dtype != "uint8" and kind.dtype == "uint8" and kind.normalisation.kind == "fixed":
        raise UserError(
            f"--data {folder}: images must have 8 bit, as those that the networks were trained on, got 16 bit; "
            "convert them as those were, or see --normalisation percentile"
        )


def _check_annotations(
    store: Store, folder: str, splits: dict[str, list[int]], remark: Callable[[str], None]
) -> None:
    """Refuse annotations that are no label maps; say what is odd about single ones, as GlaS's test B has them.

    Raises:
        DataError: A whole split holds something else than label maps.
    """
    facts = annotation_facts(store)
    for name, indices in splits.items():
        found = problem_of(
            f"--data {folder}, split {name}",
            [store.samples[i].id for i in indices],
            [facts[i] for i in indices],
        )
        if found is not None and found[1].is_sure and found[1].is_of_all:
            raise DataError(found[0])
        if found is not None:
            remark(found[0])
        if not any(facts[index].num_labels for index in indices):
            remark(f"split {name}: no image holds an object, so its figures say little")


def _say_brightened(
    store: Store, normalisation: Normalisation, splits: dict[str, list[int]], remark: Callable[[str], None]
) -> None:
    if not normalisation.brightens_dark or store.dtype != "uint8":
        return
    indices = [index for each in splits.values() for index in each]
    num_dark = sum(not levels_of(store.image(index), normalisation).changes_nothing for index in indices)
    if num_dark:
        remark(
            f"{num_dark} of {len(indices)} images are dark, 99.8% of the pixels below 64 of 255; brightened, since the "
            "network is from before images were normalised; --normalisation fixed takes them as they are"
        )


def _splits(
    found: FoundNetworks, store: Store, wanted: str | None, folder: str, remark: Callable[[str], None]
) -> dict[str, dict[tuple[int, ...], list[int]]]:
    """Return the images of each split by the networks that see them, () for all.

    Raises:
        UserError: The data set has no image of a split.
    """
    there = {same_name(sample.split): sample.split for sample in store.samples}
    if wanted is None:
        others = [name for name in there.values() if name not in ("train", *VALIDATION)]
        wanted = "testA" if "testA" in there else ",".join(others) or HELD_OUT
    splits: dict[str, dict[tuple[int, ...], list[int]]] = {}
    for name in dict.fromkeys(same_name(part.strip()) for part in wanted.split(",")):
        split = there.get(name, name)
        if name in there:
            splits[split] = {(): store.indices(split)}
        elif name == HELD_OUT:
            splits[HELD_OUT] = held_out(found.members, store, folder)
            remark(_of_held_out(splits[HELD_OUT], len(found.members)))
        else:
            raise UserError(
                f"--splits {wanted}: must be splits of the data set, got {name or 'an empty name'}; it has "
                f"{', '.join(there.values())}, and {HELD_OUT} measures on the images that trials were validated on"
            )
    return splits


def _of_held_out(groups: dict[tuple[int, ...], list[int]], num_networks: int) -> str:
    num_images = sum(map(len, groups.values()))
    seen_by = "the network" if num_networks == 1 else f"those of the {num_networks} networks"
    return (
        f"split {HELD_OUT}: {num_images} images, each seen by {seen_by} that did not train on it; epoch and settings "
        "were chosen on these images, so the figures are too good; keep a test split apart for figures to publish: "
        "column split of samples.csv, a folder test, or names that begin with testA_"
    )
