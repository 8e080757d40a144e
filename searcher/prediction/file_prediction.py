"""From an image file to files about its objects; and many images, of which some may be broken."""

import errno
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import Raster
from searcher.exceptions import UserError
from searcher.inference.predictor import Predictor
from searcher.models.settings import PostprocessSettings
from searcher.prediction.dense import cut_blended, see_dense
from searcher.prediction.detections import cut_detected, see_detections
from searcher.prediction.geojson import write_geojson
from searcher.prediction.images import Normalised, open_image
from searcher.prediction.label_map import LabelMap
from searcher.prediction.morphology import Column, measure_objects
from searcher.prediction.outputs import (
    OUTPUTS,
    all_or_nothing,
    check_places,
    output_paths,
    write_csv,
    write_labels,
    write_overlay,
)
from searcher.prediction.raster import MAX_SCALE, Resampled
from searcher.prediction.selection import Region, Selection, keep_in_region, require_inside
from searcher.renamed import old_names

__all__ = [
    "PIXEL_SIZES_UM",
    "ClassFound",
    "FailedImage",
    "Options",
    "PredictedImage",
    "find_objects",
    "guarded",
    "predict_image",
    "predict_images",
    "resampling_scale",
]

logger = logging.getLogger(__name__)

PIXEL_SIZES_UM = (1e-3, 1e3)
"""The smallest and the largest side of a pixel, in um, that an image may have: beyond them it is a mistake."""
_DISK_FAILS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Errors that end the work on all images, because the next write would fail, too."""
_LONGEST_REASON = 160
_SAME_SIZE = 0.01
"""Pixel sizes that differ less are taken to be the same."""

_Result = TypeVar("_Result")

Progress = Callable[[str, int, int], None]
"""Receives the current task, the number of its finished steps, and the number of all its steps."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of a prediction that are the same for every image."""

    folder: Path
    """Where outputs go; scratch files, too."""
    trained_um: float | None = None
    """Pixel size of the images that the models were trained on."""
    pixel_size_um: float | None = None
    """Pixel size of the images; it overrides their files."""
    outputs: Sequence[str] = tuple(OUTPUTS)
    """Of `OUTPUTS`."""
    class_name: str = "Gland"
    """Class of the objects in GeoJSON."""
    class_names: tuple[str, ...] = ()
    """Names of the classes that the networks tell apart; empty: none, and `class_name` is that of every object."""
    threshold: float | None = None
    """Probability above which a pixel is foreground, or score above which a detection counts; None: as trained."""
    min_area_px: int | None = None
    """Smallest object, in pixels of the image; None: as trained, in pixels that the network sees."""
    region: Region | None = None
    """Where objects are looked for; None for the whole image."""
    skips_glass: bool = False
    """Whether tiles of glass are left out."""


@dataclass(frozen=True, kw_only=True)
class ClassFound:
    """The number and total area of the objects of one class in an image."""

    objects: int
    area_px: int | None
    """Of all of them; None where they were not measured."""

    def to_dict(self, pixel_size_um: float | None) -> dict[str, Any]:
        """Return the number and areas of the objects as a dictionary that can be written as JSON.

        Args:
            pixel_size_um: Side of a pixel in micrometres; None if it is not known.
        """
        is_known = self.area_px is not None and pixel_size_um is not None
        area_um2 = self.area_px * pixel_size_um**2 if is_known else None  # type: ignore[operator]
        return {"objects": self.objects, "area_px": self.area_px, "area_um2": area_um2}


@dataclass(frozen=True, kw_only=True)
class PredictedImage:
    """The result of predicting one image: its size, and number and area of the objects."""

    name: str
    """Its file's name."""
    height: int
    width: int
    pixel_size_um: float | None
    """Of the image; None where it is not known."""
    scale: float
    """Pixels that the network saw per pixel of the image; 1 where nothing was resampled."""
    objects: int
    area_px: int | None
    """Of all objects; None where they were not measured."""
    seconds: float
    classes: Mapping[str, "ClassFound"] = field(default_factory=dict)
    """What was found of each class, by its name; empty where none were learned."""
    is_dark: bool = False
    """Whether networks that take an image as it is got one whose values are all low; see `Normalised.is_dark`."""
    glass_tiles: int = 0
    """Tiles of glass, which the networks did not see."""

    @property
    def area_um2(self) -> float | None:
        """Area of all objects in square micrometres; None if the pixel size is not known."""
        if self.area_px is None or self.pixel_size_um is None:
            return None
        return self.area_px * self.pixel_size_um**2

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        left_out = ("is_dark", "glass_tiles", "classes")
        values = {name: value for name, value in vars(self).items() if name not in left_out}
        values["area_um2"] = self.area_um2
        if self.classes:
            values["classes"] = {
                name: found.to_dict(self.pixel_size_um) for name, found in self.classes.items()
            }
        return values


