"""Checks of your own parts: models, heads, losses, data sets, metrics and export formats keep their guarantees.

Each raises an `AssertionError` that says which promise is broken and how. They need no pytest: call them in a test, a
script or a notebook. Ours are checked by the same.
"""

from searcher.testing.dataset import check_dataset
from searcher.testing.export import check_export
from searcher.testing.heads import check_head
from searcher.testing.losses import check_loss
from searcher.testing.metric import check_metric
from searcher.testing.models import Subject, check_model, model_checks

__all__ = [
    "Subject",
    "check_dataset",
    "check_export",
    "check_head",
    "check_loss",
    "check_metric",
    "check_model",
    "model_checks",
]
