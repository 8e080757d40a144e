"""Training a model on a few images until it knows them by heart."""

import torch

from searcher.evaluation.official_metrics import compare, pooled
from searcher.models.base import SegmentationModel
from searcher.models.values import TensorBatch

__all__ = ["f1_by_heart"]

_LOOK_EVERY = 10
"""Steps."""


def f1_by_heart(model: SegmentationModel, batch: TensorBatch, *, lr: float, num_steps: int) -> float:
    """Train with Adam, and return the object F1 on the batch itself: 1 as soon as it is, else that after the last step.

    Args:
        model: Is left in evaluation mode.
        batch: Images and their labels.
        lr: Adam's rate.
        num_steps: At most so many.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    truth, f1 = batch.labels.numpy(), 0.0
    for step in range(1, num_steps + 1):
        optimizer.zero_grad()
        torch.stack(list(model.train().training_step(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % _LOOK_EVERY == 0 or step == num_steps:
            predictions = model.eval().predict(batch.images)
            f1 = pooled([compare(t, p.labels) for t, p in zip(truth, predictions, strict=True)])["f1"]
            if f1 == 1.0:
                break
    return f1
