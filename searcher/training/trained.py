"""From a checkpoint to the model that it holds, ready to predict."""

import torch
from pydantic import ValidationError

from models.base import SegmentationModel
from models.registry import build_model
from searcher.exceptions import CheckpointError
from searcher.inference.tuning import Tuned
from searcher.study.config import TrialConfig
from searcher.training.checkpoints import Checkpoint

__all__ = ["trained_model", "tuning_of"]


def trained_model(checkpoint: Checkpoint, *, device: torch.device) -> SegmentationModel:
    """Return the model with the weights that were validated, in evaluation mode.

    It cuts instances as tuned for those weights, or else as configured.

    Args:
        checkpoint: As loaded.
        device: Where the model is to be.

    Raises:
        CheckpointError: Its configuration or its weights are of another version of searcher.
    """
    try:
        config = TrialConfig.model_validate(checkpoint.config)
        tuned = tuning_of(checkpoint)
        model = build_model(config.model, config.postprocess if tuned is None else tuned.postprocess)
        model.load_state_dict(checkpoint.weights())
    except (ValidationError, RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"the checkpoint of epoch {checkpoint.epoch} does not fit this version of searcher ({reason}); use the "
            "version that wrote it"
        ) from error
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval()


def tuning_of(checkpoint: Checkpoint) -> Tuned | None:
    """Return what was tuned for a checkpoint, None if nothing was.

    Raises:
        ValueError, KeyError, TypeError: It is of another version of searcher.
    """
    return None if checkpoint.tuned is None else Tuned.from_dict(checkpoint.tuned)
