"""Proposes the next trial of a study whose sampler works on a study in memory: see `is_needed`.

A narrowed study mostly samples inside its narrowed space, and sometimes anywhere in the original one. Optuna's tables
have the original space, so that all trials are of one study. The sampler's study in memory has the narrowed space, the
study's own trials inside it, and the parent's. So it never has to model values that it may not choose, and no imported
trial is counted twice.
"""

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from searcher.ledger.records import TrialRecord
from searcher.ledger.study_ledger import Proposal, StudyLedger
from searcher.orchestration.trials.known_trials import KnownTrials
from searcher.orchestration.trials.samplers import build_sampler
from searcher.study.parts import SAMPLERS
from searcher.study.space import SearchSpace, Value
from searcher.study.spec import StudySpec

__all__ = ["Proposer", "is_needed"]

_REMARKS = "sampler"
"""Note of a trial: what the sampler wrote down about it, for the sampler of the next launch."""
_MAX_KNOWN = 10
"""As many proposals in a row that the parent has tried already are passed over; then one is drawn at random."""


def is_needed(spec: StudySpec, imported: Sequence[TrialRecord]) -> bool:
    """Return whether a study needs a `Proposer`; otherwise its sampler proposes trials from Optuna's tables directly.

    A proposer is needed for narrowed studies, with trials of a parent, and with several objectives. It is also needed
    for samplers that learn from COMPLETE trials only: they get predicted values of the stopped ones.

    Args:
        spec: The study.
        imported: The parent's trials that are inside the study's space.
    """
    predicts = SAMPLERS[spec.search.sampler].stopped == "predicted"
    return bool(imported or spec.space.is_narrowed or spec.study.secondary_objectives or predicts)


class Proposer:
    """Proposes the trials of a study whose sampler works on a study in memory.

    Args:
        ledger: The study in the database.
        imported: The parent's trials that are inside the narrowed space.
    """

    def __init__(self, ledger: StudyLedger, imported: Sequence[TrialRecord]) -> None:
        spec = ledger.spec
        self._ledger = ledger
        self._original = spec.space.widened()
        self._box = spec.space.narrow()
        num_trials = len(ledger.trials())
        self._known = KnownTrials(
            self._box,
            build_sampler(spec, num_trials=num_trials, space=self._box),
            stopped=SAMPLERS[spec.search.sampler].stopped,
            directions=spec.directions,
            num_epochs=spec.max_epochs,
            grace_epochs=spec.pruner.grace_epochs,
        )
        seed = spec.study.seed * 7919 + num_trials
        self._anywhere = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        self._inside = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed + 1))
        self._asked: dict[
            frozenset[tuple[str, Value]], int
        ] = {}  # by parameters: number among the known trials
        self._running: dict[int, int] = {}  # by number in the study
        self._ended: set[int] = set()
        self._imported = [dict(trial.params) for trial in imported]
        if SAMPLERS[spec.search.sampler].stopped == "ignored":
            self._go_on_from(ledger.trials())
        for trial in imported:
            by_epoch = {epoch: metrics.get(spec.objective.name) for epoch, metrics in trial.epochs.items()}
            self._known.add(trial.params, TrialState[trial.state], trial.values, by_epoch)

    def __call__(self, *, at_random: bool = False) -> Proposal:
        """Return what to try next.

        Args:
            at_random: Draw inside the narrowed space without asking the sampler, which may insist on a point.
        """
        self._catch_up()
        if self._is_to_explore():
            return Proposal(params=_drawn(self._anywhere, self._original), notes=self._region("whole"))
        for _ in range(0 if at_random else _MAX_KNOWN):
            number, params = self._known.ask()
            if params not in self._imported:
                self._asked[frozenset(params.items())] = number
                return Proposal(params=params, notes=self._region("narrow") | self._remarks(number))
            self._known.failed(number)
        return Proposal(params=_drawn(self._inside, self._box), notes=self._region("narrow"))

    def _go_on_from(self, earlier: Sequence[FrozenTrial]) -> None:
        """Pass over what earlier launches have proposed: a sequence of points would begin from its first again."""
        for trial in earlier:
            if trial.user_attrs.get("region", "narrow") == "narrow" and "retry_of" not in trial.user_attrs:
                number, _ = self._known.ask()
                values = [0.0] * len(
                    self._ledger.spec.directions
                )  # values do not matter; a failed one does not count
                self._known.ended(number, TrialState.COMPLETE, values, {})

    def _region(self, name: str) -> dict[str, Any]:
        return {"region": name} if self._ledger.spec.space.is_narrowed else {}

    def _remarks(self, number: int) -> dict[str, Any]:
        remarks = self._known.remarks(number)
        return {_REMARKS: remarks} if remarks else {}

    def _is_to_explore(self) -> bool:
        spec = self._ledger.spec
        if not spec.space.is_narrowed:
            return False
        regions = [
            trial.user_attrs["region"]
            for trial in self._ledger.trials()
            if "region" in trial.user_attrs and "retry_of" not in trial.user_attrs
        ]
        so_far = regions.count("whole")
        share = spec.search.exploration
        return so_far < round(share * spec.study.trials) and (len(regions) + 1) * share >= so_far + 0.5

    def _catch_up(self) -> None:
        """Tell the sampler's study of the trials that have begun, come further and ended since."""
        for trial in self._ledger.trials():
            if trial.number in self._ended or trial.state == TrialState.WAITING:
                continue
            if trial.state == TrialState.RUNNING:
                self._follow(trial)
            else:
                self._ended.add(trial.number)
                self._take_in(trial)

    def _follow(self, trial: FrozenTrial) -> None:
        """Tell of a running trial, if the sampler can know it: not outside, and all its parameters are drawn."""
        known = self._number_of(trial)
        if known is None and self._box.contains(trial.params):
            known = self._known.began(trial.params, trial.user_attrs.get(_REMARKS))
        if known is not None:
            self._running[trial.number] = known
            self._known.reached(known, trial.intermediate_values)

    def _take_in(self, trial: FrozenTrial) -> None:
        """Tell of a trial that has ended."""
        known = self._number_of(trial)
        values, by_epoch = trial.values or (), trial.intermediate_values
        if known is not None:
            self._running.pop(trial.number, None)
            self._known.ended(known, trial.state, values, by_epoch)
        elif trial.state != TrialState.FAIL and self._box.contains(trial.params):
            self._known.add(trial.params, trial.state, values, by_epoch, trial.user_attrs.get(_REMARKS))

    def _number_of(self, trial: FrozenTrial) -> int | None:
        """Return a trial's number among the known ones, None for one that is not among them."""
        if trial.number in self._running:
            return self._running[trial.number]
        return self._asked.pop(frozenset(trial.params.items()), None)


def _drawn(study: optuna.Study, space: SearchSpace) -> dict[str, Value]:
    trial = study.ask()
    params = space.suggest(trial)
    study.tell(trial, state=TrialState.FAIL)
    return params
