"""From a checkpoint to the network that it holds, ready to predict."""

import torch

from searcher.exceptions import CheckpointError
from searcher.inference.trained import TrainedNetwork
from searcher.models.base import SegmentationModel
from searcher.training.checkpoints import Checkpoint

__all__ = ["trained_model", "trained_network"]


def trained_network(checkpoint: Checkpoint) -> TrainedNetwork:
    """Return a checkpoint's network: the weights that were validated.

    Raises:
        CheckpointError: Its configuration is of another version of searcher.
    """
    try:
        return TrainedNetwork.from_plain(
            checkpoint.config, checkpoint.weights(), checkpoint.tuned, checkpoint.dtype
        )
    except ValueError as error:
        raise _misfit(checkpoint, error) from error


def trained_model(checkpoint: Checkpoint, *, device: torch.device) -> SegmentationModel:
    """Return the model with the weights that were validated, in evaluation mode.

    It cuts instances as tuned for those weights, or else as configured.

    Args:
        checkpoint: As loaded.
        device: Where the model is to be.

    Raises:
        CheckpointError: Its configuration or its weights are of another version of searcher.
    """
    network = trained_network(checkpoint)
    try:
        return network.model(device)
    except ValueError as error:
        raise _misfit(checkpoint, error) from error


def _misfit(checkpoint: Checkpoint, error: ValueError) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint of epoch {checkpoint.epoch} does not fit this version of searcher ({error}); use the "
        "version that wrote it"
    )
