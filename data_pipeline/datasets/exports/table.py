"""The table of formats that data sets are exported to, ours and those of plug-ins."""

from collections.abc import Callable
from typing import TypeVar

from searcher.data_pipeline.datasets.exports.exporter import Exporter
from searcher.plugins import Registry

__all__ = ["DATA_FORMATS", "register_data_format"]

_HERE = "searcher.data_pipeline.datasets.exports"

DATA_FORMATS: Registry[Exporter] = Registry(
    "data-set format",
    key="--as",
    built_in={
        "coco": f"{_HERE}.coco:export_coco",
        "geojson": f"{_HERE}.geojson:export_geojson",
        "cellpose": f"{_HERE}.cellpose:export_cellpose",
        "nnunet": f"{_HERE}.nnunet:export_nnunet",
    },
)

ExporterT = TypeVar("ExporterT", bound=Exporter)


def register_data_format(name: str) -> Callable[[ExporterT], ExporterT]:
    """Return a decorator that registers an `Exporter` as a data format under a name, for a plug-in."""
    return lambda exporter: DATA_FORMATS.register(name, exporter)  # type: ignore[return-value]
