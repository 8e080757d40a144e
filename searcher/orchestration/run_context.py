"""One launch as plain values: what a person asked for, and what was decided before the first trial."""

from dataclasses import dataclass
from pathlib import Path

from searcher.data_pipeline.datasets.synthetic import SYNTHETIC
from searcher.data_pipeline.store import Store
from searcher.ledger.records import CheckpointRecord
from searcher.orchestration.cluster.resources import TrialResources
from searcher.study.spec import StudySpec
from searcher.training.dataset import DataRequest

__all__ = ["RunContext"]


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The settings of one launch: the study, its data, and what was decided before the first trial. Never changed."""

    spec: StudySpec
    data: DataRequest
    """The data set, as workers open it."""
    store: Store
    """The data set's store on this node."""
    storage_root: Path
    """Folder of all studies' checkpoints and logs, the same on every node; or this machine's mirror of the object store
    that is."""
    address: str | None = None
    """A running Ray cluster; None starts one for this launch."""
    command: str = ""
    """What a person typed to launch, for the study's note."""
    remarks: tuple[str, ...] = ()
    """What a person was told of the data, for the launch's log."""
    resources: TrialResources | None = None
    """What one trial reserves; None until the cluster is there, and where no trial is left to run."""
    storage_mark: str | None = None
    """What the study's folder holds on every node of a joined cluster."""
    code_digest: str | None = None
    """Of this process's code, which every node of a joined cluster must have."""
    plugins: tuple[str, ...] = ()
    """What workers import before they read a configuration; see `plugin_sources`."""
    warm_start: CheckpointRecord | None = None
    """Checkpoint that every trial begins from; its digest is `warm_start.sha256` of their configurations."""

    @property
    def is_joined(self) -> bool:
        """Whether the launch joins a cluster that others started, with other machines."""
        return self.address is not None

    @property
    def data_fingerprint(self) -> str:
        """Fingerprint of the data set."""
        return self.store.fingerprint

    @property
    def data_source(self) -> str:
        """Folder or URI of the data set, or the name for synthetic glands."""
        return self.data.folder or SYNTHETIC[self.data.synthetic.synthetic].name

    @property
    def trial_resources(self) -> TrialResources:
        """The resources that one trial reserves. Only available after they were decided."""
        assert self.resources is not None, "the cluster is not there yet"
        return self.resources
