"""The classes of a store's objects: a small table next to the flat files, from labels to classes.

`classes-KEY.json` has the names of the classes, and for each image the labels that have one. KEY is `own`, or 16 digits
of the digest of the file that says the classes, where the data set's fingerprint is not of it: images with other
classes then share their pixels. The table has its own digest. A store of a data set without classes has no such file.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.samples import SampleSource
from searcher.data_pipeline.exceptions import DamagedStoreError, DataError

__all__ = [
    "NO_CLASSES",
    "ClassTable",
    "class_table",
    "find_classes",
    "key_of",
    "read_classes",
    "write_classes",
]

_FORMAT = 1
_OWN = "own"
_MAX_CLASSES = 64
"""As many as a network tells apart."""
_MAX_LABEL = 1 << 24
"""Highest label of an image whose classes are learned: the table of an image has an entry for each number below."""


@dataclass(frozen=True)
class ClassTable:
    """The class of each object of a data set. Classes are numbered from 1; 0 means no class, or background."""

    names: tuple[str, ...]
    """Names of the classes in the order of their numbers: as the data set declares them, then others, sorted."""
    num_declared: int
    """How many of them the data set declares, as `dataset.toml` may; 0: it declares none."""
    of_images: tuple[dict[int, int], ...]
    """Class by label, of the objects that have one, for each image."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the table's content, 64 hexadecimal digits; empty for a table without classes."""
        if not self.names:
            return ""
        return hashlib.sha256(json.dumps(_plain(self), sort_keys=True).encode()).hexdigest()

    @property
    def undeclared(self) -> tuple[str, ...]:
        """Names of the classes that the data set does not declare; empty if it declares none at all."""
        return self.names[self.num_declared :] if self.num_declared else ()

    def counts(self, indices: Iterable[int]) -> NDArray[np.int64]:
        """Return the number of objects of each class in some images: int64[K], class 1 first.

        Args:
            indices: Indices of the images.
        """
        found = np.zeros(len(self.names), np.int64)
        for index in indices if self.names else ():
            for number in self.of_images[index].values():
                found[number - 1] += 1
        return found

    def of_labels(self, index: int, max_label: int) -> NDArray[np.int32]:
        """Return the class of each label of an image: int32[max_label + 1], 0 for a label without a class.

        Args:
            index: Index of the image.
            max_label: Highest label of the table, at least the highest one that has a class.

        Raises:
            DataError: `max_label` is above 2**24.
        """
        if max_label > _MAX_LABEL:
            raise DataError(
                f"data.learn_classes: label maps must have labels up to {_MAX_LABEL}, got {max_label}; number the "
                "objects of each image from 1"
            )
        classes = np.zeros(max_label + 1, np.int32)
        for label, number in self.of_images[index].items():
            classes[label] = number
        return classes

    def in_order_of(self, names: Sequence[str]) -> "ClassTable":
        """Return this table with classes renumbered in the order of other names, such as those of a network.

        Objects whose class is not among these names get no class; see `unknown_to`.

        Args:
            names: Names of the classes in the new order.
        """
        numbers = {name: number for number, name in enumerate(names, start=1)}
        new = {old: numbers.get(name, 0) for old, name in enumerate(self.names, start=1)}
        of_images = tuple(
            {label: new[old] for label, old in of_image.items() if new[old]} for of_image in self.of_images
        )
        return ClassTable(tuple(names), len(names), of_images)

    def unknown_to(self, names: Sequence[str]) -> dict[str, int]:
        """Return the number of objects of each class that is not among some names, by the name of the class.

        Args:
            names: The names.
        """
        counts = self.counts(range(len(self.of_images)))
        return {
            name: int(count)
            for name, count in zip(self.names, counts, strict=True)
            if count and name not in names
        }


NO_CLASSES = ClassTable((), 0, ())
"""The table of a data set without classes."""


