"""From a checkpoint to the network that it holds, ready to predict."""

import torch

from searcher.exceptions import CheckpointError
from searcher.inference.trained import TrainedNetwork
from searcher.models.base import SegmentationModel
from searcher.training.checkpoints import Checkpoint

__all__ = ["trained_model", "trained_network"]


def trained_network(checkpoint: Checkpoint) -> TrainedNetwork:
    """Return the trained network of a checkpoint, with the weights that were validated.

    Raises:
        CheckpointError: The configuration is of another version of searcher.
    """
    try:
        return TrainedNetwork.from_plain(
            checkpoint.config, checkpoint.weights(), checkpoint.tuned, checkpoint.dtype
        )
    except ValueError as error:
        raise _misfit(checkpoint, error) from error


def trained_model(checkpoint: Checkpoint, *, device: torch.device) -> SegmentationModel:
    """Return the model of a checkpoint, with the weights that were validated, in eval mode.

    Its post-processing has the tuned settings, or without tuning those of the configuration.

    Args:
        checkpoint: As loaded.
        device: Device for the model.

    Raises:
        CheckpointError: Configuration or weights are of another version of searcher.
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
