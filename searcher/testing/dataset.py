"""The checks of a data set: what the store, splits and fingerprints rely on."""

import numpy as np

from searcher.data_pipeline.datasets.samples import SampleSource

__all__ = ["check_dataset"]

_DIGITS = set("0123456789abcdef")


def check_dataset(source: SampleSource, *, max_images: int = 20) -> None:
    """Check that a data set does what `SampleSource` demands.

    Args:
        source: The opened data set.
        max_images: Largest number of images to read, evenly spread over the data set.

    Raises:
        AssertionError: The data set breaks a rule; the message says which.
    """
    assert isinstance(source, SampleSource), (
        f"must have all members of SampleSource, got {type(source).__name__}"
    )
    _check_words(source)
    samples = list(source.samples)
    assert samples, "samples: must hold at least one sample, got none"
    assert samples == list(source.samples), "samples: must be in the same order every time"
    ids = [sample.id for sample in samples]
    assert len(set(ids)) == len(ids), f"samples: must have ids of their own, got {_twice(ids)} twice"
    for sample in samples:
        assert sample.id, "samples: must have ids, got an empty one"
        assert sample.split, f"{sample.id}: must have a split, `train` for one, got none"
        assert sample.group, f"{sample.id}: must have a group, its own id where no patient is known, got none"
    fingerprint = source.fingerprint()
    assert len(fingerprint) == 64, f"fingerprint: must be 64 hexadecimal digits, got {fingerprint!r}"
    assert set(fingerprint) <= _DIGITS, f"fingerprint: must be 64 hexadecimal digits, got {fingerprint!r}"
    assert source.fingerprint() == fingerprint, "fingerprint: must be the same every time"
    step = max(1, len(samples) // max_images)
    for index in range(0, len(samples), step):
        _check_image(source, index, samples[index].id)


def _check_words(source: SampleSource) -> None:
    for name in ("name", "kind", "licence"):
        value = getattr(source, name)
        assert isinstance(value, str), f"{name}: must be a text, got {type(value).__name__}"
    assert source.name, "name: must be a text for people, got an empty one"
    assert source.kind, "kind: must be the layout's name, got an empty one"
    assert source.channels, "channels: must name at least one channel, got none"
    assert source.dtype in ("uint8", "uint16"), f"dtype: must be uint8 or uint16, got {source.dtype!r}"
    size = source.pixel_size_um
    assert size is None or size > 0, f"pixel_size_um: must be above 0, or None where nobody said, got {size}"


def _check_image(source: SampleSource, index: int, name: str) -> None:
    image, labels = source.read(index)
    channels = len(source.channels)
    assert image.dtype == source.dtype, (
        f"{name}: must be of {source.dtype}, as the data set says, got {image.dtype}"
    )
    assert image.ndim == 3, f"{name}: must be [H, W, C], got {image.ndim} dimensions"
    assert image.shape[2] == channels, f"{name}: must have {channels} channels, got {image.shape[2]}"
    assert labels.dtype == np.int32, f"{name}: must have labels of int32, got {labels.dtype}"
    assert labels.shape == image.shape[:2], (
        f"{name}: must have labels of {image.shape[:2]} px, got {labels.shape}"
    )
    assert labels.min(initial=0) >= -1, (
        f"{name}: must have labels from 0, which is background, or -1 where nothing is annotated, got {labels.min()}"
    )
    again = source.read(index)
    assert np.array_equal(again[0], image), f"{name}: must be the same image every time it is read"
    assert np.array_equal(again[1], labels), f"{name}: must have the same labels every time it is read"


def _twice(ids: list[str]) -> str:
    return next(each for each in ids if ids.count(each) > 1)
