"""Augmentation presets: from an image of the store to a training crop in a batch's buffer.

| preset | what it does |
|---|---|
| `none` | a random crop at the images' own scale |
| `poster` | vertical flip, horizontal flip, random 512 px crop, each with p = 0.5; then resized to the crop's side |
| `standard` | a random crop at the images' own scale, turned and mirrored (the 8 symmetries of the square), \
scaled, rotated, sheared, bent (elastic) and with jittered colour |
| `strong` | the same moves, farther, with jittered staining (H&E) in place of colour, some of them blurred |

In other images than 8 bit photographs in colour (other channels, fluorescence), each channel's brightness and contrast
are jittered instead of colour and staining.

What is drawn depends on the generator passed in alone, so that threads do not matter. Instance labels are only moved,
never mixed: the labels afterwards are a subset of the labels before. The exception are reflections of instances beyond
the image's border, which are instances of their own; `Augmentation` returns which.

OpenCV does the geometry and albumentations the colour, for speed. Flips and crops are views here: one resize or copy
reads them from the map into the batch's buffer. albumentations cannot do that: its Compose of the poster's four
transforms takes 1.4 ms an image, this 0.6 ms. For `standard`, crop, symmetry, affine and elastic are one resampling of
the needed pixels (about 3 ms). albumentations resamples at each step, and takes 33 ms for the elastic one (2.0.8, 512 x
512, one core).
"""

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.augmentation import Augmentation, Image, Labels, Reflections
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.intensity import IntensityJitter, is_colour
from searcher.data_pipeline.presets import AUGMENTATIONS, PRESETS, register_augmentation
from searcher.data_pipeline.stain import StainJitter
from searcher.data_pipeline.warp import (
    STANDARD,
    STRONG,
    Magnitudes,
    draw_start,
    draw_warp,
    resample,
    separate_reflections,
)
from searcher.parts import Part

__all__ = ["AUGMENTATIONS", "PRESETS", "Augmentation", "build_augmentation", "register_augmentation"]

_POSTER_CROP_PX = 512


def build_augmentation(
    preset: str,
    *,
    crop_px: int,
    strength: float = 1.0,
    is_photograph: bool = True,
    options: Mapping[str, Any] | None = None,
    pipeline: str = "",
) -> Augmentation:
    """Return the augmentation that a preset, or a pipeline of albumentations, describes.

    Args:
        preset: Name of a preset: one of `PRESETS`, or of a plug-in. Ignored if there is a `pipeline`.
        crop_px: Side of the crops, in pixels.
        strength: Factor on the magnitudes of `standard` and `strong`, at least 0: 1 is the preset as designed, 0 leaves
            only crops, flips and turns.
        is_photograph: Whether three channels of 8 bits are the colours of a photograph, whose hue and staining can be
            jittered. Otherwise they are treated as dyes, like any other number of channels.
        options: Checked settings of a plug-in's preset; None for its defaults.
        pipeline: Content of an albumentations pipeline, used instead of the preset; empty for none. See
            `searcher.data_pipeline.pipeline_file`.

    Raises:
        DataError: No preset has that name, or a number is out of range.
    """
    if crop_px < 1:
        raise DataError(
            f"augment.crop_px: must be at least 1, got {crop_px}; give the side of a crop in pixels"
        )
    if strength < 0:
        raise DataError(f"augment.strength: must be at least 0, got {strength}; 0 switches distortions off")
    if pipeline:
        from searcher.data_pipeline.pipeline import Pipeline  # albumentations takes seconds to import

        return Pipeline(pipeline, _Crop(crop_px))
    if not AUGMENTATIONS.known(preset):
        raise DataError(
            f"augment.preset: must be one of {', '.join(AUGMENTATIONS.names())}, got {preset!r}; choose one of them"
        )
    return AUGMENTATIONS[preset].made(
        crop_px=crop_px, strength=strength, is_photograph=is_photograph, options=options or {}
    )


