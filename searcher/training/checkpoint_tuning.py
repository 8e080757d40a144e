"""Tuning what a trial's best checkpoint is cut into instances by, on the images that it was validated on."""

import dataclasses
from collections.abc import Sequence

import torch

from data_pipeline.store import Store
from searcher.inference.measuring import see_all
from searcher.inference.precision import resolve_precision
from searcher.inference.predictor import Predictor
from searcher.inference.tuning import Tuned, best_of, tune_postprocess
from searcher.study.config import TrialConfig
from searcher.study.objectives import Objective
from searcher.training.checkpoints import CheckpointFile, load_checkpoint
from searcher.training.trained import trained_model

__all__ = ["tune_checkpoint"]

_MAX_IMAGES = 64
"""Of the validation images, evenly spread: what the network says of each stays in memory while tuning."""


def tune_checkpoint(
    file: CheckpointFile,
    config: TrialConfig,
    objective: Objective,
    store: Store,
    val_indices: Sequence[int],
    device: torch.device,
) -> Tuned:
    """Return the best way from a checkpoint's output to instances, for one view of an image or the mean of 8.

    Args:
        file: The checkpoint. Nothing is written.
        config: What it was trained with.
        objective: What to tune for.
        store: Prepared images.
        val_indices: Those that it was not trained on.
        device: Where to predict.

    Raises:
        CheckpointError: The file cannot be read.
    """
    train, tuning = config.train, config.tuning
    checkpoint, _ = load_checkpoint(file.path, sha256=file.sha256)
    model = trained_model(dataclasses.replace(checkpoint, tuned=None), device=device)
    step = -(-len(val_indices) // _MAX_IMAGES)
    by_views: list[Tuned] = []
    for tta in (False, True) if tuning.tta else (False,):
        model.postprocess = config.postprocess
        predictor = Predictor(
            [model],
            device=device,
            dtype=resolve_precision(train.precision, device),
            tta=tta,
            tile_px=train.eval_tile_px,
            tile_overlap_px=train.eval_tile_overlap_px,
        )
        seen = see_all(predictor, store, val_indices[::step])
        by_views.append(tune_postprocess(predictor, seen, objective, tta=tta))
    return best_of(by_views)
