"""GeoJSON for QuPath: `images/`, and `labels/ID.geojson` with an annotation for each object."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.canonical import write_image
from searcher.data_pipeline.datasets.exports.exporter import Exported, Losses

__all__ = ["export_geojson", "region_of"]

_IGNORED = "Ignore*"


def export_geojson(
    images: Iterator[Exported], folder: Path, *, channels: tuple[str, ...], losses: Losses
) -> None:
    """Write a data set as GeoJSON for QuPath. Pixels that are not annotated become an area of the class `Ignore*`.

    Args:
        images: The images, one by one.
        folder: Folder to write into.
        channels: Names of the images' channels.
        losses: Receives what the format cannot hold.
    """
    del channels
    (folder / "labels").mkdir()
    for image in images:
        write_image(folder / "images", image.sample.id, image.pixels)
        if image.sample.split != "train":
            losses.add("splits other than train are lost", image.sample.id)
        features = [
            _feature(_moved(region_of(mask), box), image.classes.get(number, ""))
            for number, box, mask in image.objects()
        ]
        is_unknown = image.labels < 0
        if is_unknown.any():
            features.append(_feature(region_of(is_unknown), _IGNORED))
        text = json.dumps({"type": "FeatureCollection", "features": features})
        (folder / "labels" / f"{image.sample.id}.geojson").write_text(text, encoding="utf-8")


def _feature(region: shapely.Geometry, category: str) -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": "annotation"}
    if category:
        properties["classification"] = {"name": category}
    geometry = json.loads(shapely.to_geojson(region))
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _moved(region: shapely.Geometry, box: tuple[slice, slice]) -> shapely.Geometry:
    """Return a region of a window in the coordinates of its image."""
    return shapely.transform(region, lambda points: points + np.array([box[1].start, box[0].start]))


def region_of(mask: NDArray[np.bool_]) -> shapely.Geometry:
    """Return the outline of a mask along the edges of its pixels, holes included.

    Filling the outline gives exactly the mask's pixels again.

    Args:
        mask: bool[H, W].
    """
    padded = np.pad(mask.astype(np.int8), ((0, 0), (1, 1)))
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)  # runs of pixels, row by row; of each row as many starts as ends
    ends = np.nonzero(steps == -1)[1]
    joined = shapely.union_all(shapely.box(starts, rows, ends, rows + 1))
    return shapely.simplify(joined, 0)  # the corners that rows have in common along a straight edge go
