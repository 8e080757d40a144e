"""A bundle at work: the objects in an image that is in memory."""

import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from searcher.api.arguments import PathLike, check_count
from searcher.api.networks import normalise_as_wished
from searcher.api.progress import ProgressLine
from searcher.api.words import in_python
from searcher.bundle.load import Bundle
from searcher.data_pipeline.images import ImageHeader, Raster
from searcher.data_pipeline.scratch import Closing
from searcher.data_pipeline.tiling import Tile
from searcher.exceptions import UserError
from searcher.inference.precision import default_device
from searcher.prediction.file_prediction import FailedImage, PredictedImage, find_objects, resampling_scale
from searcher.prediction.images import Normalised, require_kind
from searcher.prediction.raster import Resampled

__all__ = ["FoundObjects", "LoadedBundle"]

logger = logging.getLogger(__name__)


class _ThreeArrays(NamedTuple):
    """What `FoundObjects` unpacks to."""

    labels: NDArray[np.int32]
    """int32[H, W]: 0 is background, 1 to n are objects without gaps."""
    scores: NDArray[np.float32]
    """float32[n] in 0 to 1; `scores[i]` belongs to label `i + 1`."""
    classes: NDArray[np.int32]
    """int32[n]: the number of each object's class, from 1; `LoadedBundle.class_names` has their names. Networks that
    learned no classes give 1 to every object."""


class FoundObjects(_ThreeArrays):
    """The n objects found in an image. It unpacks to label map, scores and classes."""

    class_probabilities: NDArray[np.float32] | None = None
    """float32[n, K], the probability of each class; None where the networks learned no classes."""


