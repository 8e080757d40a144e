"""Instances in images of any size, from a model that finds them one by one.

Such a model sees overlapping tiles. The detections of all tiles compete as in one image: from the highest score down,
each gets the pixels that are still free. There is one exception. A detection that ends at a tile's inner edge comes
after all others, because the neighbouring tile has it whole.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.images import Raster
from searcher.data_pipeline.scratch import Closing, ScratchArray
from searcher.data_pipeline.tiling import Tile, tile_grid
from searcher.inference.predictor import Predictor
from searcher.models.instances import claim, mask_of
from searcher.models.settings import PostprocessSettings
from searcher.models.values import Detections
from searcher.prediction.label_map import LabelMap
from searcher.prediction.selection import Selection

__all__ = ["DETECTION_OVERLAP_PX", "DETECTION_TILE_PX", "Detected", "cut_detected", "see_detections"]

DETECTION_TILE_PX = 1024
"""Side of a tile. It is slightly larger than the images of GlaS (775 x 522). So the largest number of detections, which
the model has from its training images, is enough for a tile."""
DETECTION_OVERLAP_PX = 512
"""An instance up to this size is whole in a tile. Of a larger one, what the best tile sees may be all."""
_EDGE_PX = 3.0
"""A box that ends this near to a tile's edge counts as cut off by it, because boxes are off by a pixel or two."""


class Detected(Closing):
    """The detections in all tiles of an image; their masks are in a scratch file. A context manager.

    Args:
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        folder: Folder for the scratch file.
    """

    def __init__(self, height: int, width: int, folder: Path) -> None:
        self.height = height
        self.width = width
        self._masks = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 closed with this
        self._tiles: list[Tile] = []
        self._boxes: list[NDArray[np.float32]] = []
        self._scores: list[NDArray[np.float32]] = []
        self._is_cut: list[NDArray[np.bool_]] = []
        self._of_classes: list[NDArray[np.float32]] = []
        self._mask_side = 0

    def close(self) -> None:
        """Close the scratch file, which frees its disk space."""
        self._masks.close()

    def add(self, tile: Tile, found: Detections) -> None:
        """Add the detections in a tile. The sizes of `found` and of the tile must agree."""
        assert found.size == (tile.height, tile.width), (found.size, tile)
        x1, y1, x2, y2 = found.boxes.T
        is_cut = (x1 < _EDGE_PX) & (tile.x > 0)
        is_cut |= (y1 < _EDGE_PX) & (tile.y > 0)
        is_cut |= (x2 > tile.width - _EDGE_PX) & (tile.x + tile.width < self.width)
        is_cut |= (y2 > tile.height - _EDGE_PX) & (tile.y + tile.height < self.height)
        self._tiles += [tile] * len(found.scores)
        self._boxes.append(found.boxes)
        self._scores.append(found.scores)
        self._is_cut.append(is_cut)
        if found.class_probabilities is not None:
            self._of_classes.append(found.class_probabilities)
        self._mask_side = found.masks.shape[-1]
        view = memoryview(np.ascontiguousarray(found.masks, np.float32).reshape(-1).view(np.uint8).data)
        while view:
            view = view[self._masks.write(view) :]

    def cut(
        self, settings: PostprocessSettings, labels: ScratchArray[np.int32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Write the label map of the image, and return the scores of its instances, and their classes.

        Returns:
            Scores float32[n], and class probabilities float32[n, K]; None if classes were not learned.

        Args:
            settings: Settings of post-processing, see `instances_from_detections`.
            labels: int32[H, W], all 0; labels 1 to n are written, in the order in which detections got their pixels.
        """
        boxes = np.concatenate([np.zeros((0, 4), np.float32), *self._boxes])
        scores = np.concatenate([np.zeros(0, np.float32), *self._scores])
        is_cut = np.concatenate([np.zeros(0, np.bool_), *self._is_cut])
        kept: list[int] = []
        for index in np.lexsort((-scores, is_cut)):
            if scores[index] <= settings.min_score:
                continue
            tile = self._tiles[index]
            (rows, columns), mask = mask_of(
                boxes[index], self._mask(int(index)), (tile.height, tile.width), settings
            )
            if not mask.size:
                continue
            window = Tile(tile.y + rows.start, tile.x + columns.start, *mask.shape)
            there = labels.read(window)
            free = claim(mask, there, settings)
            if free is not None:
                kept.append(int(index))
                there[free] = len(kept)
                labels.write(window, there)
        order = np.array(kept, np.int64)
        return scores[order], np.concatenate(self._of_classes)[order] if self._of_classes else None

    def _mask(self, index: int) -> NDArray[np.float32]:
        num_bytes = self._mask_side**2 * np.dtype(np.float32).itemsize
        data = os.pread(self._masks.fileno(), num_bytes, index * num_bytes)
        return np.frombuffer(data, np.float32).reshape(self._mask_side, self._mask_side)


def see_detections(
    predictor: Predictor,
    raster: Raster,
    folder: Path,
    *,
    tile_px: int = DETECTION_TILE_PX,
    overlap_px: int = DETECTION_OVERLAP_PX,
    selection: Selection | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Detected:
    """Return the detections of a model in each tile of an image; `cut_detected` makes instances of them.

    The caller closes the result, which holds a scratch file. An image no larger than a tile is one tile.

    Args:
        predictor: Predictor of a model that finds instances one by one.
        raster: The image.
        folder: Folder for the scratch file.
        tile_px: Side of a tile, in pixels.
        overlap_px: Least overlap of neighbouring tiles, in pixels.
        selection: Chooses the tiles to predict; None for all.
        progress: Called with the numbers of finished (or skipped) and of all tiles.

    Raises:
        OSError: The scratch file could not be written.
    """
    tiles = tile_grid(raster.height, raster.width, tile_px=tile_px, overlap_px=overlap_px)
    detected = Detected(raster.height, raster.width, folder)
    try:
        for num_done, tile in enumerate(tiles, start=1):
            pixels = raster.read(tile) if selection is None else selection.pixels(raster, tile)
            if pixels is not None:
                found = predictor.see_tile(pixels)
                assert isinstance(found, Detections)
                detected.add(tile, found)
            if progress is not None:
                progress(num_done, len(tiles))
    except BaseException:
        detected.close()
        raise
    return detected


def cut_detected(detected: Detected, settings: PostprocessSettings, folder: Path) -> LabelMap:
    """Return the instances of an image; for a single tile, the same as `instances_from_detections`.

    Args:
        detected: The detections in the image.
        settings: Settings of post-processing.
        folder: Folder for scratch files, which take 4 bytes for each pixel.

    Raises:
        OSError: The scratch file could not be written.
    """
    labels = ScratchArray((detected.height, detected.width), np.int32, folder)
    try:
        scores, of_classes = detected.cut(settings, labels)
    except BaseException:
        labels.close()
        raise
    return LabelMap(
        labels, np.arange(len(scores) + 1, dtype=np.int32), scores, sign=1, class_probabilities=of_classes
    )
