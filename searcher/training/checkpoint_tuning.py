"""Tuning what trained networks are cut into instances by, on the images that they were validated on."""

import dataclasses
from collections.abc import Sequence

import torch

from searcher.data_pipeline.store import Store
from searcher.inference.measuring import Seen, see_all
from searcher.inference.precision import resolve_precision
from searcher.inference.predictor import Predictor
from searcher.inference.tuning import MeasuredSettings, Tuned, choose_views, tune_postprocess, tuning_target
from searcher.models.base import SegmentationModel
from searcher.study.config import TrialConfig
from searcher.study.objectives import Objective
from searcher.training.alive import Alive, silent
from searcher.training.checkpoints import CheckpointFile, load_checkpoint
from searcher.training.dataset import split_store
from searcher.training.trained import trained_model

__all__ = ["tune_checkpoint", "tune_together"]

_MAX_IMAGES = 96
"""Of the validation images, evenly spread: what the networks say of each stays in memory while tuning."""


def tune_checkpoint(
    file: CheckpointFile,
    config: TrialConfig,
    objective: Objective,
    store: Store,
    device: torch.device,
    alive: Alive = silent,
) -> Tuned:
    """Return the best settings of post-processing for a checkpoint, for one view of an image or the mean of 8.

    Args:
        file: The checkpoint, which is not changed.
        config: Configuration of the checkpoint's trial.
        objective: The study's objective, which is tuned for unless `config.tuning` names another metric.
        store: The store with the normalised images.
        device: Device to predict on.
        alive: Called after every image, and after every setting that was measured.

    Raises:
        CheckpointError: The file cannot be read.
    """
    checkpoint, _ = load_checkpoint(file.path, sha256=file.sha256)
    model = trained_model(dataclasses.replace(checkpoint, tuned=None), device=device)
    target = tuning_target(config.tuning.metric, objective)
    return tune_together([(config, model)], target, store, device=device, tta=config.tuning.tta, alive=alive)


def tune_together(
    networks: Sequence[tuple[TrialConfig, SegmentationModel]],
    target: str,
    store: Store,
    *,
    device: torch.device,
    tta: bool,
    alive: Alive = silent,
) -> Tuned:
    """Return the best common settings of post-processing for several networks.

    Each network predicts the images on which it was validated. So networks of several folds are tuned on all images,
    none of which the predicting network was trained on. A single network's maps are less smooth than the mean of all
    will be. If several networks were validated on the same image, for example those of several seeds, the mean of their
    maps is used.

    Args:
        networks: At least one network: the trial's configuration, and the model on the device. All models are of the
            same kind.
        target: Metric to tune for, one of `TUNING_TARGETS`.
        store: The store with the normalised images, including those on which the networks were trained.
        device: Device to predict on.
        tta: Whether to use the mean of 8 views, unless one view is significantly better.
        alive: Called after every image, and after every setting that was measured.
    """
    groups = _by_validated(store, [config for config, _ in networks])
    by_views: list[tuple[Tuned, MeasuredSettings]] = []
    for views in (False, True) if tta else (False,):
        for _, model in networks:
            model.postprocess = networks[0][0].postprocess
        seen: list[Seen] = []
        for numbers, indices in groups.items():
            train = networks[numbers[0]][0].train
            predictor = Predictor(
                [networks[number][1] for number in numbers],
                device=device,
                dtype=resolve_precision(train.precision, device),
                tta=views,
                tile_px=train.eval_tile_px,
                tile_overlap_px=train.eval_tile_overlap_px,
            )
            seen += see_all(
                predictor,
                store,
                indices,
                lambda done, total: alive("tuning", f"tuning, image {done} of {total}"),
            )
        by_views.append(
            tune_postprocess(
                predictor,
                seen,
                target,
                tta=views,
                on_measured=lambda: alive("tuning", "tuning, another setting"),
            )
        )
    return choose_views(*by_views) if tta else by_views[0][0]


def _by_validated(store: Store, configs: Sequence[TrialConfig]) -> dict[tuple[int, ...], list[int]]:
    """Return images by the networks, counted from 0, that were validated on them; of many, some evenly spread."""
    validated: dict[int, list[int]] = {}
    for number, config in enumerate(configs):
        for index in split_store(store, config.data).val:
            validated.setdefault(index, []).append(number)
    step = -(-len(validated) // _MAX_IMAGES)
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, numbers in list(validated.items())[::step]:
        groups.setdefault(tuple(numbers), []).append(index)
    return groups
