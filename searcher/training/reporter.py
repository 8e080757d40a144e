"""How a trial reports its progress to the driver, and receives the decision whether to continue."""

from collections.abc import Mapping
from enum import Enum
from typing import Protocol

__all__ = ["Decision", "NullReporter", "Reporter"]


class Decision(Enum):
    """A reporter's decision after an epoch: continue or stop."""

    CONTINUE = "continue"
    """Train another epoch."""
    STOP = "stop"
    """Train no further epoch; what is trained so far is kept."""


class Reporter(Protocol):
    """Receives every epoch's metrics, and decides whether training continues.

    The trainer calls it from its own thread, once for each epoch, in order. The epoch's checkpoint is on disk by then.
    An exception raised by the reporter ends the trial and is passed on unchanged.
    """

    def report(self, epoch: int, metrics: Mapping[str, float]) -> Decision:
        """Receive an epoch's metrics and decide whether training continues.

        Args:
            epoch: The epoch just finished, counted from 1.
            metrics: Every metric by name; the reporter may keep the mapping, as the caller never changes it.

        Returns:
            `Decision.CONTINUE` to train another epoch, `Decision.STOP` to end training.
        """
        ...


class NullReporter:
    """A reporter that ignores the metrics and never stops a trial."""

    def report(self, epoch: int, metrics: Mapping[str, float]) -> Decision:  # noqa: ARG002
        """Return `Decision.CONTINUE`."""
        return Decision.CONTINUE