@dataclass(frozen=True)
class FailedImage:
    """An image that could not be predicted, and the reason."""

    name: str
    """Its file's name."""
    reason: str
    """One line with the file's path."""
    unforeseen: Exception | None = None
    """The error with its traceback, where it is none of an image's usual ones. Holds memory: not to be kept."""


def predict_images(
    paths: Sequence[Path],
    predictor: Predictor,
    options: Options,
    *,
    done: Callable[[PredictedImage | FailedImage], None],
    progress: Progress | None = None,
) -> None:
    """Predict images one after the other; a broken image does not stop the others.

    Args:
        paths: Image files whose names differ without their endings.
        predictor: The models.
        options: Settings that are the same for every image.
        done: Called with the result of each image.
        progress: Receives the progress within an image; None for nobody.

    Raises:
        UserError: The disk is full or broken. The outputs of earlier images are complete.
    """
    for path in paths:
        done(
            guarded(
                path,
                options.folder,
                partial(predict_image, path, predictor, options, progress),
                remedy="make room, and go on with --skip-existing",
            )
        )


def guarded(
    path: Path, folder: Path, work: Callable[[], _Result], *, remedy: str = "make room"
) -> "_Result | FailedImage":
    """Return the result of work on an image; for a broken image, a `FailedImage` with the reason.

    Args:
        path: The image file.
        folder: Folder of the outputs, for messages.
        work: Function that does the work.
        remedy: Remedy in the message if the disk is full.

    Raises:
        UserError: The disk is full or broken.
    """
    try:
        return work()
    except OSError as error:
        if error.errno in _DISK_FAILS:
            raise UserError(
                f"{folder}: outputs of {path.name} could not be written: {error.strerror or error}; {remedy}"
            ) from error
        return FailedImage(path.name, _foreseen(path, error) or _unforeseen(path, error))
    except Exception as error:  # one image, whatever it brings about, never costs the others
        reason = _foreseen(path, error)
        return FailedImage(path.name, reason or _unforeseen(path, error), None if reason else error)


def _foreseen(path: Path, error: Exception) -> str | None:
    """Return in one line why an image could not be predicted; None for an error that no image should bring about."""
    if isinstance(error, UserError | DataError):
        return " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"{path}: a tile must fit the device's memory, which is full; end what else runs there, or take the CPU "
            "(CUDA_VISIBLE_DEVICES='')"
        )
    if isinstance(error, MemoryError) or "allocate memory" in str(error):  # of torch, a RuntimeError
        return f"{path}: the image must fit the memory, which is full; end what else runs, or cut it up"
    if isinstance(error, OSError):
        where = path if error.filename is None else error.filename
        return (
            f"{path}: its outputs must be written, got {error.strerror or error} at {where}; fix that place"
        )
    return None


def _unforeseen(path: Path, error: Exception) -> str:
    said = " ".join(str(error).split())[:_LONGEST_REASON]
    return f"{path}: must be predicted, got an unexpected {type(error).__name__}: {said}; report it"


def predict_image(
    path: Path, predictor: Predictor, options: Options, progress: Progress | None = None
) -> PredictedImage:
    """Predict an image, write the wanted outputs, and return the result.

    Args:
        path: The image file.
        predictor: The networks.
        options: What to write, where, and how to cut instances.
        progress: Receives the progress; None for nobody.

    Raises:
        UserError: The image cannot be used.
        OSError: Outputs or scratch files cannot be written.
    """
    began = time.monotonic()
    say = progress or (lambda *_: None)
    paths = output_paths(options.folder, path.stem, options.outputs)
    check_places(path, paths)
    is_unchanged = _watched(path)
    kind = predictor.kind
    with open_image(path, options.folder, kind) as raster:
        pixel_size_um = options.pixel_size_um or raster.pixel_size_um
        scale = resampling_scale(path, pixel_size_um, options.trained_um)
        if options.region is not None:
            require_inside(path, raster, options.region)
        shown = Normalised(raster, kind)
        selection = Selection(options.region, options.skips_glass, scale)
        seen: Raster = shown if scale == 1 else Resampled(shown, scale)
        with (
            find_objects(
                predictor,
                seen,
                options.folder,
                lambda *step: say("predicting", *step),
                settings=_settings(predictor, options, scale),
                selection=selection,
            ) as labels,
            all_or_nothing(paths) as written,
        ):
            labels.resize(raster.height, raster.width)
            if options.region is not None:
                keep_in_region(labels, options.region)
            area_px, table = None, {}
            if {"csv", "geojson"} & {*written}:
                table = measure_objects(
                    labels,
                    shown if kind.is_colour else raster,
                    pixel_size_um,
                    lambda *step: say("measuring", *step),
                    is_stained=kind.is_colour,
                )
                area_px = int(table["area_px"].sum())
                table |= _class_columns(labels, options.class_names)
            say("writing", 0, 1)
            if "labels" in written:
                write_labels(written["labels"], labels, pixel_size_um)
            if "overlay" in written:
                write_overlay(written["overlay"], labels, shown, options.class_names)
            if "csv" in written:
                write_csv(written["csv"], table)
            if "geojson" in written:
                write_geojson(
                    written["geojson"], labels, table, options.class_name, class_names=options.class_names
                )
            if not is_unchanged():
                raise UserError(
                    f"{path}: the file must stay as it is while it is read, got another one; predict it again"
                )
        return PredictedImage(
            name=path.name,
            height=raster.height,
            width=raster.width,
            pixel_size_um=pixel_size_um,
            scale=scale,
            objects=len(labels),
            area_px=area_px,
            seconds=round(time.monotonic() - began, 3),
            classes=_found_by_class(labels, options.class_names, table.get("area_px")),
            is_dark=shown.is_dark,
            glass_tiles=selection.num_glass,
        )


