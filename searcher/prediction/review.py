"""An image that a person is to correct: its objects, how sure networks are of them, and where to look."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.images import Raster
from searcher.data_pipeline.tiling import Tile
from searcher.inference.predictor import Predictor
from searcher.prediction.disagreement import (
    Comparison,
    Disagreement,
    Mirrored,
    compare_predictions,
    disagreement_of,
    disputed_region,
    read_mirrored,
)
from searcher.prediction.file_prediction import find_objects, resampling_scale
from searcher.prediction.geojson import object_ids, write_corrections
from searcher.prediction.images import Normalised, open_image
from searcher.prediction.label_map import LabelMap
from searcher.prediction.morphology import measure_objects
from searcher.prediction.raster import Resampled

__all__ = ["ReviewOptions", "ReviewedImage", "ReviewedObject", "Voice", "review_image"]


@dataclass(frozen=True)
class Voice:
    """One of the predictions that are compared: a predictor, and how its image is mirrored."""

    predictor: Predictor
    rows: bool = False
    """Whether it sees the image upside down."""
    columns: bool = False
    """Whether it sees the image from right to left."""


@dataclass(frozen=True, kw_only=True)
class ReviewOptions:
    """Settings of a review that are the same for every image."""

    folder: Path
    """Where the GeoJSON files go; scratch files, too."""
    trained_um: float | None
    """Pixel size of the images that the networks were trained on."""
    pixel_size_um: float | None
    """Pixel size of the images; it overrides their files."""
    class_name: str
    """Class of the objects."""
    class_names: tuple[str, ...] = field(default=(), kw_only=True)
    """Names of the classes that the networks tell apart; empty: none."""
    region_px: int
    """Side of the region that is to be corrected; smaller images are corrected as a whole."""


@dataclass(frozen=True)
class ReviewedObject:
    """An object in a review, with its place, its score, and how much the networks disagree about it."""

    image: str
    id: str
    """As in the GeoJSON file."""
    label: int
    disagreement: float
    score: float
    x: float
    """Column of its centre."""
    y: float
    """Row of its centre."""


@dataclass(frozen=True)
class ReviewedImage:
    """An image in a review: how much the networks disagree about it, the region to correct, and its objects."""

    path: Path
    geojson: str
    """Name of its GeoJSON file."""
    disagreement: float
    """0 to 1, see `Disagreement.of_image`."""
    missed: float
    """Mean number of objects of another prediction that this one lacks."""
    region: Tile
    """What is to be corrected."""
    objects: tuple[ReviewedObject, ...]
    """All objects of the image."""


def review_image(
    path: Path, predictor: Predictor, voices: Sequence[Voice], options: ReviewOptions
) -> ReviewedImage:
    """Predict an image by all networks together and by each voice, write its files to correct, and return the result.

    Args:
        path: The image file.
        predictor: All networks together, with the settings in the bundle.
        voices: The predictions to compare with that.
        options: Settings that are the same for every image.

    Raises:
        UserError: The image cannot be used.
        DataError: The file is not of the kind of images that the networks expect.
        OSError: Files cannot be written.
    """
    kind, folder = predictor.kind, options.folder
    with open_image(path, folder, kind) as raster, ExitStack() as stack:
        pixel_size_um = options.pixel_size_um or raster.pixel_size_um
        scale = resampling_scale(path, pixel_size_um, options.trained_um)
        shown = Normalised(raster, kind)
        seen: Raster = shown if scale == 1 else Resampled(shown, scale)
        ours = stack.enter_context(find_objects(predictor, seen, folder))
        ours.resize(raster.height, raster.width)
        found = disagreement_of([_compared(ours, voice, seen, raster, folder) for voice in voices])
        table = measure_objects(ours, shown if kind.is_colour else raster, None, is_stained=kind.is_colour)
        centres = np.stack([table["centroid_y_px"], table["centroid_x_px"]], axis=1).astype(np.float64)
        region = disputed_region(found, centres, raster.height, raster.width, side_px=options.region_px)
        target = folder / f"{path.stem}.geojson"
        write_corrections(
            target,
            ours,
            table,
            options.class_name,
            region=region,
            disagreement=found.of_objects,
            class_names=options.class_names,
        )
        ids = object_ids(target.stem, table)
        scores = table["score"].tolist()
        return ReviewedImage(
            path=path,
            geojson=target.name,
            disagreement=found.of_image,
            missed=found.num_missed,
            region=region,
            objects=_objects(path.name, ids, found, scores, centres),
        )


def _objects(
    name: str, ids: Sequence[str], found: Disagreement, scores: Sequence[float], centres: NDArray[np.float64]
) -> tuple[ReviewedObject, ...]:
    return tuple(
        ReviewedObject(name, each, index + 1, float(found.of_objects[index]), scores[index], column, row)
        for index, (each, (row, column)) in enumerate(zip(ids, centres.tolist(), strict=True))
    )


def _compared(ours: LabelMap, voice: Voice, seen: Raster, raster: Raster, folder: Path) -> Comparison:
    """Return how a voice's objects compare with ours."""
    turned = Mirrored(seen, rows=voice.rows, columns=voice.columns)
    with find_objects(voice.predictor, turned, folder) as labels:
        labels.resize(raster.height, raster.width)
        read: Callable[[Tile], NDArray[np.int32]] = lambda window: read_mirrored(  # noqa: E731
            labels, window, rows=voice.rows, columns=voice.columns
        )
        return compare_predictions(ours, read)
