"""What a person should know of the classes of a data set before they are learned, and what is refused."""

import numpy as np

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.splits import Split
from searcher.data_pipeline.store import ClassTable, Store
from searcher.data_pipeline.store.classes import alike_names
from searcher.study.config import TrialConfig
from searcher.suggestions import suggestion
from searcher.training.class_data import weights_of
from searcher.training.dataset import split_store

__all__ = ["class_remarks"]


def class_remarks(store: Store, where: str, config: TrialConfig) -> list[str]:
    """Return remarks on the classes of a data set, one line each; none if no classes are learned.

    Args:
        store: The store of the data set, with its classes.
        where: Name of the data set, for messages.
        config: The configuration of training, as far as it is known.

    Raises:
        DataError: No training object has a class, or the data set does not declare a class that objects have.
    """
    if not config.data.learn_classes:
        return []
    table, split = store.class_table, split_store(store, config.data)
    _refuse_undeclared(table, where)
    if not table.counts(split.train).any():
        raise DataError(
            f"{where}: training objects must have classes, got none in {len(split.train)} images; name them, or set "
            "data.learn_classes=false"
        )
    lines = [_counts_line(store, split, config), *alike_names(table.names), *_lacking(store, split, config)]
    return [f"{where}: {line}" for line in lines]


def _refuse_undeclared(table: ClassTable, where: str) -> None:
    if not table.undeclared:
        return
    declared, name = table.names[: table.num_declared], table.undeclared[0]
    number = table.names.index(name) + 1
    found = next(
        (index, label)
        for index, of_image in enumerate(table.of_images)
        for label, each in of_image.items()
        if each == number
    )
    num = int(table.counts(range(len(table.of_images)))[number - 1])
    more = f", and {len(table.undeclared) - 1} more" if len(table.undeclared) > 1 else ""
    raise DataError(
        f"{where}: classes must be among those of dataset.toml, {', '.join(declared)}, got {name!r}{more} for {num} "
        f"objects (label {found[1]} of image {found[0] + 1}); correct objects.csv, or add the class to dataset.toml"
        f"; {suggestion(name, declared)}"
    )


def _counts_line(store: Store, split: Split, config: TrialConfig) -> str:
    table, data = store.class_table, config.data
    train, val = table.counts(split.train), table.counts(split.val)
    each = ", ".join(
        f"{name} {here} + {there}" for name, here, there in zip(table.names, train, val, strict=True)
    )
    weights = weights_of(train, data.class_weighting)
    shown = ", ".join(f"{weight:.2g}" for weight in weights) if weights else "all alike"
    balance = f"{data.class_balance:.0%} of the crops are taken around an object, each class equally often"
    return f"{len(table.names)} classes (training + validation objects): {each}; class weights {shown}; " + (
        balance if data.class_balance else "crops are not balanced by class"
    )


def _lacking(store: Store, split: Split, config: TrialConfig) -> list[str]:
    """Return a line for each class that training or validation never has; of several folds, for each of them."""
    table = store.class_table
    whole = table.counts(range(len(store)))
    lines = [
        f"no object has the class {name!r}; annotate some, or remove it from dataset.toml"
        for name, num in zip(table.names, whole, strict=True)
        if not num
    ]
    known = np.count_nonzero(whole)
    if known == 1:
        lines.append("objects have one class, so there is nothing to tell apart")
    splits = _splits(store, config, split)
    for name, number in zip(table.names, range(len(table.names)), strict=True):
        if not whole[number]:
            continue
        for what, consequence in (
            ("training", "is never predicted"),
            ("validation", "is not measured"),
        ):
            without = [
                fold
                for fold, each in splits.items()
                if not table.counts(each.train if what == "training" else each.val)[number]
            ]
            if without:
                folds = f" of fold {', '.join(map(str, without))}" if config.data.folds else ""
                lines.append(
                    f"no {what} image{folds} has an object of the class {name!r}, which {consequence} then; choose "
                    "another split (data.split_seed, data.val_fraction), or annotate more"
                )
    return lines


def _splits(store: Store, config: TrialConfig, split: Split) -> dict[int, Split]:
    if not config.data.folds:
        return {0: split}
    return {
        fold: split_store(store, config.data.model_copy(update={"fold": fold}))
        for fold in range(config.data.folds)
    }
