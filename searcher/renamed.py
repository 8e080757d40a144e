"""Modules and names that earlier versions had elsewhere. Plug-ins and scripts may still import them, with a warning."""

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader as _Loader
    from importlib.abc import MetaPathFinder as _Finder
else:  # the import system needs the methods alone, and importlib.abc imports what reads archives

    class _Finder: ...

    class _Loader: ...


__all__ = ["MODULES", "NAMES", "install", "old_names", "warn_of_old_name"]

MODULES = {
    f"searcher.{old}": f"searcher.{new}"
    for old, new in {
        "api.best": "api.best_trial",
        "cli.last_net": "cli.unexpected_errors",
        "data_pipeline.datasets.base": "data_pipeline.datasets.samples",
        "data_pipeline.datasets.exports.base": "data_pipeline.datasets.exports.exporter",
        "data_pipeline.datasets.layouts.base": "data_pipeline.datasets.layouts.layout_source",
        "data_pipeline.datasets.layouts.files": "data_pipeline.datasets.layouts.folder_scan",
        "data_pipeline.images.base": "data_pipeline.images.raster",
        "evaluation.folders": "evaluation.measured_folders",
        "evaluation.glas.records": "evaluation.glas.measured_sets",
        "evaluation.metrics": "evaluation.official_metrics",
        "evaluation.objects": "evaluation.labelled_objects",
        "files": "atomic_files",
        "ledger.best": "ledger.ranking",
        "ledger.patience": "ledger.retry_policy",
        "models.heads.base": "models.heads.head",
        "prediction.predict": "prediction.file_prediction",
        "storage.base": "storage.protocol",
        "storage.data": "storage.fetched_data",
        "storage.objects": "storage.object_store",
    }.items()
}
"""By old name: the present one."""

NAMES = {
    "searcher.bundle.member": {"Member": "BundleMember"},
    "searcher.evaluation.summary": {"ImageResult": "ImageMetrics"},
    "searcher.models.blocks": {"doubling": "upsampling_block"},
    "searcher.models.heads.head": {"CORE_KEYS": "SEED_MAP_KEYS"},
    "searcher.models.postprocess": {
        "instances_from_cores": "instances_from_seed_map",
        "instances_from_evidence": "instances_from_maps",
    },
    "searcher.models.values": {"Evidence": "InstanceMaps"},
    "searcher.prediction.file_prediction": {"Failure": "FailedImage", "ImageResult": "PredictedImage"},
}
"""By module and old name: the present name in the same module."""


def old_names(module: str) -> Callable[[str], Any]:
    """Return a function for a module's `__getattr__` that resolves the module's old names, with a warning."""

    def get(name: str) -> Any:
        new = NAMES[module].get(name)
        if new is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_of_old_name(f"{module}.{name}", new)
        return getattr(sys.modules[module], new)

    return get


def install() -> None:
    """Make old module names importable. May be called again."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.append(_OldModules())


def warn_of_old_name(old: str, new: str) -> None:
    """Emit a `DeprecationWarning` with the new name, attributed to the caller's caller."""
    warnings.warn(f"{old} is now called {new}; write that", DeprecationWarning, stacklevel=3)


class _OldModules(_Finder, _Loader):
    """Finds modules that no other finder has. The old and the new name give the same module."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  the import system gives it
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = MODULES[spec.name]
        warn_of_old_name(spec.name, new)
        module = importlib.import_module(new)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state  # the import system put the old name's there
