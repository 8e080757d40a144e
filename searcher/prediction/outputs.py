"""What is written about an image: label TIFF, overlay PNG, table of objects, GeoJSON; all of them or none.

All files of an image are written into a folder next to the outputs, and moved to their place when all are complete. The
folder's name is fixed, so one that a killed process left goes when its image is predicted again.
"""

import csv
import errno
import hashlib
import math
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from searcher.data_pipeline.images import Raster
from searcher.data_pipeline.tiling import Tile
from searcher.escaping import csv_cell
from searcher.exceptions import UserError
from searcher.prediction.components import blocks_of
from searcher.prediction.label_map import LabelMap
from searcher.prediction.morphology import Column
from searcher.report.class_colours import colour_table, with_legend
from searcher.report.composite import composite
from searcher.report.overlays import overlay

__all__ = [
    "OUTPUTS",
    "all_or_nothing",
    "check_places",
    "output_paths",
    "write_csv",
    "write_labels",
    "write_overlay",
]

OUTPUTS = {
    "labels": ".labels.tif",
    "overlay": ".overlay.png",
    "csv": ".objects.csv",
    "geojson": ".geojson",
}
"""What can be written, and what is put behind an image's name for it."""

_TIFF_TILE_PX = 512
_TIFF_STRIPS_UP_TO_PX = 4096
"""Longest side of label maps in strips, which any TIFF reader knows; larger ones are tiled."""
_CLASSIC_TIFF_BYTES = 4 * 2**30 - 2**26
_OVERLAY_PX = 4096
_OVERLAY_BLOCK_PX = 2048
_OVERLAY_BAND_PX = 512
_OVERLAY_MARGIN_PX = 16
"""More than a line and its edges are wide: what lies further away changes nothing."""
_OUTLINE_PX = 2


def output_paths(folder: Path, stem: str, wanted: Sequence[str]) -> dict[str, Path]:
    """Return the path of each wanted output of an image, by the output's name.

    Args:
        folder: Folder of the outputs.
        stem: The image's name without its ending.
        wanted: Names of outputs, keys of `OUTPUTS`.
    """
    return {name: folder / f"{stem}{OUTPUTS[name]}" for name in wanted}


def check_places(image: Path, paths: Mapping[str, Path]) -> None:
    """Check that the outputs of an image can be written under their names, before the work for them begins.

    Args:
        image: The image file.
        paths: The result of `output_paths`.

    Raises:
        UserError: A name is too long for the file system, or is the name of a folder.
    """
    for path in paths.values():
        try:
            is_folder = stat.S_ISDIR(path.lstat().st_mode)
        except FileNotFoundError:
            continue
        except OSError as error:
            reason = (
                "a shorter name" if error.errno == errno.ENAMETOOLONG else "another name or another folder"
            )
            raise UserError(
                f"{image}: its outputs must be files of the same name in {path.parent}, got "
                f"{error.strerror or error}; give it {reason}"
            ) from error
        if is_folder:
            raise UserError(
                f"{image}: its output {path} must be a file, got a folder of that name; move it away"
            )


