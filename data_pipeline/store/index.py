"""A store's index: which image lies where in the flat files, and the digest of each."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from searcher.data_pipeline.datasets.samples import RGB, Sample
from searcher.data_pipeline.exceptions import DataError

__all__ = ["INDEX", "LABELS", "PIXELS", "Index", "StoreEntry", "read_index", "to_bytes"]

PIXELS, LABELS, INDEX = "pixels.bin", "labels.bin", "index.json"

_FORMAT = 2
_WITHOUT_DIGESTS = 1
"""The format before: always uint8 RGB, and no digests of the images."""
_SAMPLE_FIELDS = {field.name for field in dataclasses.fields(Sample)}


@dataclass(frozen=True)
class StoreEntry:
    """One image of a store: its sample, size, place in the flat files, and digests."""

    sample: Sample
    shape: tuple[int, int]
    """Height and width."""
    pixels_offset: int
    """Where its pixels begin in the file of pixels, in bytes."""
    labels_offset: int
    labels_dtype: str
    """Of the label map, as NumPy writes it: `<u2` or `<i4`."""
    pixels_sha256: str | None
    """Of the pixels' bytes, 64 hexadecimal digits; None in a store that was built before stores had digests."""
    labels_sha256: str | None
    """Of the label map's bytes, in the same way."""


@dataclass(frozen=True)
class Index:
    """The content of a store's index: the fingerprint, the type of the pixels, and one entry for each image."""

    fingerprint: str
    """Of the data set."""
    channels: tuple[str, ...]
    """Names of the images' channels."""
    dtype: str
    """Type of the images' values, `uint8` or `uint16`."""
    pixels_bytes: int
    """Size of the file of pixels."""
    labels_bytes: int
    """Size of the file of label maps."""
    entries: Sequence[StoreEntry]
    remarks: tuple[str, ...] = ()
    """What was decided where the data set's files leave it open, one line each."""

    @property
    def has_digests(self) -> bool:
        """Whether the index has digests of all images, with which the files can be compared."""
        return all(entry.pixels_sha256 and entry.labels_sha256 for entry in self.entries)


def to_bytes(index: Index) -> bytes:
    """Return the content of an index file, JSON with a digest of itself."""
    values = dataclasses.asdict(index) | {"format": _FORMAT}
    values = json.loads(json.dumps(values))  # tuples become lists, as they are when the file is read
    return json.dumps(values | {"digest": _digest(values)}).encode()


def read_index(path: Path) -> Index:
    """Return the index of the store in the folder `path`.

    Raises:
        DataError: The index is damaged, or its format is not supported.
        OSError: The file is missing or cannot be read.
    """
    try:
        values: dict[str, Any] = json.loads((path / INDEX).read_bytes())
        digest = values.pop("digest")
    except (ValueError, KeyError, AttributeError, TypeError):
        values, digest = {}, ""
    if digest != _digest(values):
        raise DataError(
            f"{path / INDEX}: the index must match its own digest, got a damaged file; "
            f"remove {path} and prepare the data set again"
        )
    if values["format"] == _WITHOUT_DIGESTS:
        return _of_format_1(values)
    if values["format"] != _FORMAT:
        raise DataError(
            f"{path / INDEX}: the store must have format {_FORMAT}, got {values['format']}; "
            f"remove {path} and prepare the data set again"
        )
    entries = tuple(
        StoreEntry(**{**entry, "sample": _sample(entry["sample"]), "shape": tuple(entry["shape"])})
        for entry in values["entries"]
    )
    return Index(
        fingerprint=values["fingerprint"],
        channels=tuple(values["channels"]),
        dtype=values["dtype"],
        pixels_bytes=values["pixels_bytes"],
        labels_bytes=values["labels_bytes"],
        entries=entries,
        remarks=tuple(values.get("remarks", ())),
    )


def _of_format_1(values: dict[str, Any]) -> Index:
    entries = tuple(
        StoreEntry(
            sample=_sample(entry),
            shape=tuple(entry["shape"]),
            pixels_offset=entry["pixels_offset"],
            labels_offset=entry["labels_offset"],
            labels_dtype=entry["labels_dtype"],
            pixels_sha256=None,
            labels_sha256=None,
        )
        for entry in values["samples"]
    )
    return Index(
        fingerprint=values["fingerprint"],
        channels=RGB,
        dtype="uint8",
        pixels_bytes=values["pixels_bytes"],
        labels_bytes=values["labels_bytes"],
        entries=entries,
    )


def _sample(values: dict[str, Any]) -> Sample:
    return Sample(**{name: value for name, value in values.items() if name in _SAMPLE_FIELDS})


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