def find_objects(
    predictor: Predictor,
    raster: Raster,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    settings: PostprocessSettings | None = None,
    selection: Selection | None = None,
) -> LabelMap:
    """Return the objects in an image of any size, as a label map of the image's size.

    Args:
        predictor: The models.
        raster: The image.
        folder: Folder for scratch files.
        progress: Called with the numbers of finished and of all tiles.
        settings: Settings of post-processing; None for those of the models.
        selection: Chooses the tiles to predict; None for all.

    Raises:
        UserError: The image cannot be decoded.
        OSError: The disk is full.
    """
    settings = settings or predictor.postprocess
    if predictor.is_dense:
        with see_dense(predictor, raster, folder, selection=selection, progress=progress) as blended:
            return cut_blended(blended, settings, folder)
    with see_detections(predictor, raster, folder, selection=selection, progress=progress) as detected:
        labels = cut_detected(detected, settings, folder)
    if predictor.num_classes and labels.class_probabilities is None:  # no tile was seen
        labels.class_probabilities = np.zeros((len(labels), predictor.num_classes), np.float32)
    return labels


def _class_columns(labels: LabelMap, class_names: Sequence[str]) -> dict[str, Column]:
    """Return the columns `class` and `class_probability` of the table of objects; none without classes."""
    classes, probabilities = labels.classes, labels.class_probabilities
    if classes is None or probabilities is None or not class_names:
        return {}
    return {
        "class": np.array(class_names, object)[classes - 1],
        "class_probability": probabilities.max(axis=1, initial=0),
    }


def _found_by_class(
    labels: LabelMap, class_names: Sequence[str], areas: Column | None
) -> dict[str, ClassFound]:
    """Return what was found of each class, also of those without objects; nothing without classes."""
    classes = labels.classes
    if classes is None:
        return {}
    return {
        name: ClassFound(
            objects=int(np.count_nonzero(classes == number)),
            area_px=None if areas is None else int(areas[classes == number].sum()),
        )
        for number, name in enumerate(class_names, start=1)
    }


def _settings(predictor: Predictor, options: Options, scale: float) -> PostprocessSettings:
    """Return how instances are cut: as the models say, but for what a person wants."""
    wanted: dict[str, float] = {}
    if options.threshold is not None:
        wanted["threshold" if predictor.is_dense else "min_score"] = options.threshold
    if options.min_area_px is not None:
        wanted["min_object_area_px"] = round(options.min_area_px * scale**2)
    return predictor.postprocess.model_copy(update=wanted)


def _watched(path: Path) -> Callable[[], bool]:
    """Return what tells whether a file is still the one that it is now."""

    def state() -> tuple[int, ...] | None:
        try:
            status = path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    before = state()
    return lambda: state() == before


def _check_pixel_size(path: Path, pixel_size_um: float | None) -> None:
    least, most = PIXEL_SIZES_UM
    if pixel_size_um is not None and not least <= pixel_size_um <= most:
        raise UserError(
            f"{path}: a pixel's side must be from {least:g} to {most:g} um, got {pixel_size_um:g} um; give "
            "--pixel-size-um"
        )


def resampling_scale(path: Path, pixel_size_um: float | None, trained_um: float | None) -> float:
    """Return the factor by which an image is resized for the network; 1 if a pixel size is not known.

    Args:
        path: The image file, for messages.
        pixel_size_um: Side of the image's pixels in micrometres; None if it is not known.
        trained_um: Side of the training images' pixels in micrometres; None if it is not known.

    Raises:
        UserError: The pixel size is implausible, or differs too much from that of the training images.
    """
    _check_pixel_size(path, pixel_size_um)
    if pixel_size_um is None or trained_um is None:
        return 1.0
    scale = pixel_size_um / trained_um
    if not 1 / MAX_SCALE <= scale <= MAX_SCALE:
        raise UserError(
            f"{path}: an image's pixels must be at most {MAX_SCALE:g} times larger or smaller than those that "
            f"were trained on ({trained_um:g} um), got {pixel_size_um:g} um; give --pixel-size-um"
        )
    return 1.0 if abs(scale - 1) < _SAME_SIZE else scale


__getattr__ = old_names(__name__)
