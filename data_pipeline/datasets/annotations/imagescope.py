"""XML of Aperio ImageScope, in which MoNuSeg comes: regions with vertices in pixels of the image."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

import shapely

from searcher.data_pipeline.datasets.annotations.labelme import ellipse
from searcher.data_pipeline.datasets.annotations.shapes import Shape, polygon_shape
from searcher.data_pipeline.datasets.annotations.text_files import read_xml, starts_with
from searcher.data_pipeline.exceptions import DataError

__all__ = ["is_imagescope", "pixel_size_of", "read_imagescope"]

_PIXEL_SIZE = re.compile(rb'<Annotations[^>]*\bMicronsPerPixel="([0-9]+\.?[0-9]*)"')
_POLYGON, _RECTANGLE, _ELLIPSE = "0", "1", "2"
_WITHOUT_AREA = ("3", "4", "5")  # arrow, ruler, pointer


def is_imagescope(path: Path) -> bool:
    """Return whether a file starts like the XML of Aperio ImageScope."""
    return b"<Annotations" in starts_with(path)


def pixel_size_of(path: Path) -> float | None:
    """Return the side of a pixel in micrometres that an ImageScope file states; None if it states none."""
    match = _PIXEL_SIZE.search(starts_with(path))
    size = float(match[1]) if match is not None else 0.0
    return size if 0 < size < 100 else None


def read_imagescope(path: Path, _height: int, _width: int) -> tuple[list[Shape], tuple[str, ...]]:
    """Return the objects in an ImageScope file, and remarks on the parts of the file that are not used.

    The name of a layer becomes the class of the layer's regions. Negative regions are cut out of the layer's other
    regions. Height and width of the image are not needed.

    Raises:
        DataError: The file is not ImageScope's XML, or holds an object that cannot be used.
    """
    root = read_xml(path)
    if root.tag != "Annotations":
        raise DataError(
            f"{path}: must be ImageScope's XML with <Annotations>, got <{root.tag:.40}>; export it again"
        )
    shapes: list[Shape] = []
    num_left_out = 0
    for layer_number, layer in enumerate(root.iter("Annotation"), start=1):
        kept: list[Shape] = []
        holes: list[shapely.Geometry] = []
        for number, region in enumerate(layer.iter("Region"), start=1):
            if region.get("Type", _POLYGON) in _WITHOUT_AREA:
                num_left_out += 1
                continue
            shape = _shape(
                path,
                f"layer {layer_number}, region {region.get('Id', number)}",
                layer.get("Name", ""),
                region,
            )
            if region.get("NegativeROA") != "1":
                kept.append(shape)
            elif shape.region is not None:
                holes.append(shape.region)
        shapes += [_without(shape, holes) for shape in kept]
    remarks = (
        (f"{path}: left out {num_left_out} arrows and rulers, which have no area",) if num_left_out else ()
    )
    return shapes, remarks


def _shape(path: Path, name: str, category: str, region: Element) -> Shape:
    try:
        points = [
            (float(vertex.get("X", "")), float(vertex.get("Y", ""))) for vertex in region.iter("Vertex")
        ]
    except ValueError:
        raise DataError(
            f"{path}: {name}: vertices must have numbers X and Y, got others; export it again"
        ) from None
    kind = region.get("Type", _POLYGON)
    if points and kind in (_RECTANGLE, _ELLIPSE):
        x0, x1 = min(x for x, _ in points), max(x for x, _ in points)
        y0, y1 = min(y for _, y in points), max(y for _, y in points)
        if kind == _ELLIPSE:
            around = ellipse((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2)
            return polygon_shape(str(path), name, category, [[around]])
        if len(points) == 2:
            points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return polygon_shape(str(path), name, category, [[points]])


def _without(shape: Shape, holes: list[shapely.Geometry]) -> Shape:
    region = shape.region
    if region is None or not holes:
        return shape
    for hole in holes:
        if shapely.intersects(region, hole):
            region = shapely.difference(region, hole)
    return replace(shape, region=region)
