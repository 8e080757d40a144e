"""OME-Zarr: image folders `NAME.zarr` with label maps in `labels/NAME.zarr`, or in the image's own `labels/`."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.annotations.matlab import check_numbers
from searcher.data_pipeline.datasets.layouts.layout_source import Entry, LayoutSource
from searcher.data_pipeline.datasets.samples import Sample
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import PixelKind, as_data
from searcher.data_pipeline.pixel_arrays import Pixels

__all__ = ["open_ome_zarr"]

_MAX_BYTES = 2**30
_MICROMETRES = ("micrometer", "micrometre", "um", "µm")
_RUNS_CODE = ("pickle",)
"""Codecs that can run any program when a chunk is decoded."""


@dataclass(frozen=True)
class _Image:
    """The full resolution of a multiscale image."""

    path: Path
    array: zarr.Array[Any]
    axes: tuple[str, ...]
    pixel_size_um: float | None

    @property
    def kind(self) -> PixelKind | None:
        """Channels and depth of the image; None for a type of pixels that is not supported."""
        sizes = dict(zip(self.axes, self.array.shape, strict=True))
        channels = int(sizes.get("c", 1))
        if self.array.dtype == np.uint8:
            return PixelKind(3 if channels == 1 else channels)
        return PixelKind(channels, "uint16") if self.array.dtype == np.uint16 else None

    def plane(self) -> NDArray[Any]:
        """Return the image's pixels: [Y, X], or [Y, X, C] with several channels.

        Raises:
            DataError: The image has several planes or times, or chunks that cannot be decoded.
        """
        sizes = dict(zip(self.axes, self.array.shape, strict=True))
        for axis, what in (("t", "times"), ("z", "planes")):
            if sizes.get(axis, 1) != 1:
                raise DataError(
                    f"{self.path}: an image must be one plane, got {sizes[axis]} {what}; save the one to train on"
                )
        try:
            values = np.asarray(self.array[...])
        except Exception as error:  # codecs and stores raise whatever they do
            raise DataError(
                f"{self.path}: every chunk must decode, got {' '.join(str(error).split())[:80]}; copy it again"
            ) from error
        kept = [axis for axis in self.axes if axis not in "tz"]
        values = values.reshape([sizes[axis] for axis in kept])
        order = [kept.index(axis) for axis in ("y", "x", "c") if axis in kept]
        return np.ascontiguousarray(values.transpose(order))


def open_ome_zarr(root: Path, *, strict: bool) -> LayoutSource | None:
    """Return the data set in a folder of OME-Zarr images, or of one such image; None if there is none.

    Several planes and damaged chunks are noticed when a sample is read. Without `strict`, images that cannot be used
    are left out and listed in `problems`.

    Raises:
        DataError: An image has no label map or damaged metadata, or a label map has no image (`strict` only); or no
            image can be used.
    """
    images, label_maps = _find(root)
    if not images:
        return None
    entries: list[Entry] = []
    problems: list[str] = []
    sizes: set[float | None] = set()
    for path in images:
        name = _name(path)
        try:
            labels = label_maps.get(name) or _inner_labels(path)
            image = _open(path)
            _open(labels)
        except DataError as error:
            problems.extend(error.problems)
            continue
        sizes.add(image.pixel_size_um)
        pair = _Pair(path, labels)
        entries.append(Entry(Sample(name, "train", name, ""), (path, labels), pair, image.kind))
    problems += [
        f"{label_maps[name]}: every label map needs images/{name}.zarr, got none; add it or move the map"
        for name in sorted(label_maps.keys() - {_name(path) for path in images})
    ]
    common = sizes.pop() if len(sizes) == 1 else None
    return LayoutSource(root, "ome-zarr", entries, problems, strict=strict, pixel_size_um=common)


def _find(root: Path) -> tuple[list[Path], dict[str, Path]]:
    if _is_group(root):
        return [root], {}
    folders = {child.name.lower(): child for child in sorted(root.iterdir()) if child.is_dir()}
    images = _zarrs(next((folders[name] for name in ("images", "image") if name in folders), root))
    labels = next((folders[name] for name in ("labels", "masks", "label") if name in folders), None)
    return images, {_name(path): path for path in _zarrs(labels)} if labels is not None else {}


def _zarrs(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".zarr" and _is_group(path)]


def _is_group(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in (".zgroup", "zarr.json"))


def _name(path: Path) -> str:
    return path.name.removesuffix(".zarr").removesuffix(".ome")


def _inner_labels(path: Path) -> Path:
    """Return the only label map in an image."""
    folder = path / "labels"
    found = [child for child in sorted(folder.iterdir()) if _is_group(child)] if folder.is_dir() else []
    if len(found) != 1:
        names = ", ".join(child.name for child in found[:3]) or "none"
        raise DataError(f"{path}: every image needs one label map, got {names}; add labels/{path.name}")
    return found[0]


def _open(path: Path) -> _Image:
    try:
        group = zarr.open_group(path, mode="r")
        attributes: dict[str, Any] = dict(group.attrs)
        multiscale = dict(attributes.get("ome") or attributes)["multiscales"][0]
        level = multiscale["datasets"][0]
        inner = PurePosixPath(level["path"])
        if inner.is_absolute() or ".." in inner.parts:
            raise DataError(
                f"{path}: an array must lie in its image, got {str(inner)[:80]}; copy the image again"
            )
        array = group[str(inner)]
        assert isinstance(array, zarr.Array)
        axes = _axes(multiscale.get("axes"), array.ndim)
        scale = next(
            (
                step["scale"]
                for step in level.get("coordinateTransformations", [])
                if step.get("type") == "scale"
            ),
            None,
        )
        units = {
            axis.get("name"): axis.get("unit")
            for axis in multiscale.get("axes", [])
            if isinstance(axis, dict)
        }
        size = float(scale[axes.index("x")]) if scale and units.get("x") in _MICROMETRES else None
    except DataError:
        raise
    except Exception as error:  # zarr raises whatever its stores, JSON and codecs do
        raise DataError(
            f"{path}: must be an OME-Zarr image with multiscales, got {type(error).__name__} "
            f"{' '.join(str(error).split())[:80]}; copy it again"
        ) from error
    _check(path, array)
    return _Image(path, array, axes, size if size is not None and 0 < size < 1000 else None)


def _axes(found: Any, num_axes: int) -> tuple[str, ...]:
    names = [
        str(axis.get("name") if isinstance(axis, dict) else axis).lower()
        for axis in found or "tczyx"[-num_axes:]
    ]
    if len(names) != num_axes or len(set(names)) != num_axes or not {"y", "x"} <= set(names) <= set("tczyx"):
        raise ValueError(f"axes {names} for {num_axes} dimensions")
    return tuple(names)


def _check(path: Path, array: "zarr.Array[Any]") -> None:
    if array.dtype.kind not in "biu":
        raise DataError(
            f"{path}: pixels must be whole numbers, got {array.dtype}; convert them to 8 or 16 bit"
        )
    codecs = f"{array.metadata.to_dict()}".lower()
    if any(name in codecs for name in _RUNS_CODE):
        raise DataError(
            f"{path}: chunks must not be pickled, which can run any program; save the image again"
        )
    chunk_bytes = int(np.prod(array.chunks, dtype=np.float64)) * array.dtype.itemsize
    if array.nbytes > _MAX_BYTES or chunk_bytes > _MAX_BYTES:
        raise DataError(
            f"{path}: an image must have at most 1 GiB, got {max(array.nbytes, chunk_bytes) / 2**30:.1f}; cut it up"
        )


@dataclass(frozen=True)
class _Pair:
    """Reads an image and its label map."""

    image: Path
    labels: Path

    def __call__(self) -> tuple[Pixels, Annotation]:
        image, labels = _open(self.image).plane(), _open(self.labels).plane()
        image = image if image.ndim == 3 else image[..., None]
        if image.dtype not in (np.uint8, np.uint16):
            raise DataError(
                f"{self.image}: an image must have unsigned values of 8 or 16 bit, got {image.dtype}; convert it"
            )
        if labels.ndim == 3:
            if labels.shape[2] != 1:
                raise DataError(
                    f"{self.labels}: a label map must have one channel, got {labels.shape[2]}; save one"
                )
            labels = labels[..., 0]
        native = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
        return as_data(native), Annotation(check_numbers(str(self.labels), labels))