class _Crop:
    """A random crop at native scale; an image smaller than it is continued by reflection."""

    def __init__(self, crop_px: int) -> None:
        self.crop_px = crop_px

    def __call__(
        self,
        image: Image,
        labels: Labels,
        rng: np.random.Generator,
        out_image: Image,
        out_labels: NDArray[np.int32],
        near: tuple[int, int] | None = None,
    ) -> Reflections:
        window = _random_window(image.shape, self.crop_px, rng, near)
        _copy_padded(image[window], out_image)
        top, left = _copy_padded(labels[window], out_labels)
        rows, columns = labels[window].shape
        if (rows, columns) != out_labels.shape:
            is_reflected = np.ones(out_labels.shape, np.bool_)
            is_reflected[top : top + rows, left : left + columns] = False
            return separate_reflections(out_labels, is_reflected)
        return None


class _Poster:
    """The DTU poster's augmentation. A crop is at most as large as the image."""

    def __init__(self, crop_px: int) -> None:
        self.crop_px = crop_px
        self._scratch = threading.local()

    def __call__(
        self,
        image: Image,
        labels: Labels,
        rng: np.random.Generator,
        out_image: Image,
        out_labels: NDArray[np.int32],
        near: tuple[int, int] | None = None,
    ) -> Reflections:
        flip_rows, flip_columns, crop = rng.random(3) < 0.5
        if crop:
            window = _random_window(image.shape, _POSTER_CROP_PX, rng, near)
            image, labels = image[window], labels[window]
        # Flipping last is the same as flipping first: where the crop lies is drawn uniformly, and what is
        # flipped is the small result instead of the whole image. OpenCV's flip codes: 0 rows, 1 columns, -1 both.
        code = (-1 if flip_columns else 0) if flip_rows else (1 if flip_columns else None)
        _resize_flip(image, out_image, cv2.INTER_LINEAR, code, self._buffer(image))
        # Linear interpolation aligns pixel centres; of the nearest modes only the exact one does so too.
        _resize_flip(labels, out_labels, cv2.INTER_NEAREST_EXACT, code, self._buffer(labels))
        return None

    def _buffer(self, like: NDArray[Any]) -> NDArray[Any]:
        """Return this thread's scratch for an image or a label map: fresh memory would cost page faults."""
        shape = (self.crop_px, self.crop_px, *like.shape[2:])
        buffers: dict[str, NDArray[Any]] = self._scratch.__dict__
        key = f"{like.dtype.str} {shape}"
        if key not in buffers:
            buffers[key] = np.empty(shape, dtype=like.dtype)
        return buffers[key]


class _Distorted:
    """Native-scale crops with every symmetry, distortion and colour that tissue may be seen in."""

    def __init__(
        self,
        crop_px: int,
        strength: float,
        magnitudes: Magnitudes,
        colour: Callable[[Image, np.random.Generator], None],
    ) -> None:
        self.crop_px = crop_px
        self._strength = strength
        self._magnitudes = magnitudes
        self._plain_crop = _Crop(crop_px)
        self._colour = colour

    def __call__(
        self,
        image: Image,
        labels: Labels,
        rng: np.random.Generator,
        out_image: Image,
        out_labels: NDArray[np.int32],
        near: tuple[int, int] | None = None,
    ) -> Reflections:
        if self._strength == 0:
            reflections = self._plain_crop(image, labels, rng, out_image, out_labels, near)
            _apply_symmetry(int(rng.integers(8)), out_image, out_labels)
            return reflections
        warp = draw_warp(image.shape[:2], self.crop_px, self._strength, rng, self._magnitudes, near)
        reflections = resample(image, labels, warp, out_image, out_labels)
        self._colour(out_image, rng)
        return reflections


class _Colour:
    """Brightness, contrast, saturation and hue, in place, by albumentations."""

    def __init__(self, strength: float, is_photograph: bool) -> None:
        self._is_photograph = is_photograph
        self._range = min(0.2 * strength, 0.9)
        self._hue = min(0.03 * strength, 0.5)
        self._intensity = IntensityJitter(self._range)
        self._of_thread = threading.local()
        if strength > 0 and is_photograph:
            self._compose()  # importing albumentations, and torch with it, takes seconds: not in the first batch

    def __call__(self, image: Image, rng: np.random.Generator) -> None:
        if not self._is_photograph or not is_colour(image):
            self._intensity(image, rng)
            return
        compose = self._compose()
        # Compose keeps generators of its own, so each thread has one, seeded anew for every sample (25 us).
        compose.set_random_seed(int(rng.integers(2**31)))
        np.copyto(image, compose(image=image)["image"])

    def _compose(self) -> Any:
        if not hasattr(self._of_thread, "compose"):
            os.environ.setdefault(
                "NO_ALBUMENTATIONS_UPDATE", "1"
            )  # it asks the network for news when imported
            import albumentations

            jitter = albumentations.ColorJitter(
                brightness=self._range, contrast=self._range, saturation=self._range, hue=self._hue, p=0.8
            )
            self._of_thread.compose = albumentations.Compose([jitter])
        return self._of_thread.compose


