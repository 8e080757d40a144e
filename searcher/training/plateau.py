"""Noticing that an objective has stopped improving."""

from typing import Any

from searcher.study.objectives import Objective

__all__ = ["PlateauCounter"]


class PlateauCounter:
    """Counts the epochs since an objective last improved, and keeps its best value.

    Args:
        objective: Metric and direction. Only a strict improvement counts; NaN is never one.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self.best_value = objective.worst
        """Best value so far; the objective's worst before the first."""
        self.best_epoch = 0
        """Epoch of the best value, counted from 1; 0 before the first."""
        self.num_bad_epochs = 0
        """Epochs since the last improvement, or since `restart`."""

    def update(self, epoch: int, value: float) -> bool:
        """Record an epoch's value, and return whether it is the best so far."""
        if self._objective.better(value, self.best_value):
            self.best_value, self.best_epoch, self.num_bad_epochs = value, epoch, 0
            return True
        self.num_bad_epochs += 1
        return False

    def restart(self) -> None:
        """Set the count to 0; the best value stays."""
        self.num_bad_epochs = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values, for `load_state_dict`."""
        return {
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
            "num_bad_epochs": self.num_bad_epochs,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from the result of `state_dict`."""
        self.best_value = float(state["best_value"])
        self.best_epoch = int(state["best_epoch"])
        self.num_bad_epochs = int(state["num_bad_epochs"])
