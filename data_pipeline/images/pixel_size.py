"""Pixel sizes that files give, and which of them are believed.

| given as | believed |
|---|---|
| OME-XML, `PhysicalSizeX` and `Y` | yes, in any unit of length |
| Aperio's `MPP`, OpenSlide's `mpp-x` and `-y` | yes |
| ImageJ's `unit` of length with the resolution tags | yes |
| resolution tags in inches or centimetres | from 0.05 to 5 um: 72, 96 or 300 dpi are about printing |

Nothing is believed whose two sides differ by more than 2%: networks see square pixels.
"""

import math
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

__all__ = ["pixel_size_of_tiff", "square"]

_MICROMETRES = {
    "m": 1e6, "cm": 1e4, "mm": 1e3, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "nm": 1e-3,
    "in": 25400.0, "inch": 25400.0,
}  # fmt: skip
_CREDIBLE_UM = (0.05, 5.0)
_TOLERANCE = 0.02
_INCH, _CENTIMETRE = 2, 3


def square(x_um: float, y_um: float) -> float | None:
    """Return the side of a square pixel in micrometres; None if a side is not a positive number, or the sides differ.

    Args:
        x_um: Width of a pixel in micrometres.
        y_um: Height of a pixel in micrometres.
    """
    if not (math.isfinite(x_um) and math.isfinite(y_um)) or min(x_um, y_um) <= 0:
        return None
    return math.sqrt(x_um * y_um) if max(x_um, y_um) <= min(x_um, y_um) * (1 + _TOLERANCE) else None


def pixel_size_of_tiff(tiff: "TiffFile", page: "TiffPage") -> float | None:
    """Return the side of a pixel in micrometres that a TIFF file gives for a page; None if there is none to trust."""
    if tiff.is_ome and tiff.ome_metadata:
        return _of_ome(tiff.ome_metadata)
    aperio = re.search(r"\bMPP *= *([0-9.]+)", page.description or "")
    if tiff.is_svs and aperio:
        return square(float(aperio[1]), float(aperio[1]))
    resolution = [page.tags.get(name) for name in ("XResolution", "YResolution")]
    if None in resolution or any(0 in tag.value for tag in resolution if tag is not None):
        return None
    per_unit = [tag.value[0] / tag.value[1] for tag in resolution if tag is not None]
    if tiff.is_imagej and tiff.imagej_metadata:
        unit = _micrometres(str(tiff.imagej_metadata.get("unit", "")))
        return None if unit is None else square(*(unit / each for each in per_unit))
    unit = {_INCH: 25400.0, _CENTIMETRE: 1e4}.get(int(page.resolutionunit))
    size = None if unit is None else square(*(unit / each for each in per_unit))
    return size if size is not None and _CREDIBLE_UM[0] <= size <= _CREDIBLE_UM[1] else None


def _of_ome(xml: str) -> float | None:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return None
    sides = []
    for axis in "XY":
        unit = _micrometres(pixels.get(f"PhysicalSize{axis}Unit", "um"))
        try:
            sides.append(float(pixels.get(f"PhysicalSize{axis}", "")) * (unit or math.nan))
        except ValueError:
            return None
    return square(*sides)


def _micrometres(unit: str) -> float | None:
    """Return how many um a unit of length has."""
    plain = unit.strip().lower().replace("\\u00b5", "u").replace("µ", "u").replace("μ", "u")
    return _MICROMETRES.get(plain)