class _StainAndBlur:
    """Jittered staining of most images, and for some a focus that missed, in place."""

    _MAX_SIGMA_PX = 1.5
    _BLUR_PROBABILITY = 0.25

    def __init__(self, strength: float, is_photograph: bool) -> None:
        self._is_photograph = is_photograph
        self._stain = StainJitter(scale=min(0.3 * strength, 0.9), shift=0.1 * strength, probability=0.8)
        self._intensity = IntensityJitter(min(0.3 * strength, 0.9))
        self._max_sigma_px = self._MAX_SIGMA_PX * strength

    def __call__(self, image: Image, rng: np.random.Generator) -> None:
        if self._is_photograph and is_colour(image):
            self._stain(image, rng)  # type: ignore[arg-type]
        else:
            self._intensity(image, rng)
        is_blurred, sigma_px = rng.random() < self._BLUR_PROBABILITY, rng.random() * self._max_sigma_px
        if is_blurred and sigma_px > 0:
            np.copyto(image, cv2.GaussianBlur(image, (0, 0), sigma_px).reshape(image.shape))


def _standard(crop_px: int, strength: float, is_photograph: bool) -> Augmentation:
    return _Distorted(crop_px, strength, STANDARD, _Colour(strength, is_photograph))


def _strong(crop_px: int, strength: float, is_photograph: bool) -> Augmentation:
    return _Distorted(crop_px, strength, STRONG, _StainAndBlur(strength, is_photograph))


none: Part[Augmentation] = Part(_Crop)
poster: Part[Augmentation] = Part(_Poster)
standard: Part[Augmentation] = Part(_standard)
strong: Part[Augmentation] = Part(_strong)


def _random_window(
    shape: tuple[int, ...], size_px: int, rng: np.random.Generator, near: tuple[int, int] | None = None
) -> tuple[slice, slice]:
    """Return a window of `size_px`, or of the whole height or width where the image has less."""
    height, width = min(shape[0], size_px), min(shape[1], size_px)
    row, column = (None, None) if near is None else near
    y, x = draw_start(shape[0], height, rng, row), draw_start(shape[1], width, rng, column)
    return slice(y, y + height), slice(x, x + width)


def _copy_padded(source: Image | Labels, out: NDArray[Any]) -> tuple[int, int]:
    """Copy into `out`, centred and continued by reflection where the source is smaller; return where it begins."""
    missing_y, missing_x = out.shape[0] - source.shape[0], out.shape[1] - source.shape[1]
    top, left = missing_y // 2, missing_x // 2
    if missing_y or missing_x:
        source = cv2.copyMakeBorder(
            source, top, missing_y - top, left, missing_x - left, borderType=cv2.BORDER_REFLECT_101
        )
    np.copyto(out, source.reshape(out.shape))  # OpenCV drops an axis of one channel
    return top, left


def _resize_flip(
    source: NDArray[Any], out: NDArray[Any], interpolation: int, code: int | None, scratch: NDArray[Any]
) -> None:
    """Resize `source` to `out`'s size and flip it, passing over the pixels as few times as can be.

    `scratch` has the shape of `out` and the type of `source`; its content is lost.
    """
    convert = source.dtype != out.dtype
    if source.shape != out.shape:
        target = out if code is None and not convert else scratch
        cv2.resize(source, out.shape[1::-1], dst=target, interpolation=interpolation)
        source = target
    if code is not None:
        target = scratch if convert else out
        cv2.flip(source, code, dst=target)
        source = target
    if source is not out:
        np.copyto(out, source)


def _apply_symmetry(symmetry: int, *arrays: NDArray[Any]) -> None:
    """Turn square arrays into one of the 8 symmetries of the square, in place: transposed, then flipped."""
    rows, columns = (slice(None, None, -1 if symmetry & bit else 1) for bit in (1, 2))
    for array in arrays:
        turned = array.swapaxes(0, 1) if symmetry & 4 else array
        np.copyto(array, turned[rows, columns].copy())
