"""Hyperparameter search for segmenting glands and cells in clinical images.

    import searcher

    result = searcher.launch("unet-demo", trials=6)
    result.trials                                            # a row for each trial
    bundle = result.export("bundle")
    labels, scores, classes = bundle.predict(image)          # image: uint8[H, W, 3]
    searcher.metrics.official(truth, labels)

Nothing heavy is imported before one of these names is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from searcher import renamed
from searcher._version import __version__

if TYPE_CHECKING:
    from searcher import metrics
    from searcher.api.data_sets import (
        draw_dataset,
        export_dataset,
        import_dataset,
        inspect_dataset,
        open_dataset,
        plan,
    )
    from searcher.api.databases import doctor, gc, list_studies, logs, refine, stop
    from searcher.api.evaluation import Evaluation
    from searcher.api.predicting import FoundObjects, LoadedBundle
    from searcher.api.public import evaluate, launch, load_bundle, load_study, probe, train
    from searcher.api.reviewing import review
    from searcher.api.study_result import StudyResult
    from searcher.api.training import TrainedTrial
    from searcher.exceptions import SearcherError, UserError

__all__ = [
    "Evaluation",
    "FoundObjects",
    "LoadedBundle",
    "SearcherError",
    "StudyResult",
    "TrainedTrial",
    "UserError",
    "__version__",
    "doctor",
    "draw_dataset",
    "evaluate",
    "export_dataset",
    "gc",
    "import_dataset",
    "inspect_dataset",
    "launch",
    "list_studies",
    "load_bundle",
    "load_study",
    "logs",
    "metrics",
    "open_dataset",
    "plan",
    "probe",
    "refine",
    "review",
    "stop",
    "train",
]

renamed.install()

_HOMES = {
    "Evaluation": "searcher.api.evaluation",
    "FoundObjects": "searcher.api.predicting",
    "LoadedBundle": "searcher.api.predicting",
    "SearcherError": "searcher.exceptions",
    "StudyResult": "searcher.api.study_result",
    "TrainedTrial": "searcher.api.training",
    "UserError": "searcher.exceptions",
}
for _room, _names in {
    "data_sets": (
        "draw_dataset",
        "export_dataset",
        "import_dataset",
        "inspect_dataset",
        "open_dataset",
        "plan",
    ),
    "databases": ("doctor", "gc", "list_studies", "logs", "refine", "stop"),
    "reviewing": ("review",),
    "public": ("evaluate", "launch", "load_bundle", "load_study", "probe", "train"),
}.items():
    _HOMES |= dict.fromkeys(_names, f"searcher.api.{_room}")


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return importlib.import_module("searcher.metrics")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'searcher' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
