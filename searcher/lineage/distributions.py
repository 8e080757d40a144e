"""Our domains in Optuna's words."""

from typing import Any

import optuna

from searcher.study.space import Domain

__all__ = ["distribution"]


def distribution(domain: Domain) -> optuna.distributions.BaseDistribution:
    """Return a range or choice as Optuna's distribution: the original one, if it was narrowed."""
    recorder = _Recorder()
    domain.suggest(recorder, "")
    assert recorder.heard is not None
    return recorder.heard


class _Recorder:
    """A suggester that only records the requests of a domain."""

    def __init__(self) -> None:
        self.heard: optuna.distributions.BaseDistribution | None = None

    def suggest_float(self, _name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        self.heard = optuna.distributions.FloatDistribution(low, high, log=log, step=step)
        return low

    def suggest_int(self, _name: str, low: int, high: int, *, step: int, log: bool) -> int:
        self.heard = optuna.distributions.IntDistribution(low, high, log=log, step=step)
        return low

    def suggest_categorical(self, _name: str, choices: Any) -> Any:
        self.heard = optuna.distributions.CategoricalDistribution(choices)
        return choices[0]
