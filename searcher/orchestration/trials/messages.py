"""What travels between driver and workers: plain, frozen values without any credential."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from searcher.ledger.records import CheckpointRecord
from searcher.training.dataset import DataRequest
from searcher.training.failures import TrialFailure
from searcher.training.outcome import Outcome

__all__ = ["TrialJob", "TrialMessage"]


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """Everything that a worker needs to run one trial."""

    number: int
    config: Mapping[str, Any]
    """The resolved trial configuration."""
    objective: str
    data: DataRequest
    data_fingerprint: str
    storage_root: str
    """Absolute path of a folder, or URI of an object store."""
    run_dir: str
    """Folder of the trial, relative to the storage root."""
    storage_mark: str | None = None
    """What the study's folder holds on every node of a cluster; None on one machine. See `node_probe`."""
    code_digest: str | None = None
    """Of the driver's code, which every node of a cluster must have; None on one machine."""
    plugins: tuple[str, ...] = ()
    """What its worker imports before it reads the configuration; see `plugin_sources`."""
    resume_from: CheckpointRecord | None = None
    """Checkpoint to go on from."""
    warm_start: CheckpointRecord | None = None
    """Checkpoint of another trial to begin from, unless there is one to go on from."""
    past_values: Mapping[int, float] = field(default_factory=dict)
    """The objective by epoch up to that checkpoint, for the scheduler."""
    micro_batches: int = 1
    """Parts of a batch to compute one after the other, to save memory."""
    device_share: float = 1.0
    """Part of its GPU's memory that it may have."""
    num_pictures: int = 0
    """Worst validation images to draw at the end."""
    hang_timeout_s: float = 0.0
    """Seconds without a sign of life after which its worker is taken for hanging; 0 for no limit."""


@dataclass(frozen=True, kw_only=True)
class TrialMessage:
    """The report of one epoch, or the failure that ended the trial, from a worker to the driver."""

    epoch: int = 0
    metrics: Mapping[str, float] | None = None
    checkpoints: tuple[CheckpointRecord, ...] = ()
    config_digest: str = ""
    """Digest of the configuration that the trainer applied."""
    node: str = ""
    """Where it runs: the machine's name and the beginning of Ray's identifier, as one machine may be several nodes."""
    transfer: Mapping[str, Any] | None = None
    """`Transfer.to_dict()` of what the trial began from, with its first epoch."""
    sizes: Mapping[str, float] | None = None
    """Sizes in pixels that followed from the training objects, by dotted key, with its first epoch."""
    outcome: Outcome | None = None
    failure: TrialFailure | None = None
