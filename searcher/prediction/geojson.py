"""Objects as GeoJSON: as QuPath shows them, and as a person corrects them there."""

import json
import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.annotations.geojson import DISAGREEMENT
from searcher.data_pipeline.tiling import Tile
from searcher.prediction.label_map import LabelMap
from searcher.prediction.morphology import Column
from searcher.prediction.outlines import Polygon, outline
from searcher.report.class_colours import class_colour
from searcher.report.overlays import PREDICTION_COLOUR

__all__ = ["object_ids", "write_corrections", "write_geojson"]

_OBJECTS = uuid.uuid5(uuid.NAMESPACE_URL, "gland-searcher/objects")
_REGION_COLOUR = (255, 200, 0)


def write_geojson(
    path: Path,
    labels: LabelMap,
    table: Mapping[str, Column],
    class_name: str,
    *,
    class_names: Sequence[str] = (),
) -> None:
    """Write all objects as GeoJSON for QuPath: a detection each, with id, outline, class and measurements.

    The id is a UUID that follows from the file's name, the object's number and its bounding box.

    Coordinates are pixels of the image at full resolution, (0, 0) the upper left corner of its first pixel.

    Args:
        path: The file to write.
        labels: The label map, read in windows.
        table: Measurements by column, a value for each object in the order of the labels.
        class_name: Class of all objects if `class_names` is empty.
        class_names: Names of the classes that the networks learned, class 1 first; each object then has its own class.
    """
    # QuPath has the area itself, and places by the outline.
    columns = {
        name: column.tolist()
        for name, column in table.items()
        if not name.startswith(("label", "bbox", "centroid")) and name != "class"
    }
    measured = ({name: column[index] for name, column in columns.items()} for index in range(len(labels)))
    classified = _classified(labels, class_name, class_names)
    _write(path, _features(path.stem, labels, table, classified, "detection", range(len(labels)), measured))


def write_corrections(
    path: Path,
    labels: LabelMap,
    table: Mapping[str, Column],
    class_name: str,
    *,
    region: Tile,
    disagreement: NDArray[np.float64],
    class_names: Sequence[str] = (),
) -> None:
    """Write a region to correct and the objects in it as GeoJSON annotations, which QuPath can edit.

    Each object has its `disagreement` as a measurement. `searcher data import` imports the corrected file: outside the
    region nothing is annotated.

    Args:
        path: The file to write.
        labels: Label map of the whole image.
        table: The result of `measure_objects`.
        class_name: Class of all objects if `class_names` is empty.
        region: The region to correct. An object is written, whole, if its bounding box meets the region.
        disagreement: float64[n], disagreement about each object, 0 to 1.
        class_names: Names of the classes that the networks learned; see `write_geojson`.
    """
    met = [index for index, box in enumerate(_boxes(table)) if _meet(box, region)]
    measured = (
        {DISAGREEMENT: float(disagreement[index]), "score": float(table["score"][index])} for index in met
    )
    classified = _classified(labels, class_name, class_names)
    objects = _features(path.stem, labels, table, classified, "annotation", met, measured)
    _write(path, (each for part in ([_region(region)], objects) for each in part))


def object_ids(stem: str, table: Mapping[str, Column]) -> list[str]:
    """Return the id of each object, as the GeoJSON files of an image have it.

    Args:
        stem: Name of the image file without its last ending.
        table: The result of `measure_objects`.
    """
    return [
        str(uuid.uuid5(_OBJECTS, f"{stem!a}/{number}/{box.y},{box.x},{box.height},{box.width}"))
        for number, box in enumerate(_boxes(table), start=1)
    ]


def _boxes(table: Mapping[str, Column]) -> list[Tile]:
    columns = (table[f"bbox_{name}_px"].tolist() for name in ("y", "x", "height", "width"))
    return [Tile(*map(int, box)) for box in zip(*columns, strict=True)]


def _meet(one: Tile, other: Tile) -> bool:
    return (
        one.y < other.y + other.height
        and other.y < one.y + one.height
        and one.x < other.x + other.width
        and other.x < one.x + one.width
    )


def _features(
    stem: str,
    labels: LabelMap,
    table: Mapping[str, Column],
    classified: Callable[[int], dict[str, Any]],
    object_type: str,
    wanted: Sequence[int],
    measured: Iterator[dict[str, float]],
) -> Iterator[dict[str, Any]]:
    boxes, ids = _boxes(table), object_ids(stem, table)
    for index, values in zip(wanted, measured, strict=True):
        yield {
            "type": "Feature",
            "id": ids[index],
            "geometry": _geometry(outline(labels, index + 1, boxes[index])),
            "properties": {
                "objectType": object_type,
                "name": str(index + 1),
                "classification": classified(index),
                "measurements": {
                    name: _rounded(value) for name, value in values.items() if math.isfinite(value)
                },
            },
        }


def _classified(
    labels: LabelMap, class_name: str, class_names: Sequence[str]
) -> Callable[[int], dict[str, Any]]:
    """Return what gives an object's classification by its index: its class if any were learned, else one for all."""
    classes = labels.classes
    if classes is None or not class_names:
        return lambda _: {"name": class_name, "color": list(PREDICTION_COLOUR)}
    by_number = [
        {"name": name, "color": list(class_colour(number))}
        for number, name in enumerate(class_names, start=1)
    ]
    return lambda index: by_number[classes[index] - 1]


def _region(region: Tile) -> dict[str, Any]:
    left, top, right, bottom = region.x, region.y, region.x + region.width, region.y + region.height
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_OBJECTS, f"region/{region.y},{region.x},{region.height},{region.width}")),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "objectType": "annotation",
            "name": "correct here",
            "classification": {"name": "Region*", "color": list(_REGION_COLOUR)},
            "isLocked": True,
        },
    }


def _write(path: Path, features: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, feature in enumerate(features):
            file.write(",\n" if number else "\n")
            file.write(json.dumps(feature, allow_nan=False))
        file.write("\n]}\n")


def _geometry(polygons: list[Polygon]) -> dict[str, Any]:
    rings = [
        [[list(corner) for corner in [*ring, ring[0]]] for ring in (polygon.exterior, *polygon.holes)]
        for polygon in polygons
    ]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.8g}")
