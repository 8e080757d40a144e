"""GeoJSON as QuPath writes it, and as `searcher predict` does.

Coordinates are pixels of the image at full resolution, (0, 0) the upper left corner of its first pixel. Detections and
cells are objects, and annotations are the regions in which they were looked for; in a file of annotations alone the
annotations are the objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shapely

from searcher.data_pipeline.datasets.annotations.shapes import Shape, polygon_shape
from searcher.data_pipeline.datasets.annotations.text_files import read_json, starts_with
from searcher.data_pipeline.exceptions import DataError

__all__ = ["DISAGREEMENT", "GeoJson", "is_geojson", "may_have_ignored", "read_geojson", "rectangle"]

DISAGREEMENT = "disagreement"
"""Measurement by which objects of `searcher review` are known."""
_OBJECT_TYPES = {"detection", "cell", "tile"}
_REGION_CLASSES = {"Region*"}
_IGNORED_CLASSES = {"Ignore*"}
_KINDS = ("Feature", "FeatureCollection")


@dataclass(frozen=True)
class GeoJson:
    """The objects, annotated regions and ignored areas of one GeoJSON file, and remarks on it."""

    shapes: list[Shape]
    """The objects."""
    regions: list[Shape]
    """Where objects were looked for; empty if that is everywhere."""
    ignored: list[Shape]
    """What nobody annotated, though it lies where objects were looked for: the class `Ignore*`."""
    remarks: tuple[str, ...]
    """What is not used, one line each."""


def is_geojson(path: Path) -> bool:
    """Return whether a file starts like GeoJSON, or like a plain list of features, which QuPath writes as well."""
    start = starts_with(path)
    return start[:1] in (b"{", b"[") and (b'"Feature' in start or path.suffix.lower() == ".geojson")


def read_geojson(path: Path) -> GeoJson:
    """Return the objects and regions that a GeoJSON file describes.

    Raises:
        DataError: The file is not GeoJSON, or holds an object that cannot be used.
    """
    features = _features(path, read_json(path))
    objects = [_object_type(feature) in _OBJECT_TYPES for feature in features]
    has_objects = any(objects)
    shapes: list[Shape] = []
    regions: list[Shape] = []
    ignored: list[Shape] = []
    num_points = 0
    for number, (feature, is_object) in enumerate(zip(features, objects, strict=True), start=1):
        name = f"feature {number}"
        geometry, category = _geometry(path, name, feature), _category(path, name, feature)
        polygons = _polygons(path, name, geometry)
        if polygons is None:
            num_points += 1
            continue
        shape = polygon_shape(str(path), name, category, polygons)
        is_region = category in _REGION_CLASSES or (has_objects and not is_object)
        is_ignored = category in _IGNORED_CLASSES
        (ignored if is_ignored else regions if is_region else shapes).append(shape)
    if not regions and any(map(_is_of_review, features)):
        raise DataError(
            f"{path}: a corrected review must keep its region, the annotation of the class Region*, since nothing is "
            "annotated outside it, got none; put it back"
        )
    remarks = []
    if num_points:
        remarks.append(f"{path}: left out {num_points} points and lines, which have no area")
    if ignored:
        remarks.append(
            f"{path}: {len(ignored)} areas of the class Ignore* are not annotated, but for objects in them"
        )
    return GeoJson(shapes, regions, ignored, tuple(remarks))


def _features(path: Path, document: Any) -> list[dict[str, Any]]:
    if isinstance(document, dict) and document.get("type") == "FeatureCollection":
        features = document.get("features")
    elif isinstance(document, dict) and document.get("type") == "Feature":
        features = [document]
    else:
        features = document
    if not isinstance(features, list) or not all(isinstance(feature, dict) for feature in features):
        raise DataError(f"{path}: must be a GeoJSON list of features, got something else; export it again")
    return features


def _properties(feature: dict[str, Any]) -> dict[str, Any]:
    properties = feature.get("properties")
    return properties if isinstance(properties, dict) else {}


def _object_type(feature: dict[str, Any]) -> str:
    properties = _properties(feature)
    found = properties.get("objectType", properties.get("object_type"))
    if found is None and feature.get("id") in ("PathDetectionObject", "PathCellObject", "PathTileObject"):
        return "detection"  # QuPath 0.2
    return str(found or "annotation").lower()


def _is_of_review(feature: dict[str, Any]) -> bool:
    """Return whether `searcher review` wrote an object; QuPath keeps its measurements, older versions as a list."""
    found = _properties(feature).get("measurements")
    if isinstance(found, list):
        found = {each.get("name"): each for each in found if isinstance(each, dict)}
    return isinstance(found, dict) and DISAGREEMENT in found


def _category(path: Path, name: str, feature: dict[str, Any]) -> str:
    found = _properties(feature).get("classification", "")
    if isinstance(found, dict):
        found = found.get("name") or ": ".join(map(str, found.get("names") or []))
    if found is None or isinstance(found, str):
        return found or ""
    raise DataError(f"{path}: {name}: a classification must be a name, got {found!r:.40}; export it again")


def _geometry(path: Path, name: str, feature: dict[str, Any]) -> dict[str, Any]:
    geometry = feature.get("geometry")
    if not isinstance(geometry, dict):
        raise DataError(f"{path}: {name}: must have a geometry, got {geometry!r:.40}; export it again")
    return geometry


def _polygons(path: Path, name: str, geometry: dict[str, Any]) -> Sequence[Any] | None:
    """Return a geometry's polygons as lists of rings; None for points and lines."""
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind == "Polygon":
        return [coordinates]
    if kind == "MultiPolygon" and isinstance(coordinates, list):
        return coordinates
    if kind == "GeometryCollection" and isinstance(geometry.get("geometries"), list):
        parts = [
            _polygons(path, name, part) if isinstance(part, dict) else None for part in geometry["geometries"]
        ]
        found = [polygon for part in parts if part is not None for polygon in part]
        return found or None
    if kind in ("Point", "MultiPoint", "LineString", "MultiLineString"):
        return None
    raise DataError(
        f"{path}: {name}: a geometry must be a Polygon or MultiPolygon, got {kind!r:.40}; export it again"
    )


def may_have_ignored(path: Path) -> bool:
    """Return whether the text `Ignore*` occurs in a file, so that it may have areas of QuPath's class of that name."""
    return b"Ignore*" in path.read_bytes()


def rectangle(region: Shape) -> tuple[int, int, int, int] | None:
    """Return a rectangular region as (top, left, bottom, right), rounded to whole pixels; None if it is no rectangle.

    Args:
        region: A region of interest.
    """
    left, top, right, bottom = (float(value) for value in shapely.bounds(region.region))
    if abs(shapely.area(region.region) - (right - left) * (bottom - top)) > 0.01 * shapely.area(
        region.region
    ):
        return None
    return round(top), round(left), round(bottom), round(right)
