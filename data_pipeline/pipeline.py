"""An albumentations pipeline as an augmentation: checked, the same for any number of threads, labels moved alike."""

import os
import random
import threading
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.augmentation import Augmentation, Image, Labels, Reflections
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.pipeline_file import read_pipeline, transforms_in
from searcher.data_pipeline.unannotated import is_partial

__all__ = ["Pipeline", "Transforms", "check_pipeline"]

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for news when imported
import albumentations
import cv2
from albumentations.core import serialization

_NEEDS_MORE = "needs more than an image and its labels"
_OTHER_VALUES = "gives values of another kind, which the model makes itself"
_REFUSED = {
    **dict.fromkeys(
        ("FDA", "HistogramMatching", "PixelDistributionAdaptation", "OverlayElements", "Mosaic", "TextImage"),
        _NEEDS_MORE,
    ),
    **dict.fromkeys(
        ("AtLeastOneBBoxRandomCrop", "BBoxSafeRandomCrop", "RandomSizedBBoxSafeCrop", "RandomCropNearBBox"),
        _NEEDS_MORE,
    ),
    **dict.fromkeys(("Normalize", "ToFloat", "FromFloat", "ToTensorV2", "ToTensor3D"), _OTHER_VALUES),
    "Lambda": "runs code of its own, which no file can hold",
    "MaskDropout": "removes objects from the labels and leaves them in the image",
    "Morphological": "changes the labels' outlines by their numbers",
    "ReplayCompose": "is for replaying; write Compose",
    "SelectiveChannelTransform": "is not seeded by the pipeline",
}
"""Transforms that make no sense here, and why."""
_MAX_EXACT = 2**24
"""Highest label that a float32 holds exactly."""
_CHECK_SEEDS = 3


class Transforms:
    """An albumentations pipeline that transforms whole images together with their labels.

    Labels are always resampled by nearest neighbour. All transforms of the pipeline draw from one generator.

    Args:
        content: Content of the pipeline; see `searcher.data_pipeline.pipeline_file`.

    Raises:
        DataError: The pipeline cannot be built, or it has a transform that does not suit label maps.
    """

    def __init__(self, content: str) -> None:
        self._content = content
        self._of_thread = threading.local()
        self._compose()

    def moved(self, image: Image, labels: Labels, seed: int) -> tuple[Image, NDArray[np.int32]]:
        """Return an image and its label map, transformed by the pipeline; their size may change.

        Args:
            image: uint8 or uint16[H, W, C].
            labels: uint16 or int32[H, W].
            seed: Seed of everything random in the pipeline.

        Raises:
            DataError: A transform fails on the image, or does not return an image with labels.
        """
        compose = self._compose()
        # `set_random_seed` would give every transform the same numbers: two flips would always come together.
        compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        given: NDArray[Any] = np.ascontiguousarray(image)
        if given.dtype == np.uint16:  # which few transforms take
            given = given.astype(np.float32) / 65535
        try:
            found = compose(image=given, mask=_for_opencv(labels))
        except Exception as error:  # a transform raises whatever it likes
            what = " ".join(str(error).split())[:200]
            raise DataError(
                f"augment.pipeline: must take images of {image.shape[0]} x {image.shape[1]} px with {image.shape[2]} "
                f"channels of {image.dtype}, got {type(error).__name__}: {what}; change the pipeline"
            ) from error
        moved = np.asarray(found["image"])
        moved = moved[..., None] if moved.ndim == 2 else moved
        if moved.dtype != given.dtype or moved.ndim != 3 or moved.shape[2] != image.shape[2]:
            raise DataError(
                f"augment.pipeline: must give images of {given.dtype} with {image.shape[2]} channels, got "
                f"{moved.dtype} of shape {moved.shape}; leave out what changes the kind of values"
            )
        if moved.dtype != image.dtype:
            moved = np.rint(np.clip(moved, 0, 1) * 65535).astype(np.uint16)
        return np.ascontiguousarray(moved), np.ascontiguousarray(found["mask"]).astype(np.int32)

    def _compose(self) -> Any:
        """Return this thread's pipeline: its transforms keep generators of their own."""
        if not hasattr(self._of_thread, "compose"):
            self._of_thread.compose = _built(self._content)
        return self._of_thread.compose