def class_table(source: SampleSource, names: Sequence[Mapping[int, str]]) -> ClassTable:
    """Return the class table of a data set.

    Args:
        source: The data set, which may declare its classes.
        names: For each image, the names of the objects' classes by label, for objects that have a class.

    Raises:
        DataError: There are more than 64 classes.
    """
    found = {name for of_image in names for name in of_image.values()}
    if not found:
        return NO_CLASSES
    declared = tuple(dict.fromkeys(getattr(source, "declared_classes", ())))
    ordered = (*declared, *sorted(found - set(declared)))
    if len(ordered) > _MAX_CLASSES:
        raise DataError(
            f"{source.name}: must have at most {_MAX_CLASSES} classes, got {len(ordered)}; check what is taken for one"
        )
    numbers = {name: number for number, name in enumerate(ordered, start=1)}
    of_images = tuple(
        {int(label): numbers[name] for label, name in sorted(of_image.items())} for of_image in names
    )
    return ClassTable(ordered, len(declared), of_images)


def key_of(source: SampleSource) -> str:
    """Return the key of a data set's class table: it differs between tables of data sets with the same fingerprint.

    Args:
        source: The data set.
    """
    fingerprint = getattr(source, "class_fingerprint", None)
    return str(fingerprint())[:16] if fingerprint is not None else _OWN


def write_classes(folder: Path, key: str, table: ClassTable) -> None:
    """Write a class table into a store's folder, as one atomic step.

    Args:
        folder: Folder of the store.
        key: Key of the table; see `key_of`.
        table: The table.

    Raises:
        OSError: The file cannot be written.
    """
    path = _path(folder, key)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with partial.open("w") as file:
            json.dump(_plain(table) | {"digest": table.digest}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_classes(folder: Path, key: str) -> ClassTable | None:
    """Return a store's class table with a given key, None if it has none.

    Args:
        folder: Folder of the store.
        key: Key of the table; see `key_of`.

    Raises:
        DamagedStoreError: The file is damaged: its content does not match its digest.
    """
    path = _path(folder, key)
    return _read(path) if path.exists() else None


def find_classes(folder: Path, digest: str) -> ClassTable | None:
    """Return a store's class table with a given digest, None if it has none.

    Args:
        folder: Folder of the store.
        digest: Digest of the table; see `ClassTable.digest`.

    Raises:
        DamagedStoreError: The file of a table is damaged: its content does not match its digest.
    """
    tables = (_read(path) for path in sorted(folder.glob(_path(folder, "*").name)))
    return next((table for table in tables if table.digest == digest), None)


def alike_names(names: Sequence[str]) -> list[str]:
    """Return a warning for each group of class names that differ only in case, spaces, underscores or hyphens.

    Args:
        names: The names.
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault("".join(name.casefold().replace("_", " ").replace("-", " ").split()), []).append(
            name
        )
    return [
        f"the classes {' and '.join(map(repr, each))} differ in case or spaces alone and are learned as "
        f"{len(each)}; give them one name if they are one"
        for each in alike.values()
        if len(each) > 1
    ]


def _path(folder: Path, key: str) -> Path:
    return folder / f"classes-{key}.json"


def _read(path: Path) -> ClassTable:
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
        of_images = tuple(dict(zip(labels, numbers, strict=True)) for labels, numbers in values["images"])
        table = ClassTable(tuple(values["names"]), values["num_declared"], of_images)
        is_whole = values["format"] == _FORMAT and values["digest"] == table.digest
    except (OSError, ValueError, KeyError, TypeError):
        is_whole = False
    if not is_whole:
        raise DamagedStoreError(
            f"{path}: the classes must match their own digest, got a damaged file; remove it, it is made again"
        )
    return table


def _plain(table: ClassTable) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "names": list(table.names),
        "num_declared": table.num_declared,
        "images": [[list(each.keys()), list(each.values())] for each in table.of_images],
    }
