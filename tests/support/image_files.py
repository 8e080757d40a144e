"""One small image as every kind of file that is read."""

import io

import cv2
import numpy as np
import tifffile
from PIL import Image

__all__ = ["VALID"]

_RNG = np.random.default_rng(0)
_TISSUE = cv2.resize(_RNG.integers(0, 256, (6, 8, 3), np.uint8), (64, 48))
_LABELS = np.zeros((48, 64), np.uint8)
_LABELS[4:20, 4:20], _LABELS[24:40, 30:60] = 1, 2


def _by_pillow(format_: str, array: np.ndarray = _TISSUE, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format_, **options)
    return stream.getvalue()


def _by_tifffile(array: np.ndarray = _TISSUE, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


VALID = {
    "a.png": _by_pillow("PNG"),
    "b.png": _by_pillow("PNG", _LABELS),
    "c.bmp": _by_pillow("BMP"),
    "d.jpg": _by_pillow("JPEG"),
    "e.tif": _by_tifffile(photometric="rgb"),
    "f.tif": _by_tifffile(photometric="rgb", tile=(16, 16), compression="deflate"),
    "g.tif": _by_tifffile(photometric="rgb", rowsperstrip=8, compression="lzw", predictor=True),
    "h.tif": _by_tifffile(
        photometric="rgb", byteorder=">", bigtiff=True, resolution=(20000, 20000), resolutionunit=3
    ),
    "i.ome.tif": _by_tifffile(
        np.ascontiguousarray(_TISSUE.transpose(2, 0, 1)), ome=True, metadata={"axes": "CYX"}
    ),
    "j.tif": _by_tifffile(_LABELS.astype(np.uint16) * 257, photometric="minisblack"),
}
"""Files of every kind that is read, by name."""