class Pipeline:
    """An `Augmentation` that transforms the whole image by a pipeline, then takes a random crop of the result.

    If images are large, the pipeline should begin with a crop of its own. The pipeline's seed is drawn from the
    sample's generator.

    Args:
        content: Content of the pipeline; see `searcher.data_pipeline.pipeline_file`.
        crop: Function that takes the random crop.

    Raises:
        DataError: See `Transforms`.
    """

    def __init__(self, content: str, crop: Augmentation) -> None:
        self.crop_px = crop.crop_px
        self._transforms = Transforms(content)
        self._crop = crop

    def __call__(
        self,
        image: Image,
        labels: Labels,
        rng: np.random.Generator,
        out_image: Image,
        out_labels: NDArray[np.int32],
    ) -> Reflections:
        """Write a crop of what the pipeline makes of an image; see `Augmentation`."""
        seed = int(rng.integers(2**31))
        moved_image, moved_labels = self._transforms.moved(image, labels, seed)
        return self._crop(moved_image, moved_labels, rng, out_image, out_labels)


def check_pipeline(content: str) -> None:
    """Check that a pipeline can be built, and that it transforms labels like their image, on an image of noise.

    Raises:
        DataError: The problem, in one line.
    """
    transforms = Transforms(content)
    size = _largest_number(read_pipeline(content))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    labels = np.kron(
        np.arange(1, 17, dtype=np.int32).reshape(4, 4) * 1001, np.ones((-(-size // 4),) * 2, np.int32)
    )
    labels = np.ascontiguousarray(labels[:size, :size])
    for seed in range(_CHECK_SEEDS):
        moved, moved_labels = transforms.moved(image, labels, seed)
        if moved.shape[:2] != moved_labels.shape:
            raise DataError(
                f"augment.pipeline: must change image and labels alike, got {moved.shape[:2]} and "
                f"{moved_labels.shape} px; change the pipeline"
            )
        if fresh := sorted({*np.unique(moved_labels).tolist()} - {0, *np.unique(labels).tolist()}):
            raise DataError(
                f"augment.pipeline: must not make labels that were not there, got {fresh[0]}; take them from the "
                "nearest pixel, and fill with 0"
            )


def _built(content: str) -> Any:
    """Return the pipeline of a content.

    Raises:
        DataError: It is none, or it has a transform that makes no sense here.
    """
    tree = read_pipeline(content)
    known = serialization.SERIALIZABLE_REGISTRY
    for node in transforms_in(tree["transform"]):
        name = serialization.shorten_class_name(node["__class_fullname__"])
        if name in _REFUSED:
            raise DataError(f"augment.pipeline: must not have {name}, which {_REFUSED[name]}; leave it out")
        if name not in known or name.startswith(("Base", "_")) or name.endswith("3D"):
            raise DataError(
                f"augment.pipeline: must have transforms that albumentations {albumentations.__version__} has for "
                f"images, got {name!r}; leave it out, or import the plug-in that has it"
            )
        if node.get("fill_mask") not in (None, 0, 0.0):
            raise DataError(
                f"augment.pipeline: {name}.fill_mask must be 0, which is background, got {node['fill_mask']}; set it"
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", UserWarning
            )  # of an argument that is unknown, and would be left out
            compose = serialization.from_dict(tree)
    except Exception as error:  # albumentations raises whatever its classes do
        what = " ".join(str(error).split())[:300]
        raise DataError(
            f"augment.pipeline: must be a pipeline of albumentations {albumentations.__version__}, got "
            f"{type(error).__name__}: {what}; write it with that version"
        ) from error
    if not isinstance(compose, albumentations.Compose):
        raise DataError(f"augment.pipeline: must be a Compose, got {type(compose).__name__}; put it into one")
    compose.set_mask_interpolation(cv2.INTER_NEAREST)
    return compose


def _for_opencv(labels: Labels) -> NDArray[Any]:
    """Return labels of a type that every transform takes, with the same numbers."""
    highest = int(labels.max(initial=0))
    if highest <= np.iinfo(np.uint16).max and not is_partial(labels):
        return np.ascontiguousarray(labels, dtype=np.uint16)
    if highest > _MAX_EXACT:
        raise DataError(
            f"augment.pipeline: must have labels up to {_MAX_EXACT}, got {highest}; number the objects anew"
        )
    return np.ascontiguousarray(labels, dtype=np.float32)


def _largest_number(tree: dict[str, Any]) -> int:
    """Return the side of an image that no crop of the pipeline is too large for, at least 256."""
    largest = 256
    pending: list[Any] = [tree]
    while pending:
        node = pending.pop()
        pending += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        if isinstance(node, int | float) and not isinstance(node, bool) and largest < node <= 4096:
            largest = int(node)
    return largest
