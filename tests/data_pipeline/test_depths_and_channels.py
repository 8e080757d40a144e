"""Images of any depth and number of channels, from the store to a batch."""

from pathlib import Path

import numpy as np
import pytest

from searcher.data_pipeline import PRESETS, BatchStream, build_augmentation, prepare_store
from searcher.data_pipeline.intensity import IntensityJitter


def ramps(height: int, width: int, num_channels: int, dtype: str):
    """Return an image whose channel c is the column's number times c + 1, and one instance."""
    columns = np.arange(width)[None, :, None] * np.arange(1, num_channels + 1)
    image = np.broadcast_to(columns, (height, width, num_channels)).astype(dtype)
    labels = np.zeros((height, width), np.int32)
    labels[height // 4 : -(height // 4), width // 4 : -(width // 4)] = 1
    return image, labels


# Not 8 bit colour: that is the other tests'.
@pytest.mark.parametrize(
    ("dtype", "num_channels"),
    [("uint8", 1), ("uint8", 2), ("uint8", 4), ("uint16", 1), ("uint16", 3), ("uint16", 6)],
)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_gives_crops_of_the_images_own_kind(
    tmp_path: Path, array_source, dtype: str, num_channels: int, preset: str
) -> None:
    items = [ramps(20, 30, num_channels, dtype), ramps(50, 40, num_channels, dtype)]
    store = prepare_store(array_source(items), tmp_path)
    augmentation = build_augmentation(preset, crop_px=32, strength=0.0)
    with BatchStream(store, [0, 1], batch_size=2, augmentation=augmentation, seed=0, num_threads=0) as stream:
        [batch] = [batch.images.copy() for batch in stream.epoch(0)]
    assert batch.dtype == dtype
    assert batch.shape == (2, 32, 32, num_channels)
    first = batch[..., 0].astype(np.int64)
    assert first.max() > 10
    for channel in range(num_channels):
        # Moves are the same for all channels; the poster's interpolation rounds each by itself.
        assert np.abs(batch[..., channel].astype(np.int64) - (channel + 1) * first).max() <= channel + 1
    distorting = build_augmentation(preset, crop_px=32)
    with BatchStream(store, [0, 1], batch_size=2, augmentation=distorting, seed=0, num_threads=1) as stream:
        assert [batch.images.shape for batch in stream.epoch(0)] == [(2, 32, 32, num_channels)]


def test_brightness_and_contrast_by_hand() -> None:
    image = np.zeros((1, 2, 2), np.uint16)
    image[0, :, 0] = 1000, 3000  # mean 2000
    image[0, :, 1] = 10, 60000  # mean 30005
    IntensityJitter.apply(image, np.array([1.5, 2.0]), np.array([0.5, 1.0]))
    # 1.5 * (2000 - 500), 1.5 * (2000 + 500); 2 * 10, and 120000 is cut off at the highest value
    assert image[0, :, 0].tolist() == [2250, 3750]
    assert image[0, :, 1].tolist() == [20, 65535]
