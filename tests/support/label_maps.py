"""Label maps on disk from arrays in memory."""

import numpy as np

from searcher.data_pipeline.scratch import ScratchArray
from searcher.data_pipeline.tiling import Tile
from searcher.prediction.label_map import LabelMap


def mapped(labels: np.ndarray, folder) -> LabelMap:
    """Return the map of labels 1 to n, all with a score of 0.5."""
    scratch = ScratchArray(labels.shape, np.int32, folder)
    scratch.write(Tile(0, 0, *labels.shape), labels.astype(np.int32))
    num = int(labels.max())
    return LabelMap(scratch, np.arange(num + 1, dtype=np.int32), np.full(num, 0.5, np.float32), sign=1)