@contextmanager
def all_or_nothing(paths: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """Yield temporary paths to write; they are renamed to `paths` if the `with` block succeeds, otherwise deleted.

    Args:
        paths: The final paths, at least one, all in one folder.

    Raises:
        OSError: A file could not be flushed to disk or renamed.
    """
    first = next(iter(paths.values()))
    digest = hashlib.sha256(os.fsencode(first.name)).hexdigest()[:16]
    partial = first.parent / f".{digest}.partial"  # an output's name may be as long as the file system allows
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        written = {name: partial / path.name for name, path in paths.items()}
        yield written
        for path in written.values():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        try:
            _move(written, paths)
        except KeyboardInterrupt:  # all is complete, so let all of it come to its place
            _move(written, paths)
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move(written: Mapping[str, Path], paths: Mapping[str, Path]) -> None:
    for name, path in written.items():
        if path.exists():
            path.replace(paths[name])


def write_labels(path: Path, labels: LabelMap, pixel_size_um: float | None) -> None:
    """Write the label map as a compressed TIFF, with 16 bits if the labels fit; in tiles if it is large.

    Args:
        path: The file to write.
        labels: The label map, read in windows.
        pixel_size_um: Side of a pixel in micrometres, written into the file; None writes none.
    """
    dtype = np.dtype(np.uint16 if len(labels) <= np.iinfo(np.uint16).max else np.uint32)
    is_tiled = max(labels.height, labels.width) > _TIFF_STRIPS_UP_TO_PX
    resolution: dict[str, Any] = {}
    if pixel_size_um is not None:
        resolution = {"resolution": (1e4 / pixel_size_um,) * 2, "resolutionunit": "CENTIMETER"}

    def tiles() -> Iterator[NDArray[Any]]:
        for window in blocks_of(labels.height, labels.width, _TIFF_TILE_PX):
            yield labels.read(Tile(window.y, window.x, _TIFF_TILE_PX, _TIFF_TILE_PX)).astype(dtype)

    tifffile.imwrite(
        path,
        tiles() if is_tiled else labels.read(Tile(0, 0, labels.height, labels.width)).astype(dtype),
        shape=(labels.height, labels.width),
        dtype=dtype,
        bigtiff=labels.height * labels.width * dtype.itemsize > _CLASSIC_TIFF_BYTES,
        tile=(_TIFF_TILE_PX, _TIFF_TILE_PX) if is_tiled else None,
        compression="zlib",
        photometric="minisblack",
        metadata=None,
        software="gland-searcher",
        **resolution,
    )


def write_overlay(path: Path, labels: LabelMap, raster: Raster, class_names: Sequence[str] = ()) -> None:
    """Write the image with the objects' outlines as PNG, reduced to a longer side of at most 4096 px.

    Args:
        path: The PNG file.
        labels: Label map of the objects.
        raster: The image, normalised. With other than 3 channels it is shown as by `composite`.
        class_names: Names of the classes that the networks learned, class 1 first. If there are any, each outline has
            its class's colour, and a legend is below the image.
    """
    factor = math.ceil(max(labels.height, labels.width) / _OVERLAY_PX)
    height, width = max(1, labels.height // factor), max(1, labels.width // factor)
    shown = np.empty((height, width, 3), np.uint8)
    pixels = np.empty_like(shown)
    small = np.empty((height, width), np.int32)
    side = max(1, _OVERLAY_BLOCK_PX // factor)
    for part in blocks_of(height, width, side):
        window = Tile(
            part.y * factor,
            part.x * factor,
            min(part.height * factor, labels.height - part.y * factor),
            min(part.width * factor, labels.width - part.x * factor),
        )
        block = Image.fromarray(np.ascontiguousarray(composite(raster.read(window))))
        shown[part.window] = np.asarray(block.reduce(factor) if factor > 1 else block)
        middle = slice(factor // 2 if min(labels.height, labels.width) >= factor else 0, None, factor)
        small[part.window] = labels.read(window)[middle, middle]
    colours = None if labels.classes is None or not class_names else colour_table(labels.classes)
    for y in range(0, height, _OVERLAY_BAND_PX):  # drawing takes some 50 bytes for each pixel
        top, bottom = max(0, y - _OVERLAY_MARGIN_PX), min(height, y + _OVERLAY_BAND_PX + _OVERLAY_MARGIN_PX)
        drawn = overlay(shown[top:bottom], None, small[top:bottom], width_px=_OUTLINE_PX, colours=colours)
        pixels[y : y + _OVERLAY_BAND_PX] = drawn[y - top :][:_OVERLAY_BAND_PX]
    Image.fromarray(pixels if colours is None else with_legend(pixels, class_names)).save(path, "PNG")


def write_csv(path: Path, table: Mapping[str, Column]) -> None:
    """Write a table of objects as CSV, numbers with eight digits; missing values are empty cells."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(
            [_text(value) for value in row]
            for row in zip(*(column.tolist() for column in table.values()), strict=True)
        )


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.8g}" if math.isfinite(value) else ""
    return csv_cell(value) if isinstance(value, str) else str(value)
