"""Which part of an image is predicted: a region that a person gives, and not the glass of a slide."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations.geojson import read_geojson
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import Raster
from searcher.data_pipeline.stain import optical_density
from searcher.data_pipeline.tiling import Tile
from searcher.exceptions import UserError
from searcher.prediction.appearance import LUMEN_DENSITY
from searcher.prediction.label_map import LabelMap

__all__ = ["Region", "Selection", "is_glass", "keep_in_region", "read_region", "require_inside"]

_MOST_TISSUE = 1e-3
"""Part of a tile's pixels that may have an optical density of tissue in a tile of glass: dust and noise have."""


class Region:
    """A part of an image, given by polygons.

    Args:
        geometry: Polygons in pixels of the image, (0, 0) the upper left corner of its first pixel.
    """

    def __init__(self, geometry: shapely.Geometry) -> None:
        self._geometry = geometry
        shapely.prepare(geometry)

    def meets(self, window: Tile, scale: float = 1.0) -> bool:
        """Return whether a window overlaps the region.

        Args:
            window: The window, in pixels of the resized image.
            scale: Factor by which the image was resized for the network.
        """
        left, top = window.x / scale, window.y / scale
        right, bottom = (window.x + window.width) / scale, (window.y + window.height) / scale
        return bool(shapely.intersects(self._geometry, shapely.box(left, top, right, bottom)))

    def mask(self, window: Tile) -> NDArray[np.bool_]:
        """Return the pixels of a window whose centre lies in the region or on its border, bool[h, w]."""
        if not self.meets(window):
            return np.zeros((window.height, window.width), np.bool_)
        x, y = np.arange(window.x, window.x + window.width) + 0.5, np.arange(window.height) + window.y + 0.5
        return np.stack([shapely.intersects_xy(self._geometry, x, row) for row in y])


def read_region(text: str) -> Region:
    """Return the region in a text: `x,y,width,height` in pixels, or the path of a GeoJSON file with polygons.

    Raises:
        UserError: The text is neither.
    """
    parts = text.split(",")
    if len(parts) == 4:
        try:
            x, y, width, height = (int(part) for part in parts)
        except ValueError:
            x, y, width, height = 0, 0, 0, 0
        if min(x, y) >= 0 and min(width, height) >= 1:
            return Region(shapely.box(x, y, x + width, y + height))
    elif Path(text).is_file():
        try:
            found = read_geojson(Path(text))
        except DataError as error:
            raise UserError(f"--region {error}") from error
        areas = [shape.region for shape in (*found.shapes, *found.regions) if shape.region is not None]
        if areas:
            return Region(shapely.union_all(areas))
    raise UserError(
        f"--region {text}: must be x,y,width,height in whole pixels, or a GeoJSON file with a polygon, got neither; "
        "give one of them"
    )


@dataclass
class Selection:
    """Chooses the tiles of an image that networks predict, and counts the tiles of glass that are skipped."""

    region: Region | None = None
    """None for the whole image."""
    skips_glass: bool = False
    """Whether tiles of glass are left out."""
    scale: float = 1.0
    """Pixels that the networks see per pixel of the image."""
    num_glass: int = 0
    """Tiles of glass so far."""

    def pixels(self, raster: Raster, tile: Tile) -> NDArray[np.uint8] | None:
        """Return the pixels of a tile, [h, w, C]; None if the tile need not be predicted."""
        if self.region is not None and not self.region.meets(tile, self.scale):
            return None
        pixels: NDArray[np.uint8] = raster.read(tile)
        if self.skips_glass and is_glass(pixels):
            self.num_glass += 1
            return None
        return pixels


def is_glass(pixels: NDArray[np.uint8]) -> bool:
    """Return whether a tile of a bright-field image shows only glass.

    It does if at most one pixel in a thousand is tissue, that is, has an optical density of 0.15 or more in red, green
    or blue (Macenko et al. 2009; an intensity of 180 of 255 or less).

    Args:
        pixels: uint8[h, w, 3], RGB.
    """
    # The smallest channel alone decides: density falls where intensity rises.
    values, counts = np.unique(pixels.min(axis=2), return_counts=True)
    is_tissue = optical_density(values[:, None])[:, 0] >= LUMEN_DENSITY
    return bool(counts[is_tissue].sum() <= _MOST_TISSUE * counts.sum())


def keep_in_region(labels: LabelMap, region: Region) -> None:
    """Remove the objects that have half of their pixels or more outside a region; the others stay whole."""
    num_in, num_all = np.zeros(len(labels) + 1, np.int64), np.zeros(len(labels) + 1, np.int64)
    for block in labels.blocks():
        found = labels.read(block)
        if found.any():
            num_all += np.bincount(found.ravel(), minlength=len(num_all))
            num_in += np.bincount(found[region.mask(block)], minlength=len(num_in))
    labels.keep(2 * num_in > num_all)


def require_inside(path: Path, raster: Raster, region: Region) -> None:
    """Check that a region overlaps an image.

    Args:
        path: The image file, for the message.
        raster: The image.
        region: The region, in pixels of the image.

    Raises:
        UserError: The region lies outside the image.
    """
    if not region.meets(Tile(0, 0, raster.height, raster.width)):
        raise UserError(
            f"{path}: --region must lie in the image of {raster.width}x{raster.height} px, got one outside; "
            "give it in pixels of this image"
        )
