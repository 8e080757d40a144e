"""A piece of foreground too large for memory, flooded window by window.

Its seeds are found and counted over the whole piece. So a piece with one seed, or of a model without seed maps, is one
instance of any size, as in memory. A piece with several seeds is flooded in windows with a margin. Each window begins
from its seeds and from the results of its neighbours. That may differ from the flood in memory near the windows'
borders. A hole that is larger than the margin may stay open.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.scratch import ScratchArray
from searcher.data_pipeline.tiling import Tile
from searcher.models.postprocess import fill_instances, flood
from searcher.models.settings import PostprocessSettings
from searcher.models.values import InstanceMaps
from searcher.prediction.components import blocks_of, label_components

__all__ = ["Giant", "cut_giant"]


class Giant(NamedTuple):
    """A connected piece of foreground that is too large for memory, with functions that read its maps.

    All windows are in the image's coordinates.
    """

    window: Tile
    """Its bounding box."""
    instance_maps: Callable[[Tile], InstanceMaps]
    """Returns what is known of a window, smoothed."""
    is_here: Callable[[Tile], NDArray[np.bool_]]
    """Returns where in a window the piece is, its filled holes included, as long as nothing was written there."""


Write = Callable[[Tile, NDArray[np.int32]], None]


def cut_giant(
    giant: Giant,
    settings: PostprocessSettings,
    folder: Path,
    width: int,
    write: Write,
    *,
    block_px: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32] | None]:
    """Cut a piece of foreground into instances, and return the first pixel and the mean probabilities of each.

    Args:
        giant: The piece of foreground.
        settings: Settings of post-processing.
        folder: Folder for scratch files, which take 8 bytes for each pixel of the bounding box.
        width: Width of the image; a first pixel is `row * width + column`.
        write: Function that receives a window and its labels int32[h, w], 1 to n, 0 for none. Each window is written
            once.
        block_px: Side of a window in pixels; its margin is a quarter of that.

    Returns:
        The first pixels, int64[n]; the mean probabilities, float32[n]; and those of the classes, float32[n, K], None
        if classes were not learned.
    """
    top, left, height, box_width = giant.window
    with (
        ScratchArray((height, box_width), np.int32, folder) as seeds,
        ScratchArray((height, box_width), np.int32, folder) as labels,
    ):
        shifted = giant._replace(
            instance_maps=lambda part: giant.instance_maps(_moved(part, top, left)),
            is_here=lambda part: giant.is_here(_moved(part, top, left)),
        )
        flooding = _Flooding(shifted, settings, seeds, labels, block_px)
        num_labels = flooding.run()
        tally = _Tally(num_labels)
        for block in blocks_of(height, box_width, block_px):
            tally.add(flooding.filled(block), shifted.instance_maps(block), _moved(block, top, left), width)
        number_of, first_pixels, scores, of_classes = tally.close(settings.min_object_area_px)
        for block in blocks_of(height, box_width, block_px):
            write(_moved(block, top, left), number_of[flooding.filled(block)])
        return first_pixels, scores, of_classes


class _Flooding:
    """The flood of a piece. Windows are in the bounding box's coordinates."""

    def __init__(
        self,
        giant: Giant,
        settings: PostprocessSettings,
        seeds: ScratchArray[np.int32],
        labels: ScratchArray[np.int32],
        block_px: int,
    ) -> None:
        self._giant = giant
        self._settings = settings
        self._seeds = seeds
        self._labels = labels
        self._block_px = block_px
        self._is_one = False

    def run(self) -> int:
        """Flood the piece from its seeds, and return the number of labels; some labels may have no pixels."""
        settings = self._settings
        is_split = self._giant.instance_maps(Tile(0, 0, 1, 1)).seed_map is not None
        found = label_components(
            self._seed_mask, self._seeds, connectivity=8, block_px=self._block_px,
            min_area_px=settings.min_seed_area_px,
        ) if is_split else None  # fmt: skip
        num_seeds = 0 if found is None else len(found.areas) - 1
        if num_seeds <= 1:
            self._is_one = not is_split or num_seeds == 1 or settings.keep_unseeded
            return int(self._is_one)
        assert found is not None
        height, width = self._labels.shape[:2]
        blocks = list(blocks_of(height, width, self._block_px))
        is_changed = True
        while is_changed:  # a window without seeds waits until its neighbours have reached it
            is_changed = sum(self._flood(block, found.number_of) for block in blocks) > 0
            blocks.reverse()
        if not settings.keep_unseeded:
            return num_seeds
        rest = label_components(self._dry, self._seeds, connectivity=8, block_px=self._block_px)
        for block in blocks:
            values, extra = self._labels.read(block), rest.number_of[self._seeds.read(block)]
            np.copyto(values, extra + np.int32(num_seeds), where=extra > 0)
            self._labels.write(block, values)
        return num_seeds + len(rest.areas) - 1

    def filled(self, block: Tile) -> NDArray[np.int32]:
        """Return the labels of a block; holes of instances are filled if `fill_holes` is set."""
        if self._is_one:
            return self._giant.is_here(block).astype(np.int32)
        if not self._settings.fill_holes:
            return self._labels.read(block)
        grown, inner = self._grown(block)
        return fill_instances(self._labels.read(grown))[inner]

    def _flood(self, block: Tile, number_of_seed: NDArray[np.int32]) -> bool:
        """Flood what is dry of a block, and return whether anything was reached."""
        grown, inner = self._grown(block)
        instance_maps = self._giant.instance_maps(grown)
        assert instance_maps.seed_map is not None
        mask = self._foreground(instance_maps, grown)
        reached = self._labels.read(grown)
        is_dry = mask[inner] & (reached[inner] == 0)
        if not is_dry.any():
            return False
        sources = np.where(reached > 0, reached, number_of_seed[self._seeds.read(grown)])
        flooded = flood(instance_maps.seed_map, np.where(mask, sources, np.int32(0)), mask)[inner]
        self._labels.write(block, flooded)
        return bool((flooded[is_dry] > 0).any())

    def _seed_mask(self, block: Tile) -> NDArray[np.uint8]:
        instance_maps = self._giant.instance_maps(block)
        assert instance_maps.seed_map is not None
        is_seed = instance_maps.seed_map > self._settings.seed_threshold
        is_seed &= self._foreground(instance_maps, block)
        return is_seed.view(np.uint8)

    def _dry(self, block: Tile) -> NDArray[np.uint8]:
        mask = self._foreground(self._giant.instance_maps(block), block)
        mask &= self._labels.read(block) == 0
        return mask.view(np.uint8)

    def _foreground(self, instance_maps: InstanceMaps, block: Tile) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = instance_maps.foreground_map > self._settings.threshold
        mask &= self._giant.is_here(block)
        return mask

    def _grown(self, block: Tile) -> tuple[Tile, tuple[slice, slice]]:
        """Return a block with its margin, and where the block is in that."""
        margin = self._block_px // 4
        height, width = self._labels.shape[:2]
        y, x = max(0, block.y - margin), max(0, block.x - margin)
        bottom = min(height, block.y + block.height + margin)
        right = min(width, block.x + block.width + margin)
        inner = Tile(block.y - y, block.x - x, block.height, block.width)
        return Tile(y, x, bottom - y, right - x), inner.window


