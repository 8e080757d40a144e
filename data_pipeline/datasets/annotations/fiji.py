"""Regions of interest of ImageJ and Fiji: a `.roi` file, or a `.zip` with one for each object.

Their coordinates begin at the upper left corner of the first pixel, as everywhere here.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import roifile
import shapely

from searcher.data_pipeline.datasets.annotations.shapes import MAX_SHAPES, Shape, polygon_shape
from searcher.data_pipeline.datasets.annotations.text_files import starts_with
from searcher.data_pipeline.exceptions import DataError

__all__ = ["is_fiji", "read_fiji"]

_MAX_ROI_BYTES = 2**24
_MAX_BYTES = 2**28
_TYPE = roifile.ROI_TYPE
_WITH_AREA = {_TYPE.POLYGON, _TYPE.RECT, _TYPE.OVAL, _TYPE.FREEHAND, _TYPE.TRACED}


def is_fiji(path: Path) -> bool:
    """Return whether a file is an ImageJ `.roi` file, or a `.zip` that contains one."""
    if path.suffix.lower() == ".roi":
        return True
    if not starts_with(path, 4).startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.lower().endswith(".roi") for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def read_fiji(path: Path, _height: int, _width: int) -> tuple[list[Shape], tuple[str, ...]]:
    """Return the objects in an ImageJ file, and remarks on the parts of the file that are not used.

    The group of a region of interest becomes the object's class. Height and width of the image are not needed.

    Raises:
        DataError: The file is damaged, would fill the memory, or holds an object that cannot be used.
    """
    shapes: list[Shape] = []
    num_left_out = 0
    for name, content in _contents(path):
        try:
            roi = roifile.ImagejRoi.frombytes(content)
        except Exception as error:  # roifile raises whatever struct, numpy and enum do
            raise DataError(
                f"{path}: {name}: must be an ImageJ ROI, got {' '.join(str(error).split())[:80]}; save it again"
            ) from None
        if roi.roitype not in _WITH_AREA or roi.subtype in (
            roifile.ROI_SUBTYPE.TEXT,
            roifile.ROI_SUBTYPE.ARROW,
        ):
            num_left_out += 1
            continue
        shapes.append(_shape(path, name, roi))
    remarks = (f"{path}: left out {num_left_out} points, lines and texts, which have no area",)
    return shapes, remarks if num_left_out else ()


def _contents(path: Path) -> list[tuple[str, bytes]]:
    try:
        if path.suffix.lower() == ".roi":
            if path.stat().st_size > _MAX_ROI_BYTES:
                raise DataError(f"{path}: a ROI must have at most 16 MiB, got more; save it again")
            return [(path.name, path.read_bytes())]
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".roi")]
            if len(entries) > MAX_SHAPES or sum(entry.file_size for entry in entries) > _MAX_BYTES:
                raise DataError(
                    f"{path}: must hold at most {MAX_SHAPES} ROIs of 256 MiB together, got {len(entries)} of "
                    f"{sum(entry.file_size for entry in entries) / 2**20:.0f} MiB; save fewer to a file"
                )
            return [(entry.filename, archive.read(entry)) for entry in entries]
    except OSError as error:
        raise DataError(f"{path}: the file must be readable, got {error.strerror}; restore it") from error
    except (ValueError, RuntimeError, NotImplementedError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: must be a complete zip file, got {error}; save the ROIs again") from error


def _shape(path: Path, name: str, roi: roifile.ImagejRoi) -> Shape:
    category = f"group {roi.group}" if roi.group else ""
    if roi.subtype in (roifile.ROI_SUBTYPE.ELLIPSE, roifile.ROI_SUBTYPE.ROTATED_RECT) and not len(
        roi.coordinates()
    ):
        raise DataError(f"{path}: {name}: must have an outline, got none; convert it to a polygon in Fiji")
    rings = [np.asarray(ring, np.float64) for ring in roi.coordinates(multi=True)]
    if len(rings) <= 1:
        return polygon_shape(str(path), name, category, [[ring] for ring in rings])
    # A composite is filled by turns: a ring within a ring is a hole.
    parts = [polygon_shape(str(path), name, category, [[ring]]).region for ring in rings]
    regions = [part for part in parts if part is not None]
    return Shape(name, category, shapely.symmetric_difference_all(regions))
