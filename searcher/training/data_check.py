"""What is wrong or odd about a data set, found before anything is trained on it."""

from collections.abc import Sequence

import numpy as np

from searcher.data_pipeline.annotations import annotation_facts, problem_of
from searcher.data_pipeline.datasets.synthetic import SYNTHETIC
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.store import Store
from searcher.data_pipeline.unannotated import unannotated_remark
from searcher.study.config import TrialConfig
from searcher.training.class_check import class_remarks
from searcher.training.data_defaults import fitted_sizes
from searcher.training.dataset import SAME_SCALE, DataRequest, split_store
from searcher.training.object_sizes import size_remarks, taken_sizes
from searcher.training.pixels import pixels_of

__all__ = ["check_annotations", "check_data", "patients_remark", "pixel_sizes_remark", "reading_remarks"]

_SHOWN = 5


def check_data(store: Store, request: DataRequest, config: TrialConfig) -> list[str]:
    """Return remarks about a data set that the user should know before training, one line each.

    Args:
        store: The store of the data set.
        request: The data set as the user named it.
        config: Configuration of the trials, as far as it is known.

    Raises:
        DataError: The label maps are something else, no training or no validation image holds an object, or the data
            set cannot be split.
    """
    where = request.folder or SYNTHETIC[request.synthetic.synthetic].name
    split = split_store(store, config.data)
    remarks = reading_remarks(store)
    remarks += check_annotations(store, request, sorted([*split.train, *split.val]))
    facts = annotation_facts(store)
    for name, indices in (("training", split.train), ("validation", split.val)):
        if not any(facts[index].num_labels for index in indices):
            raise DataError(
                f"{where}: {name} images must hold objects, got no object in any of {len(indices)}; "
                "check how the label maps were written, or the split"
            )
    remarks += class_remarks(store, where, config)
    found = [
        patients_remark(store, split.train + split.val),
        pixel_sizes_remark(store, split.train + split.val),
    ]
    if request.view.val_region:
        remarks.append(
            f"{where}: validation is on a part of the training images themselves (--val-region "
            f"{request.view.val_region}), so its figures say nothing about other patients"
        )
    if remark := _partial_remark(store, where, split.train + split.val):
        remarks.append(remark)
    remarks += [f"{where}: {line}" for line in (*found, *pixels_of(config, store).remarks(config)) if line]
    trained = [facts[index] for index in split.train]
    fitted = fitted_sizes(config, trained)
    return remarks + taken_sizes(config, fitted, trained) + size_remarks(fitted, trained)


def _partial_remark(store: Store, where: str, indices: Sequence[int]) -> str | None:
    """Return a line if some images are annotated in part; None if none is."""
    maps = (store.labels(index) for index in indices)
    return unannotated_remark(
        where, [float((each >= 0).mean()) if each.dtype.kind == "i" else 1.0 for each in maps]
    )


def reading_remarks(store: Store) -> list[str]:
    """Return the decisions that were made where the data set's files are ambiguous, one line each.

    If there are many, the last line says how many are left out.
    """
    more = len(store.remarks) - _SHOWN
    rest = [f"and {more} remarks more on the files; searcher data inspect shows them all"] if more > 0 else []
    return [*store.remarks[:_SHOWN], *rest]


def check_annotations(store: Store, request: DataRequest, indices: Sequence[int]) -> list[str]:
    """Return doubts about the label maps of some images, one line each; none if the user said what they hold.

    Args:
        store: The store of the data set.
        request: The data set as the user named it.
        indices: Indices of the images, which are judged together.

    Raises:
        DataError: The evidence is clear that the files are no label maps.
    """
    if request.folder is None or request.view.labels_are:
        return []
    facts = annotation_facts(store)
    found = problem_of(request.folder, [store.samples[i].id for i in indices], [facts[i] for i in indices])
    if found is None:
        return []
    line, verdict = found
    if verdict.is_sure:
        raise DataError(line)
    return [line]


def patients_remark(store: Store, indices: Sequence[int]) -> str | None:
    """Return a line if the data set does not name the images' patients; None if it does."""
    samples = [store.samples[index] for index in indices]
    if any(sample.group != sample.id for sample in samples):
        return None
    return (
        f"patients are unknown, so each of {len(samples)} images counts as its own and validation may share patients "
        "with training; name them in samples.csv (id, patient) or Grade.csv, or add --patient-from"
    )


def pixel_sizes_remark(store: Store, indices: Sequence[int]) -> str | None:
    """Return a line if the images' pixel sizes differ, or only some are known; None otherwise."""
    sizes: dict[float, list[str]] = {}
    without: list[str] = []
    for index in indices:
        sample = store.samples[index]
        if sample.pixel_size_um is None:
            without.append(sample.id)
        else:
            sizes.setdefault(float(f"{sample.pixel_size_um:.3g}"), []).append(sample.id)
    if not sizes:
        return None
    parts = [f"{size:g} um in {_listed(names)}" for size, names in sorted(sizes.items())]
    if max(sizes) > SAME_SCALE * min(sizes):
        middle = float(np.median([size for size, names in sizes.items() for _ in names]))
        return (
            f"pixel sizes must not differ by more than a factor of {SAME_SCALE:g}, got {'; '.join(parts)}; one "
            f"network sees objects at several scales, and predict will not resample; add --resample-um {middle:.3g}"
        )
    if without:
        return (
            f"the pixel size is unknown of {_listed(without)} and {'; '.join(parts)}; "
            "add the column pixel_size_um to samples.csv"
        )
    return None


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} images ({', '.join(names[:_SHOWN])}{', ..' if len(names) > _SHOWN else ''})"
