"""Instances in images of any size, from models that say something of every pixel.

The maps of overlapping tiles are blended into a scratch file with the same weights as in memory. The same function cuts
instances from it. So the result equals that of `Predictor.cut(Predictor.see(image))` for the whole image. No step for
one piece of foreground, filled holes included, depends on another piece. So pieces are found block by block and joined
over the blocks' borders. Each is cut in a window of its own.

Only a piece too large for that, say of tissue whose glands all touch, is flooded window by window: see
`searcher.prediction.giant`.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.images import Raster
from searcher.data_pipeline.scratch import Closing, ScratchArray
from searcher.data_pipeline.tiling import Tile, summed_weights, tile_grid, tile_weight
from searcher.inference.predictor import Predictor
from searcher.models.postprocess import first_pixels, instances_from_maps, smooth
from searcher.models.settings import PostprocessSettings
from searcher.models.values import InstanceMaps, Prediction
from searcher.prediction.components import Components, blocks_of, label_components
from searcher.prediction.giant import Giant, cut_giant
from searcher.prediction.label_map import LabelMap
from searcher.prediction.selection import Selection

__all__ = ["DEFAULT_TILE_PX", "Blended", "cut_blended", "see_dense"]

DEFAULT_TILE_PX = 1024
"""Side of the tiles of models that were not given one: larger images are not seen whole."""
_DEFAULT_OVERLAP_PX = 128
_BLOCK_PX = 2048
_MAX_WINDOW_PX = 1 << 23
"""Pixels of the largest window in which a piece of foreground is cut. Each needs about 60 bytes of memory."""
_ALIGNMENT_PX = 64
"""Smoothed windows begin and end at multiples of this, or at the image's border. OpenCV computes the last columns of an
array (up to a vector's length) in another way, which would differ in the last bit."""


class Blended(Closing):
    """The maps of an image, blended from all tiles, in a scratch file. A context manager."""

    def __init__(
        self,
        maps: ScratchArray[np.float32],
        weights: tuple[NDArray[np.float32], NDArray[np.float32]],
        instance_maps: Callable[[NDArray[np.float32]], InstanceMaps],
    ) -> None:
        self._maps = maps
        self._row_weights, self._column_weights = weights
        self._instance_maps = instance_maps
        self.height, self.width = maps.shape[:2]

    def close(self) -> None:
        """Close the scratch file, which frees its disk space."""
        self._maps.close()

    def read(self, window: Tile, *, smoothing_sigma_px: float) -> InstanceMaps:
        """Return the foreground map and the seed map of a window, smoothed like the whole image."""
        seen = self._grown(window, smoothing_sigma_px)
        rows, columns = seen.window
        total = np.ascontiguousarray(self._maps.read(seen).transpose(2, 0, 1))
        total /= np.outer(self._row_weights[rows], self._column_weights[columns])
        probability, seed_map, class_maps = self._instance_maps(total)
        inner = (
            slice(window.y - seen.y, window.y - seen.y + window.height),
            slice(window.x - seen.x, window.x - seen.x + window.width),
        )
        return InstanceMaps(
            smooth(probability, smoothing_sigma_px)[inner],
            None if seed_map is None else smooth(seed_map, smoothing_sigma_px)[inner],
            None if class_maps is None else class_maps[:, *inner],
        )

    def _grown(self, window: Tile, sigma_px: float) -> Tile:
        if not sigma_px:
            return window
        margin = max(math.ceil(4 * sigma_px) + 1, _ALIGNMENT_PX)
        y, x = (max(0, start - margin) // _ALIGNMENT_PX * _ALIGNMENT_PX for start in (window.y, window.x))
        bottom, right = (
            min(size, -(-(end + margin) // _ALIGNMENT_PX) * _ALIGNMENT_PX)
            for end, size in (
                (window.y + window.height, self.height),
                (window.x + window.width, self.width),
            )
        )
        return Tile(y, x, bottom - y, right - x)


def see_dense(
    predictor: Predictor,
    raster: Raster,
    folder: Path,
    *,
    default_tile_px: int = DEFAULT_TILE_PX,
    selection: Selection | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Blended:
    """Return the maps of an image, predicted tile by tile and blended, in a scratch file.

    Args:
        predictor: Predictor of dense models. If it has no tile size, `default_tile_px` is used.
        raster: The image.
        folder: Folder for the scratch file, which takes 4 bytes for each pixel and map.
        default_tile_px: Side of the tiles in pixels, if the predictor has none.
        selection: Chooses the tiles to predict; in the others all probabilities are 0. None for all tiles.
        progress: Called with the numbers of finished and of all tiles.

    Raises:
        OSError: The scratch file could not be written.
    """
    height, width = raster.height, raster.width
    tile_px = predictor.tile_px or default_tile_px
    overlap_px = predictor.tile_overlap_px
    if not predictor.tile_px:
        overlap_px = min(max(overlap_px, _DEFAULT_OVERLAP_PX), tile_px // 2)
    tiles = tile_grid(height, width, tile_px=tile_px, overlap_px=overlap_px)
    weights = summed_weights(tiles, height, width, overlap_px=overlap_px)
    maps: ScratchArray[np.float32] | None = None
    try:
        for num_done, tile in enumerate(tiles, start=1):
            pixels = raster.read(tile) if selection is None else selection.pixels(raster, tile)
            if pixels is not None:
                part = predictor.see_tile(pixels)
                assert isinstance(part, np.ndarray)
                if maps is None:
                    maps = ScratchArray((height, width, len(part)), np.float32, folder)
                part = part * tile_weight(tile, height, width, overlap_px=overlap_px)
                maps.write(tile, maps.read(tile) + part.transpose(1, 2, 0))
            if progress is not None:
                progress(num_done, len(tiles))
    except BaseException:
        if maps is not None:
            maps.close()
        raise
    if maps is None:  # nothing was to be seen; how many maps there are, a look tells
        maps = ScratchArray(
            (height, width, len(predictor.see_tile(raster.read(tiles[0])))), np.float32, folder
        )
    return Blended(maps, weights, predictor.instance_maps)


def cut_blended(
    blended: Blended,
    settings: PostprocessSettings,
    folder: Path,
    *,
    block_px: int = _BLOCK_PX,
    max_window_px: int = _MAX_WINDOW_PX,
) -> LabelMap:
    """Return the instances of an image, the same as `instances_from_maps` finds in the whole image.

    Labels follow the order of the instances' first pixels, row by row.

    Args:
        blended: The maps of the image.
        settings: Settings of post-processing.
        folder: Folder for scratch files, which take 4 bytes for each pixel.
        block_px: Side of the blocks in which pieces of foreground are found, in pixels.
        max_window_px: Largest bounding box, in pixels, of a piece of foreground that is cut at once; see
            `searcher.prediction.giant`.

    Raises:
        OSError: The scratch file could not be written.
    """
    scratch = ScratchArray((blended.height, blended.width), np.int32, folder)
    try:
        return _Cutter(blended, settings, scratch, folder, block_px, max_window_px).cut()
    except BaseException:
        scratch.close()
        raise


class _Cutter:
    """Cuts pieces of foreground. In the scratch array a piece's value, above 0, gives way to its instances', below."""

    def __init__(
        self,
        blended: Blended,
        settings: PostprocessSettings,
        scratch: ScratchArray[np.int32],
        folder: Path,
        block_px: int,
        max_window_px: int,
    ) -> None:
        self._blended = blended
        self._settings = settings
        self._scratch = scratch
        self._folder = folder
        self._block_px = block_px
        self._max_window_px = max_window_px
        self._first_pixels: list[NDArray[np.int64]] = []
        self._scores: list[NDArray[np.float32]] = []
        self._class_probabilities: list[NDArray[np.float32]] = []
        self._num_found = 0

    def cut(self) -> LabelMap:
        pieces = self._find_pieces()
        for block in blocks_of(self._blended.height, self._blended.width, self._block_px):
            is_here = pieces.is_in_one_block[self._piece_of(pieces, block)]
            if is_here.any():
                self._cut_window(block, is_here)
        for number in np.flatnonzero(~pieces.is_in_one_block)[1:]:
            top, left, bottom, right = pieces.boxes[number].tolist()
            window = Tile(top, left, bottom - top, right - left)
            if window.height * window.width <= self._max_window_px:
                self._cut_window(window, self._piece_of(pieces, window) == number)
            else:
                self._cut_giant(pieces, int(number), window)
        first_pixels = np.concatenate([np.zeros(0, np.int64), *self._first_pixels])
        scores = np.concatenate([np.zeros(0, np.float32), *self._scores])
        order = np.argsort(first_pixels)
        number_of = np.zeros(len(order) + 1, np.int32)
        number_of[order + 1] = np.arange(1, len(order) + 1)
        return LabelMap(
            self._scratch,
            number_of,
            scores[order],
            sign=-1,
            class_probabilities=self._of_classes(order),
        )

    def _of_classes(self, order: NDArray[np.intp]) -> NDArray[np.float32] | None:
        """Return float32[n, K] in the labels' order; None where classes were not learned."""
        at_a_pixel = self._blended.read(Tile(0, 0, 1, 1), smoothing_sigma_px=0.0).class_maps
        if at_a_pixel is None:
            return None
        nothing = np.zeros((0, len(at_a_pixel)), np.float32)
        return np.concatenate([nothing, *self._class_probabilities])[order]

    def _find_pieces(self) -> Components:
        """Return the pieces of foreground that may be large enough, with holes filled if that is configured."""
        settings, block_px = self._settings, self._block_px

        def foreground(block: Tile) -> NDArray[np.uint8]:
            instance_maps = self._blended.read(block, smoothing_sigma_px=settings.smoothing_sigma_px)
            return (instance_maps.foreground_map > settings.threshold).view(np.uint8)

        if not settings.fill_holes:
            return label_components(
                foreground,
                self._scratch,
                connectivity=8,
                block_px=block_px,
                min_area_px=settings.min_object_area_px,
            )
        background = label_components(
            lambda block: 1 - foreground(block), self._scratch, connectivity=4, block_px=block_px
        )
        is_outside = background.touches_edge[background.number_of]
        return label_components(
            lambda block: (~is_outside[self._scratch.read(block)]).view(np.uint8),
            self._scratch,
            connectivity=8,
            block_px=block_px,
            min_area_px=settings.min_object_area_px,
        )

    def _piece_of(self, pieces: Components, window: Tile) -> NDArray[np.int32]:
        numbers: NDArray[np.int32] = pieces.number_of[np.maximum(self._scratch.read(window), 0)]
        return numbers

    def _cut_window(self, window: Tile, is_here: NDArray[np.bool_]) -> None:
        """Cut the pieces that are whole in a window, bool[h, w] where they are."""
        instance_maps = self._blended.read(window, smoothing_sigma_px=self._settings.smoothing_sigma_px)
        alone = InstanceMaps(
            np.where(is_here, instance_maps.foreground_map, np.float32(0)),
            None
            if instance_maps.seed_map is None
            else np.where(is_here, instance_maps.seed_map, np.float32(0)),
            instance_maps.class_maps,
        )
        smoothed = self._settings.model_copy(update={"smoothing_sigma_px": 0.0})
        found = instances_from_maps(alone, smoothed)
        if not len(found.scores):
            return
        self._write(window, found.labels)
        self._keep(self._first_pixels_of(found, window), found.scores, found.class_probabilities)

    def _cut_giant(self, pieces: Components, number: int, window: Tile) -> None:
        """Cut a piece that is too large to be looked at as a whole."""
        giant = Giant(
            window=window,
            instance_maps=lambda part: self._blended.read(
                part, smoothing_sigma_px=self._settings.smoothing_sigma_px
            ),
            is_here=lambda part: self._piece_of(pieces, part) == number,
        )
        self._keep(
            *cut_giant(
                giant, self._settings, self._folder, self._blended.width, self._write, block_px=self._block_px
            )
        )

    def _write(self, window: Tile, labels: NDArray[np.int32]) -> None:
        """Write instances int32[h, w], 1 to n, behind those that were found before; elsewhere the pieces stay."""
        values = self._scratch.read(window)
        np.copyto(values, -(labels + np.int32(self._num_found)), where=labels > 0)
        self._scratch.write(window, values)

    def _first_pixels_of(self, found: Prediction, window: Tile) -> NDArray[np.int64]:
        first = first_pixels(found.labels, len(found.scores) + 1)[1:]
        rows, columns = np.divmod(first, window.width)
        return (rows + window.y) * self._blended.width + columns + window.x

    def _keep(
        self,
        first_pixels: NDArray[np.int64],
        scores: NDArray[np.float32],
        class_probabilities: NDArray[np.float32] | None,
    ) -> None:
        self._first_pixels.append(first_pixels)
        self._scores.append(scores)
        if class_probabilities is not None:
            self._class_probabilities.append(class_probabilities)
        self._num_found += len(scores)