class LoadedBundle:
    """The networks of a bundle, ready to predict. Made by `searcher.load_bundle`.

    Args:
        bundle: The verified bundle.
        device: `cpu` or `cuda`; None for a GPU if there is one.
        tta: Whether to average the 8 turned and mirrored versions of an image; None to do as the bundle says.
        normalisation: How pixel values become 0..255: `bundle` (as in training), `fixed` (unchanged) or `percentile`.
    """

    def __init__(self, bundle: Bundle, *, device: str | None, tta: bool | None, normalisation: str) -> None:
        self.bundle = bundle
        """The bundle's parts, with its manifest."""
        where = default_device() if device is None else torch.device(device)
        self._predictor = bundle.predictor(device=where, tta=tta)
        configs = [member.facts.config for member in bundle.members]
        normalise_as_wished(self._predictor, normalisation, configs)

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.bundle.name

    @property
    def path(self) -> Path:
        """Folder of the bundle."""
        return self.bundle.path

    @property
    def pixel_size_um(self) -> float | None:
        """Side of a pixel of the training images in micrometres; None if it is not known."""
        return self.bundle.pixel_size_um

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that the networks distinguish, class 1 first; empty if they learned none."""
        return self.bundle.class_names

    @property
    def channels(self) -> int:
        """Number of channels of the images that the networks expect."""
        return self._predictor.kind.channels

    def __repr__(self) -> str:
        return f"LoadedBundle({self.name!r}, {self.path})"

    def predict(self, image: NDArray[Any], *, pixel_size_um: float | None = None) -> FoundObjects:
        """Return the objects in an image; the same that `searcher predict` finds in a file with these pixels.

        Args:
            image: uint8 or uint16, [H, W] or [H, W, C], with the channels of the training images. For networks trained
                on colour, a grey image is repeated three times.
            pixel_size_um: Side of a pixel in micrometres. If it differs from that of the training images, the network
                gets the image resampled. None to leave the image as it is.

        Returns:
            `labels`, `scores` and `classes`, see `FoundObjects`.

        Raises:
            UserError: The array is no image of the expected kind.
        """
        array = _checked(image)
        raster = _ArrayRaster(array, pixel_size_um)
        kind = self._predictor.kind
        require_kind(_HERE, raster.header, kind)
        scale = resampling_scale(_HERE, pixel_size_um, self.pixel_size_um)
        shown = Normalised(raster, kind)
        if shown.is_dark:
            what = "brightened" if kind.normalisation.brightens_dark else "taken as it is"
            logger.warning("image: dark, 99.8%% of the pixels are below 64 of 255; %s", what)
        seen: Raster = shown if scale == 1 else Resampled(shown, scale)
        with (
            tempfile.TemporaryDirectory(prefix="searcher-") as scratch,
            find_objects(self._predictor, seen, Path(scratch)) as labels,
        ):
            labels.resize(raster.height, raster.width)
            found = labels.read(Tile(0, 0, raster.height, raster.width))
            scores = np.array(labels.scores, np.float32)
            classes = np.ones(len(scores), np.int32) if labels.classes is None else labels.classes
            objects = FoundObjects(np.array(found, np.int32), scores, classes)
            objects.class_probabilities = labels.class_probabilities
            return objects

    @in_python
    def predict_files(
        self,
        images: PathLike | Sequence[PathLike],
        to: PathLike,
        *,
        outputs: Sequence[str] = ("labels", "overlay", "csv", "geojson"),
        pixel_size_um: float | None = None,
        class_name: str | None = None,
        threshold: float | None = None,
        min_area_px: int | None = None,
        region: PathLike | None = None,
        skip_glass: bool = False,
        force: bool = False,
        skip_existing: bool = False,
        progress: bool = False,
    ) -> list[PredictedImage | FailedImage]:
        """Find, measure and outline the objects in image files of any size; like `searcher predict`.

        A broken image does not stop the others. Only one process at a time may write into a folder.

        Args:
            images: Files or folders of files: png, jpg, bmp, TIFF, OME-TIFF, whole slides.
            to: Folder for the outputs, and for `predictions.csv` with a row for each image.
            outputs: Kinds of files to write for each image.
            pixel_size_um: Side of a pixel of the images in micrometres; None to use the size that each file states.
            class_name: Class of the objects in GeoJSON; None for that of the bundle.
            threshold: Probability, between 0 and 1, above which a pixel belongs to an object; for detectors, the score
                of a detection. None for that of the bundle.
            min_area_px: Smallest area of an object in pixels of the image; None for that of the bundle.
            region: The part of the image to predict: `X,Y,W,H` in pixels, or a GeoJSON file with polygons. None for
                all.
            skip_glass: Whether to skip tiles that show only glass.
            force: Whether to replace existing outputs.
            skip_existing: Whether to skip images whose outputs exist, to resume.
            progress: Whether to show a progress bar on standard error.

        Returns:
            One entry for each image that was predicted now: a `PredictedImage` with `name`, `height`, `width`,
            `objects` and `seconds`; or a `FailedImage` with `name` and `reason`, in one line.

        Raises:
            UserError: The images or the folder cannot be used, or another process writes into it.
        """
        from searcher.api.predicting_files import (
            PredictWish,
            check_class_name,
            check_glass,
            check_pixel_size,
            images_of,
            images_to_predict,
            predict_files,
            wanted_outputs,
        )
        from searcher.prediction.file_prediction import Options
        from searcher.prediction.selection import read_region

        if force and skip_existing:
            raise UserError("force: must not go with skip_existing, got both; choose one of them")
        check_class_name("class_name", class_name, self.bundle.class_names)
        check_pixel_size(pixel_size_um)
        check_glass(self._predictor, skips=skip_glass)
        check_count("min_area_px", min_area_px)
        if threshold is not None and not 0 < threshold < 1:
            raise UserError(
                f"threshold: must be between 0 and 1, got {threshold!r}; leave it out, or give one"
            )
        given = [images] if isinstance(images, str | os.PathLike) else images
        wish = PredictWish(
            given=[Path(each) for each in given],
            to=Path(to),
            outputs=wanted_outputs(",".join([outputs] if isinstance(outputs, str) else outputs)),
            force=force,
            skip_existing=skip_existing,
        )
        paths = images_of(wish.given)
        num_images, num_done = len(images_to_predict(wish, paths)), 0
        line = ProgressLine(progress)

        def done(result: PredictedImage | FailedImage) -> PredictedImage | FailedImage:
            nonlocal num_done
            num_done += 1
            line.show("images", num_done, num_images)
            if isinstance(result, FailedImage):
                logger.warning("%s", result.reason, exc_info=result.unforeseen)
            return result

        try:
            return predict_files(
                wish,
                paths,
                self._predictor,
                Options(
                    folder=wish.to,
                    trained_um=self.pixel_size_um,
                    pixel_size_um=pixel_size_um,
                    outputs=wish.outputs,
                    class_name=class_name or self.bundle.class_name,
                    class_names=self.bundle.class_names,
                    threshold=threshold,
                    min_area_px=min_area_px,
                    region=None if region is None else read_region(os.fspath(region)),
                    skips_glass=skip_glass,
                ),
                begun=lambda num: line.show("images", 0, num),
                done=done,
                progress=lambda _title, _done, _total: None,
                problem=logger.warning,
            )
        finally:
            line.end()


_HERE = Path("image")
"""How errors name an array."""


def _checked(image: NDArray[Any]) -> NDArray[Any]:
    """Return an array as an image [H, W, C].

    Raises:
        UserError: It is none.
    """
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.dtype not in (np.uint8, np.uint16) or array.ndim != 3 or 0 in array.shape:
        raise UserError(
            f"image: must be uint8 or uint16, [H, W] or [H, W, C] with at least one pixel, got "
            f"{np.asarray(image).dtype}{list(np.asarray(image).shape)}; convert it first, values 0 to 255 as uint8"
        )
    return array


class _ArrayRaster(Closing):
    """An image in memory as a `Raster`."""

    def __init__(self, array: NDArray[Any], pixel_size_um: float | None) -> None:
        self._array = array
        self.height, self.width, channels = array.shape
        self.pixel_size_um = pixel_size_um
        self.header = ImageHeader(
            height=self.height,
            width=self.width,
            channels=channels,
            dtype=array.dtype,
            colour="grey" if channels == 1 else "rgb" if channels == 3 else "channels",
            pixel_size_um=pixel_size_um,
        )

    def read(self, window: Tile) -> NDArray[Any]:
        """Return the pixels [h, w, C] of a window."""
        rows = slice(window.y, window.y + window.height)
        return self._array[rows, window.x : window.x + window.width]
