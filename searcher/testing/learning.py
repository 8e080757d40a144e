"""Training a model on a few images until it knows them by heart."""

import torch

from searcher.evaluation.official_metrics import compare, pooled
from searcher.models.base import SegmentationModel
from searcher.models.values import TensorBatch

__all__ = ["f1_by_heart"]

_LOOK_EVERY = 10
"""Steps."""


def f1_by_heart(model: SegmentationModel, batch: TensorBatch, *, lr: float, num_steps: int) -> float:
    """Train a model on a batch with Adam, and return its object F1 on the same batch.

    Training ends as soon as the F1 is 1.

    Args:
        model: The model; it is in eval mode afterwards.
        batch: Images and their labels.
        lr: Learning rate of Adam.
        num_steps: Largest number of steps.
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
