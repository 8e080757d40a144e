"""Proposes the next trial of a narrowed study, or of one with several objectives.

A narrowed study mostly samples inside its narrowed space, and sometimes anywhere in the original one.

Optuna's tables have the whole space, so that all trials are of one study. The sampler works on a study in memory that
has the narrowed space, the study's own trials inside it, and the parent's. So it never has to model what it may not
choose, and imported trials are nobody's trials twice. With several objectives that study has finished trials only,
because Optuna's samplers cannot use pruned ones there.
"""

from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from searcher.ledger.records import TrialRecord
from searcher.ledger.study_ledger import Proposal, StudyLedger
from searcher.lineage.distributions import distribution
from searcher.orchestration.trials.samplers import build_sampler
from searcher.study.space import SearchSpace, Value

__all__ = ["Advisor"]

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_MAX_KNOWN = 10
"""As many proposals in a row that the parent has tried already are passed over; then one is drawn at random."""


class Advisor:
    """Proposes trials of a narrowed study.

    Args:
        ledger: Of the study.
        imported: The parent's trials inside the narrowed space.
    """

    def __init__(self, ledger: StudyLedger, imported: Sequence[TrialRecord]) -> None:
        spec = ledger.spec
        self._ledger = ledger
        self._is_single = not spec.study.also
        self._whole = spec.space.widened()
        self._box = spec.space.narrow()
        self._distributions = {each.name: distribution(each.domain) for each in self._box.parameters}
        num_trials = len(ledger.trials())
        sampler = build_sampler(spec, num_trials=num_trials)
        self._study = optuna.create_study(
            directions=spec.directions, sampler=sampler, pruner=optuna.pruners.NopPruner()
        )
        seed = spec.study.seed * 7919 + num_trials
        self._anywhere = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        self._inside = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed + 1))
        self._asked: dict[frozenset[tuple[str, Value]], optuna.Trial] = {}
        self._known: set[int] = set()
        self._imported = [dict(trial.params) for trial in imported]
        for known in imported:
            by_epoch = {epoch: metrics.get(spec.objective.name) for epoch, metrics in known.epochs.items()}
            self._add(TrialState[known.state], known.params, known.values, by_epoch)

    def __call__(self, *, at_random: bool = False) -> Proposal:
        """Return what to try next.

        Args:
            at_random: Draw inside the narrowed space without asking the sampler, which may insist on a point.
        """
        self._catch_up()
        if self._is_to_explore():
            return Proposal(params=_drawn(self._anywhere, self._whole), notes={"region": "whole"})
        for _ in range(0 if at_random else _MAX_KNOWN):
            trial = self._study.ask()
            params = self._box.suggest(trial)
            if params not in self._imported:
                self._asked[frozenset(params.items())] = trial
                return Proposal(params=params, notes={"region": "narrow"})
            self._study.tell(trial, state=TrialState.FAIL)
        return Proposal(params=_drawn(self._inside, self._box), notes={"region": "narrow"})

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
        share = spec.search.explore
        return so_far < round(share * spec.study.trials) and (len(regions) + 1) * share >= so_far + 0.5

    def _catch_up(self) -> None:
        """Tell the sampler's study of the trials that have ended since."""
        for trial in self._ledger.trials(*_ENDED):
            if trial.number in self._known:
                continue
            self._known.add(trial.number)
            asked = self._asked.pop(frozenset(trial.params.items()), None)
            if asked is not None:
                self._tell(asked, trial)
            elif trial.state != TrialState.FAIL and self._box.contains(trial.params):
                self._add(trial.state, trial.params, trial.values or (), trial.intermediate_values)

    def _tell(self, asked: optuna.Trial, trial: FrozenTrial) -> None:
        if trial.state == TrialState.COMPLETE:
            self._study.tell(asked, trial.values)
        elif trial.state == TrialState.PRUNED and self._is_single:
            for epoch, value in trial.intermediate_values.items():
                asked.report(value, epoch)
            self._study.tell(asked, state=TrialState.PRUNED)
        else:
            self._study.tell(asked, state=TrialState.FAIL)

    def _add(
        self,
        state: TrialState,
        params: Mapping[str, Value],
        values: Sequence[float],
        by_epoch: Mapping[int, float | None],
    ) -> None:
        if state == TrialState.PRUNED and not self._is_single:
            return  # a curve of one objective is no point among several
        self._study.add_trial(
            create_trial(
                state=state,
                values=[*values] if state == TrialState.COMPLETE else None,
                params=dict(params),
                distributions={name: self._distributions[name] for name in params},
                intermediate_values={epoch: each for epoch, each in by_epoch.items() if each is not None},
            )
        )


def _drawn(study: optuna.Study, space: SearchSpace) -> dict[str, Value]:
    trial = study.ask()
    params = space.suggest(trial)
    study.tell(trial, state=TrialState.FAIL)
    return params