class _Tally:
    """First pixel, area and mean probabilities of labels, gathered window by window."""

    def __init__(self, num_labels: int) -> None:
        self._first = np.full(num_labels + 1, np.iinfo(np.int64).max)
        self._areas = np.zeros(num_labels + 1, np.int64)
        self._totals = np.zeros(num_labels + 1)
        self._of_classes: NDArray[np.float64] | None = None

    def add(self, labels: NDArray[np.int32], maps: InstanceMaps, window: Tile, width: int) -> None:
        """Add the pixels of a window of the image to the sums; the image is `width` pixels wide."""
        flat, num = labels.ravel(), len(self._areas)
        self._areas += np.bincount(flat, minlength=num)
        self._totals += np.bincount(flat, weights=maps.foreground_map.ravel(), minlength=num)
        if maps.class_maps is not None:
            if self._of_classes is None:
                self._of_classes = np.zeros((num, len(maps.class_maps)))
            for index, of_class in enumerate(maps.class_maps):
                self._of_classes[:, index] += np.bincount(flat, of_class.ravel(), num)
        rows, columns = np.divmod(np.flatnonzero(flat), window.width)
        np.minimum.at(self._first, flat[flat > 0], (rows + window.y) * width + columns + window.x)

    def close(
        self, min_area_px: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32] | None]:
        """Return the number of each label, and the first pixel and the mean probabilities of each number.

        Labels below `min_area_px` get number 0, the others 1 to n. A first pixel is `row * width + column` in the
        image. Means are those of foreground, float32[n], and of the classes, float32[n, K] or None.
        """
        is_kept = self._areas >= max(1, min_area_px)
        is_kept[0] = False
        number_of = np.where(is_kept, np.cumsum(is_kept), 0).astype(np.int32)
        scores = self._totals[is_kept] / self._areas[is_kept]
        of_classes = None
        if self._of_classes is not None:
            of_classes = (self._of_classes[is_kept] / self._areas[is_kept, None]).astype(np.float32)
        return number_of, self._first[is_kept], scores.astype(np.float32), of_classes


def _moved(part: Tile, top: int, left: int) -> Tile:
    return part._replace(y=part.y + top, x=part.x + left)
