"""A study in memory: what a sampler of Optuna's knows of a study's trials, stopped ones too.

Most of Optuna's samplers learn from COMPLETE trials alone; under a pruner that is a few of many. For these a
stopped trial is COMPLETE with the value that it would have reached (`curves`). The value changes as further trials
continue. Its standard deviation is the user attribute `std`. A running trial is taken the same way from the first rung
on, so that the next proposal need not wait for its end. TPE takes PRUNED trials as they are, by their last value.

With several objectives only trials that finished count: a curve of one objective is no point among several.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial

from searcher.ledger.optuna_internals import add_trial, begun_trial, revise_trial
from searcher.lineage.distributions import distribution
from searcher.orchestration.trials.curves import Array, predicted_finals, running_best
from searcher.study.objectives import Direction
from searcher.study.parts import Stopped
from searcher.study.space import SearchSpace, Value

__all__ = ["STD", "KnownTrials"]

STD = "std"
"""User attribute of a stopped trial: standard deviation of its predicted value, in units of the objective."""


class KnownTrials:
    """The trials from which an Optuna sampler learns, as a study in memory with its own numbers.

    Args:
        space: The search space; trials outside it are not passed to the sampler.
        sampler: Sampler that proposes trials.
        stopped: How stopped trials are passed to the sampler.
        directions: Direction of each objective.
        num_epochs: Number of epochs of the longest trial.
        grace_epochs: Number of epochs after which a running trial's value is predicted.
    """

    def __init__(
        self,
        space: SearchSpace,
        sampler: BaseSampler,
        *,
        stopped: Stopped,
        directions: Sequence[Direction],
        num_epochs: int,
        grace_epochs: int,
    ) -> None:
        self._space = space
        self._num_epochs = num_epochs
        self._grace_epochs = grace_epochs
        self._sign = 1.0 if directions[0] == "maximize" else -1.0
        self._is_single = len(directions) == 1
        self._predicts = stopped == "predicted" and self._is_single
        self.study = optuna.create_study(
            directions=list(directions), sampler=sampler, pruner=optuna.pruners.NopPruner()
        )
        """What the sampler sees."""
        self._distributions: dict[str, BaseDistribution] = {
            each.name: distribution(each.domain) for each in space.parameters
        }
        self._curves: dict[
            int, Array
        ] = {}  # running best by number, higher is better; where values are predicted
        self._predicted: set[int] = set()
        self._is_changed = False

    def ask(self) -> tuple[int, dict[str, Value]]:
        """Return the number of a new running trial, and the parameters that the sampler proposes."""
        self.revise()
        trial = self.study.ask()
        return trial.number, self._space.suggest(trial)

    def remarks(self, number: int) -> dict[str, Any]:
        """Return what the sampler stored about a trial when it proposed it, as an argument for `began`.

        Only numbers and lists of numbers are returned. `CmaEsSampler` stores its state as a pickle in a text, which
        must not be loaded from a database. It learns the generations again from their trials.
        """
        written = self.study.get_trials(deepcopy=False)[number].system_attrs
        return {key: value for key, value in written.items() if _is_numeric(value)}

    def began(self, params: Mapping[str, Value], remarks: Mapping[str, Any] | None = None) -> int:
        """Add a running trial that this sampler did not propose, and return its number.

        Args:
            params: Parameters of the trial.
            remarks: What the sampler of an earlier launch stored about the trial; None for nothing. Samplers that breed
                generations, such as `NSGAIISampler` and `CmaEsSampler`, need it to find them.
        """
        return self._add(TrialState.RUNNING, params, remarks)

    def add(
        self,
        params: Mapping[str, Value],
        state: TrialState,
        values: Sequence[float],
        by_epoch: Mapping[int, float | None],
        remarks: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a trial of an earlier launch or of a parent study.

        Args:
            params: Parameters of the trial.
            state: State of the trial.
            values: All objectives of a COMPLETE trial.
            by_epoch: The first objective after each epoch, from 1.
            remarks: See `began`.
        """
        curve = _finite(by_epoch)
        if state == TrialState.COMPLETE:
            number = self._add(state, params, remarks, values=[*values])
            self._keep_whole(number, values, curve)
        elif state != TrialState.PRUNED or not self._is_single or not curve:
            self._add(TrialState.FAIL, params, remarks)
        elif self._predicts:
            number = self._add(TrialState.COMPLETE, params, remarks, values=[self._best(curve)])
            self._predict(number, curve)
        else:
            self._add(state, params, remarks, values=[curve[max(curve)]], intermediate_values=curve)

    def _add(
        self, state: TrialState, params: Mapping[str, Value], remarks: Mapping[str, Any] | None, **more: Any
    ) -> int:
        number = len(self.study.get_trials(deepcopy=False))
        add_trial(
            self.study,
            create_trial(
                state=state,
                params=dict(params),
                distributions={name: self._distributions[name] for name in params},
                system_attrs=dict(remarks or {}),
                **more,
            ),
        )
        return number

    def failed(self, number: int) -> None:
        """Record that a running trial failed."""
        if number in self._predicted:
            self._predicted.remove(number)
            self._curves.pop(number)
            self._is_changed = True
            revise_trial(self.study, number, None, {})
        else:
            self.study.tell(number, state=TrialState.FAIL)

    def reached(self, number: int, by_epoch: Mapping[int, float | None]) -> None:
        """Record the values of a running trial so far.

        Args:
            number: Number of the trial.
            by_epoch: The first objective after each epoch, from 1.
        """
        curve = _finite(by_epoch)
        if self._predicts and curve and max(curve) >= self._grace_epochs:
            self._tell_and_predict(number, curve)

    def ended(
        self, number: int, state: TrialState, values: Sequence[float], by_epoch: Mapping[int, float | None]
    ) -> None:
        """Record the end of a running trial.

        Args:
            number: Number of the trial.
            state: COMPLETE, PRUNED, or FAIL.
            values: All objectives of a COMPLETE trial.
            by_epoch: The first objective after each epoch, from 1.
        """
        curve = _finite(by_epoch)
        if state == TrialState.COMPLETE:
            self._complete(number, values, curve)
        elif state != TrialState.PRUNED or not self._is_single or not curve:
            self.failed(number)
        elif self._predicts:
            self._tell_and_predict(number, curve)
        else:
            trial = begun_trial(self.study, number)
            for epoch, value in sorted(curve.items()):
                trial.report(value, epoch)
            self.study.tell(number, state=TrialState.PRUNED)

    def _complete(self, number: int, values: Sequence[float], curve: dict[int, float]) -> None:
        if number in self._predicted:
            self._predicted.remove(number)
            revise_trial(self.study, number, values[0], {STD: 0.0})
        else:
            self.study.tell(number, [*values])
        self._keep_whole(number, values, curve)

    def _tell_and_predict(self, number: int, curve: Mapping[int, float]) -> None:
        if number not in self._predicted:
            self.study.tell(number, self._best(curve))
        self._predict(number, curve)

    def _predict(self, number: int, curve: Mapping[int, float]) -> None:
        """Give a trial that has not finished a predicted value."""
        self._predicted.add(number)
        self._keep(number, curve, is_whole=False)

    def _keep_whole(self, number: int, values: Sequence[float], curve: dict[int, float]) -> None:
        if self._predicts:
            self._keep(number, {**curve, self._num_epochs: values[0]}, is_whole=True)

    def _best(self, curve: Mapping[int, float]) -> float:
        return self._sign * max(self._sign * each for each in curve.values())

    def _keep(self, number: int, curve: Mapping[int, float], *, is_whole: bool) -> None:
        better = {epoch: self._sign * value for epoch, value in curve.items()}
        self._curves[number] = running_best(better, self._num_epochs, is_whole=is_whole)
        self._is_changed = True

    def revise(self) -> None:
        """Update the predicted final values of the stopped trials."""
        if not self._is_changed or not self._predicted:
            return
        self._is_changed = False
        numbers = list(self._curves)
        values, deviations = predicted_finals(np.stack([self._curves[number] for number in numbers]))
        for number, value, std in zip(numbers, values, deviations, strict=True):
            if number in self._predicted:
                revise_trial(self.study, number, self._sign * float(value), {STD: float(std)})


def _finite(by_epoch: Mapping[int, float | None]) -> dict[int, float]:
    return {epoch: each for epoch, each in by_epoch.items() if each is not None and math.isfinite(each)}


def _is_numeric(value: Any) -> bool:
    return all(isinstance(each, int | float) for each in (value if isinstance(value, list) else [value]))
