"""Which way to search is best: one long search, random search, or from broad to narrow, at equal budget.

    python tests/benchmarks/search_strategies.py --seeds 30 --json strategies.json

Nothing is trained. A trial's learning curve comes from an invented response over the real space of
`studies/unet-broad.toml`; what proposes, stops, narrows and imports is the service's own code: its samplers, its
scheduler, `refine`, its proposer, its studies. Only the database, Ray and the network are missing.
`docs/search-strategies.md` has the results and what they say. It goes on from the file where it was stopped.

The response
------------

The noise-free object Dice after epoch e of T is

    v(e) = F - (F - S) exp(-((e - 1) / tau)^0.87) - sag (1 - e / T)

Fitted to the one real curve there is, of a good U-Net here: .12 after epoch 1, .68 after 5, .87 after 15, .88 after 28:
F = .885, S = .12, exponent .87, tau = 2.9 miss none by more than .005; a power law cannot meet both 5 and 15. That
run's epochs were 600 crops, those of `unet-broad` are one crop per image, so each surface draws tau between 0.8 and 3
times 2.9. `sag` is what a schedule that anneals still has to gain: .025 for cosine, .012 for plateau.

F falls from .905 (the best validation value so far) towards .05 as penalties add up, in units of object Dice:

- learning rate: squared decades from an optimum that depends on optimiser, momentum (by lr / (1 - momentum)), batch
  size and normalisation; twice as steep above it as below; some 1.2 decades above it training diverges, .6 without
  normalisation: half of those trials fail within 3 epochs, half predict nothing to the end;
- no normalisation: .08 to .16 and three times as slow, after the poster, whose 50 trials without it learnt nothing;
- augmentation: `poster` .025 to .065; the strength of `standard` has an optimum; stronger is slower to learn;
- the rest: .00 to .02 each, which is what such choices usually move.

Optima and sizes are drawn anew for each seed. There are three kinds of surface, so that one shape does not decide:

- `ridge`: the learning rate's valley is three times as narrow and moves twice as far with the batch size;
- `deceptive`: a wide basin ends .035 below the best; the best is a smaller one, SGD with momentum and group
  normalisation, which learns 1.8 times as slowly;
- `flat`: penalties below some .03 hardly count, so many configurations are nearly as good as the best.

Noise: a run's final value has a standard deviation of .015 (13 validation images), its epochs .012 beside, and .05 in
the first. As in the service a trial's value is that of its best epoch, so it flatters; `optimism` is by how much.

What is scored is the regret: the noise-free value of the best configuration there is, after 40 epochs, less that of the
configuration that a strategy chooses.
"""

import argparse
import hashlib
import inspect
import json
import math
import multiprocessing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import optuna
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler

import searcher.study.refine as refine_rules
from searcher.ledger.records import TrialRecord
from searcher.ledger.study_ledger import StudyLedger
from searcher.orchestration.trials.proposer import Proposer, is_needed
from searcher.orchestration.trials.samplers import build_sampler
from searcher.orchestration.trials.scheduler import build_scheduler
from searcher.study.catalog import load_study
from searcher.study.derive import refined
from searcher.study.refine import Tried
from searcher.study.space import FloatRange, IntRange, Value
from searcher.study.spec import StudySpec

Params = Mapping[str, Value]

BROAD = load_study("unet-broad")

KINDS = ("ridge", "deceptive", "flat")
EPOCHS = 40
"""Of a trial at full length."""
TOP, FLOOR, START = 0.905, 0.05, 0.12
TAU, EXPONENT = 2.9, 0.87
SAG = {"constant": 0.0, "plateau": 0.012, "cosine": 0.025}
RUN_NOISE, EPOCH_NOISE, FIRST_EPOCH_NOISE = 0.015, 0.012, 0.05


# ---- The response ----------------------------------------------------------------------------------------


class Surface:
    """A response over the space of `unet-broad`."""

    def __init__(self, kind: str, seed: int) -> None:
        assert kind in KINDS
        self.kind = kind
        rng = np.random.default_rng([seed, KINDS.index(kind)])
        # Decades: of lr for Adam, of lr / (1 - momentum) for SGD.
        self._lr = {
            "adam": rng.normal(-3.0, 0.25),
            "adamw": rng.normal(-2.9, 0.25),
            "sgd": rng.normal(-0.6, 0.3),
        }
        self._tempo = TAU * math.exp(rng.uniform(math.log(0.8), math.log(3.0)))
        self._no_norm = rng.uniform(0.08, 0.16)
        self._poster = rng.uniform(0.025, 0.065)
        self._strength, self._dropout = rng.uniform(0.6, 1.3), rng.uniform(0.0, 0.25)
        self._decay, self._area = rng.uniform(-5.5, -2.5), rng.uniform(100, 500)
        self._momentum = rng.uniform(0.6, 1.2)  # -log10(1 - momentum): .75 to .94
        self._choices = {
            "optimizer.name": _drawn(rng, {"sgd": 0.0, "adam": 0.0, "adamw": 0.0}, 0.015),
            "schedule.name": _drawn(rng, {"constant": 0.010, "plateau": 0.005, "cosine": 0.0}, 0.006),
            "train.batch_size": _drawn(rng, {1: 0.02, 2: 0.008, 4: 0.0, 6: 0.0}, 0.006),
            "model.base_channels": _drawn(rng, {16: 0.012, 32: 0.003, 64: 0.0}, 0.006),
            "model.norm": _drawn(rng, {"batch": 0.0, "group": 0.0}, 0.015) | {"none": self._no_norm},
            "model.upsampling": _drawn(rng, {"transposed": 0.0, "bilinear": 0.0}, 0.006),
            "model.loss": _drawn(rng, {"bce": 0.008, "dice": 0.004, "bce+dice": 0.0}, 0.006),
        }

    def curve(self, params: Params, num_epochs: int) -> np.ndarray:
        """Return the noise-free objective after each epoch, float64[num_epochs]; of a run that does not diverge."""
        final = FLOOR + (TOP - FLOOR) * math.exp(-self._penalty(params) / (TOP - FLOOR))
        start = START * final / TOP
        epochs = np.arange(1, num_epochs + 1)
        left = np.exp(-(((epochs - 1) / self._tau(params)) ** EXPONENT))
        sag = SAG[str(params["schedule.name"])] * final * (1 - epochs / num_epochs)
        return np.asarray(np.maximum(final - (final - start) * left - sag, 0.0))

    def quality(self, params: Params) -> float:
        """Return the noise-free objective after a whole run that does not diverge."""
        return float(self.curve(params, EPOCHS)[-1])

    def run(self, params: Params, num_epochs: int, rng: np.random.Generator) -> np.ndarray:
        """Return a run's objective after each epoch, float64[num_epochs]; NaN from where it fails on."""
        if rng.random() < self._risk(params):
            values = np.abs(rng.normal(0.0, 0.01, num_epochs))
            if rng.random() < 0.5:
                values[rng.integers(0, 3) :] = np.nan
            return values
        decaying = np.exp(-np.arange(num_epochs) / self._tau(params))
        noise = EPOCH_NOISE + (FIRST_EPOCH_NOISE - EPOCH_NOISE) * decaying
        noise *= 1 + max(0.0, self._too_fast(params))  # a large step makes epochs uneven
        values = self.curve(params, num_epochs) + rng.normal(0.0, RUN_NOISE) + rng.normal(0.0, noise)
        return np.clip(values, 0.0, 1.0)

    def best_quality(self, start: Sequence[Params]) -> float:
        """Return the highest quality there is, by hill climbing from the best of many points."""
        rng = np.random.default_rng(0)
        space = BROAD.space
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        points = [dict(point) for point in start]
        points += [space.suggest(study.ask()) for _ in range(400)]
        best = 0.0
        for point in sorted(points, key=self.quality, reverse=True)[:8]:
            here, width = self.quality(point), 0.3
            for step in range(1000):
                changed = _changed(point, rng, width * 0.995**step)
                if space.contains(changed) and (there := self.quality(changed)) > here:
                    point, here = changed, there
            best = max(best, here)
        return best

    def _too_fast(self, params: Params) -> float:
        """Return decades that the learning rate is above its optimum; below 0 it is too low."""
        optimizer = str(params["optimizer.name"])
        decades = math.log10(float(params["optimizer.lr"]))
        if optimizer == "sgd":
            decades += _sluggishness(params)
        optimum = self._lr[optimizer] + (1.0 if self.kind == "ridge" else 0.5) * math.log10(
            float(params["train.batch_size"]) / 4
        )
        return decades - optimum + (0.7 if params["model.norm"] == "none" else 0.0)

    def _risk(self, params: Params) -> float:
        limit = 0.6 if params["model.norm"] == "none" else 1.2
        return 1 / (1 + math.exp(-(self._too_fast(params) - limit) / 0.08))

    def _tau(self, params: Params) -> float:
        tau = self._tempo * 10 ** (0.3 * max(0.0, -self._too_fast(params)))
        tau *= 1 + float(params["model.dropout"])
        tau *= 3.0 if params["model.norm"] == "none" else 1.0
        tau *= 1 + 0.3 * float(params.get("augment.strength", 0.0))
        if self.kind == "deceptive":
            tau *= 1 + 0.8 * self._in_better_basin(params)
        return float(tau)

    def _penalty(self, params: Params) -> float:
        too_fast = self._too_fast(params)
        steepness = 3.0 if self.kind == "ridge" else 1.0
        total = steepness * (0.10 if too_fast > 0 else 0.05) * too_fast**2
        total += sum(sizes[params[name]] for name, sizes in self._choices.items())
        if params["train.batch_size"] == 1 and params["model.norm"] == "batch":
            total += 0.03
        if params["augment.preset"] == "poster":
            total += self._poster
        else:
            total += 0.12 * (float(params["augment.strength"]) - self._strength) ** 2
        total += 0.4 * (float(params["model.dropout"]) - self._dropout) ** 2
        decay = math.log10(float(params["optimizer.weight_decay"])) - self._decay
        decay -= (
            1.0 if params["optimizer.name"] == "adamw" else 0.0
        )  # which does not mix it with the gradient
        total += 0.01 * decay**2 if decay > 0 else min(0.012, 0.002 * decay**2)
        area = params["postprocess.min_object_area_px"]
        total += 0.01 * (((300.0 if area == "auto" else float(area)) - self._area) / 300) ** 2
        if params["optimizer.name"] == "sgd":
            total += 0.01 * (_sluggishness(params) - self._momentum) ** 2
        if self.kind == "deceptive":
            total += 0.035 * (1 - self._in_better_basin(params))
        if self.kind == "flat":
            total = total**2 / (total + 0.04)
        return float(total)

    def _in_better_basin(self, params: Params) -> float:
        """Return 1 at the bottom of the better basin of the deceptive surface, towards 0 away from it."""
        if params["optimizer.name"] != "sgd" or params["model.norm"] == "none":
            return 0.0
        away = (self._too_fast(params) / 0.6) ** 2 + ((_sluggishness(params) - self._momentum) / 0.5) ** 2
        return math.exp(-away) * (1.0 if params["model.norm"] == "group" else 0.5)


def _drawn(rng: np.random.Generator, sizes: Mapping[Any, float], more: float) -> dict[Any, float]:
    """Return penalties of choices, each up to `more` larger than given, the smallest 0."""
    drawn = {choice: size + rng.uniform(0.0, more) for choice, size in sizes.items()}
    return {choice: size - min(drawn.values()) for choice, size in drawn.items()}


def _sluggishness(params: Params) -> float:
    """Return by how many decades momentum multiplies SGD's steps."""
    return -math.log10(1 - float(params["optimizer.momentum"]))


def _changed(point: Params, rng: np.random.Generator, width: float) -> dict[str, Value]:
    """Return a point with one or two of its parameters moved."""
    changed = dict(point)
    space = BROAD.space
    for name in rng.choice(list(point), size=rng.integers(1, 3), replace=False):
        domain = space[str(name)].domain
        if not isinstance(domain, FloatRange | IntRange):
            changed[str(name)] = domain.edges()[rng.integers(len(domain.edges()))]
            continue
        forward, back = (math.log, math.exp) if domain.log else (float, float)
        low, high = forward(domain.low), forward(domain.high)
        value = back(
            min(high, max(low, forward(float(changed[str(name)])) + rng.normal(0, width) * (high - low)))
        )
        if domain.step is not None:
            value = domain.low + domain.step * round((value - domain.low) / domain.step)
        value = min(domain.high, max(domain.low, value))
        changed[str(name)] = int(value) if isinstance(domain, IntRange) else value
    # What a changed choice calls for.
    if changed["optimizer.name"] == "sgd":
        changed.setdefault("optimizer.momentum", 0.9)
    else:
        changed.pop("optimizer.momentum", None)
    if changed["augment.preset"] == "standard":
        changed.setdefault("augment.strength", 1.0)
    else:
        changed.pop("augment.strength", None)
    return changed


# ---- The service, without database and network -----------------------------------------------------------


@dataclass(kw_only=True)
class Run:
    """A trial, with what the proposer, `refine` and the scheduler ask of one."""

    number: int
    params: Params
    curve: np.ndarray
    """Objective by epoch, as far as the run would come."""
    user_attrs: Mapping[str, Any]
    asked: optuna.Trial | None
    """Of the sampler's study; None if the proposer has one of its own."""
    trial_id: str = ""
    config: Mapping[str, Any] = field(default_factory=lambda: {"job": SimpleNamespace(past_values={})})
    state: TrialState = TrialState.RUNNING
    value: float | None = None
    intermediate_values: dict[int, float] = field(default_factory=dict)

    @property
    def values(self) -> tuple[float, ...]:
        """All objectives: the one, if it is COMPLETE."""
        return () if self.value is None else (self.value,)


class Study:
    """A study that is searched until its epochs are spent; in place of a ledger it keeps its trials in a list."""

    def __init__(self, spec: StudySpec, surface: Surface, noise: np.random.Generator) -> None:
        self.spec = spec
        self.spent = 0
        self.runs: list[Run] = []
        self._surface = surface
        self._noise = noise
        self._num_epochs = spec.trial_config({}).train.epochs
        self._proposer: Proposer | None = None
        self._optuna = optuna.create_study(
            direction=spec.objective.direction, sampler=build_sampler(spec, num_trials=0)
        )
        for point in spec.enqueue:
            self._optuna.enqueue_trial(dict(point))
        if is_needed(spec, []):
            self.use_proposer([])

    def trials(self, *states: TrialState) -> list[Run]:
        """Return the trials in these states, all if none is given; what the proposer asks of a ledger."""
        return [run for run in self.runs if run.state in states or not states]

    @property
    def complete(self) -> list[Run]:
        """Trials that came to their end, the best first."""
        return sorted(self.trials(TrialState.COMPLETE), key=lambda run: (-(run.value or 0.0), run.number))

    def use_proposer(self, imported: Sequence[TrialRecord]) -> None:
        """Search with the proposer of a narrowed study."""
        self._proposer = Proposer(cast(StudyLedger, self), imported)

    @property
    def num_done(self) -> int:
        """Trials that count towards a study's number of trials."""
        return len(self.trials(TrialState.COMPLETE, TrialState.PRUNED))

    def search(self, budget: int, *, workers: int, num_trials: int | None = None) -> None:
        """Train until so many epochs are spent, or trials done, several trials at a time, epoch by epoch.

        Trials that are under way then are cut off and count as pruned, so that budgets are equal to the epoch.
        """
        scheduler = build_scheduler(self.spec, [])
        running: list[Run] = []
        while self.spent < budget and (num_trials is None or self.num_done < num_trials):
            while len(running) < workers:
                running.append(self._next_run())
                scheduler.on_trial_add(None, running[-1])
            for run in list(running):
                if self.spent < budget and self._train(run, scheduler):
                    running.remove(run)
        for run in running:
            self._end(run, TrialState.PRUNED)

    def _next_run(self) -> Run:
        number, notes, asked = len(self.runs), {}, None
        if self._proposer is not None and number >= len(self.spec.enqueue):
            proposal = self._proposer()
            params, notes = proposal.params, dict(proposal.notes)
        else:
            asked = self._optuna.ask()
            params = self.spec.space.suggest(asked)
        curve = self._surface.run(params, self._num_epochs, self._noise)
        run = Run(
            number=number, params=params, curve=curve, user_attrs=notes, asked=asked, trial_id=str(number)
        )
        self.runs.append(run)
        return run

    def _train(self, run: Run, scheduler: TrialScheduler) -> bool:
        """Train one epoch; return whether the trial has ended."""
        epoch = len(run.intermediate_values) + 1
        value = float(run.curve[epoch - 1])
        self.spent += 1
        if math.isnan(value):
            scheduler.on_trial_remove(None, run)
            self._end(run, TrialState.FAIL)
            return True
        run.intermediate_values[epoch] = value
        if run.asked is not None:
            run.asked.report(value, epoch)
        result = {"epoch": epoch, "objective": value}
        if epoch == self._num_epochs:
            scheduler.on_trial_complete(None, run, result)
            self._end(run, TrialState.COMPLETE)
            return True
        if scheduler.on_trial_result(None, run, result) == TrialScheduler.STOP:
            scheduler.on_trial_remove(None, run)
            self._end(run, TrialState.PRUNED)
            return True
        return False

    def _end(self, run: Run, state: TrialState) -> None:
        run.state = state
        if state == TrialState.COMPLETE:
            run.value = max(run.intermediate_values.values())
        if run.asked is not None:
            self._optuna.tell(run.asked, run.value, state=state)


def tried(study: Study) -> list[Tried]:
    """Return a study's trials as `refine` looks at them."""
    return [
        Tried(number=run.number, params=run.params, value=run.value)
        for run in study.trials(TrialState.COMPLETE, TrialState.PRUNED)
    ]


def imports(spec: StudySpec, parent: Study, *, regardless: bool) -> list[TrialRecord]:
    """Return the parent's trials that the service would import.

    Args:
        spec: The narrowed study.
        parent: What it was narrowed from.
        regardless: Import them too where they had another number of epochs, so that their values mean another thing.
    """
    box = spec.space.narrow()
    found = []
    for run in parent.trials(TrialState.COMPLETE, TrialState.PRUNED):
        if not box.contains(run.params) or run.params in spec.enqueue:
            continue
        own, parents = (each.trial_config(run.params).digest() for each in (spec, parent.spec))
        if own == parents or regardless:
            epochs = {epoch: {spec.objective.name: each} for epoch, each in run.intermediate_values.items()}
            found.append(
                TrialRecord(
                    number=run.number,
                    state=run.state.name,
                    params=run.params,
                    value=run.value,
                    values=run.values,
                    epochs=epochs,
                    notes={},
                )
            )
    return found


# ---- Strategies ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A way to spend a budget of epochs."""

    first: Mapping[str, Value] = field(default_factory=dict)
    """What its first study has other than `FIRST`."""
    second: Mapping[str, Value] | None = field(default_factory=dict)
    """What its second study has other than `SECOND`; None if there is no second."""
    share: float = 0.47
    """Of the budget, for the first of two. The baseline's studies, at 50 and 30 trials, spend them so."""
    imports: str = "equal epochs"
    """`equal epochs`: as the service does. `regardless`: of their number. `none`."""
    rules: Mapping[str, float] = field(default_factory=dict)
    """Constants of `searcher.study.refine`."""
    rerank: tuple[int, int] | None = None
    """Best trials and runs of each, at the end."""
    trials: int = field(default=50, repr=False)
    """Of its first study, where trials are counted and not epochs."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a strategy on one surface."""

    regret: float
    optimism: float
    """The value that the choice was made by, less the noise-free one."""
    num_trials: int
    first_complete: int
    """COMPLETE trials of the first study."""
    imported: int


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How far the two studies come in 50 and 30 trials, or as many as the strategy says."""

    epochs: int
    """Of the first."""
    num_complete: int
    """Of the first; `unet-narrow` asks for 10."""
    second_complete: int
    """Of the second; `unet-rerank` asks for 5."""


def alone(**overrides: Value) -> Strategy:
    """Return one study of full-length trials; `a__b` stands for the key `a.b`."""
    return Strategy(first={"train.epochs": EPOCHS, **_dotted(overrides)}, second=None)


def _dotted(overrides: Mapping[str, Value]) -> dict[str, Value]:
    return {name.replace("__", "."): value for name, value in overrides.items()}


def unpruned(strategy: Strategy, *, first: bool = False, second: bool = False) -> Strategy:
    """Return a strategy without a pruner in one or both of its studies."""
    none = {"pruner.name": "none"}
    return replace(
        strategy,
        first={**strategy.first, **(none if first else {})},
        second=None if strategy.second is None else {**strategy.second, **(none if second else {})},
    )


BASELINE = "broad TPE of 20 epochs, then narrow TPE"
FIRST: Mapping[str, Value] = {
    "train.epochs": 20,
    "search.sampler": "tpe",
    "search.startup_trials": 15,
    "pruner.grace_epochs": 2,
    "pruner.reduction_factor": 3.0,
}
"""What the first study has where a strategy says nothing: `unet-broad` when the benchmark was written."""
SECOND: Mapping[str, Value] = {
    "train.epochs": EPOCHS,
    "search.sampler": "tpe",
    "search.startup_trials": 8,
    "search.exploration": 0.1,
    "pruner.grace_epochs": 4,
    "pruner.reduction_factor": 3.0,
}
"""The same of the second: `unet-narrow`."""
SECOND_TRIALS = 30
MAIN: Mapping[str, Strategy] = {
    BASELINE: Strategy(),
    "random, no pruning": alone(search__sampler="random", pruner__name="none"),
    "random + ASHA": alone(search__sampler="random"),
    "QMC + ASHA": alone(search__sampler="qmc"),
    "one long TPE, no pruning": alone(pruner__name="none"),
    "one long TPE + ASHA": alone(),
    "one long TPE + ASHA, grace 4": alone(pruner__grace_epochs=4),
    "one long fast-gp + ASHA, grace 4": alone(
        pruner__grace_epochs=4, search__sampler="fast-gp", search__startup_trials=8
    ),
    "broad TPE of 20 epochs, grace 4, then narrow": Strategy(first={"pruner.grace_epochs": 4}),
    "broad TPE of 40 epochs, then narrow, import": Strategy(first={"train.epochs": EPOCHS}),
    "broad TPE of 40 epochs, then narrow, no import": Strategy(
        first={"train.epochs": EPOCHS}, imports="none"
    ),
    "broad TPE of 40 epochs, grace 4, then narrow, import": Strategy(
        first={"train.epochs": EPOCHS, "pruner.grace_epochs": 4}
    ),
    "broad QMC of 40 epochs, then narrow, import": Strategy(
        first={"train.epochs": EPOCHS, "search.sampler": "qmc"}
    ),
    "broad random, then narrow": Strategy(first={"search.sampler": "random"}),
    "broad QMC, then narrow": Strategy(first={"search.sampler": "qmc"}),
}
VARIANTS: Mapping[str, Strategy] = {
    "import regardless of epochs": Strategy(imports="regardless"),
    "exploration 0": Strategy(second={"search.exploration": 0.0}),
    "exploration 0.2": Strategy(second={"search.exploration": 0.2}),
    "broad: startup_trials 10": Strategy(first={"search.startup_trials": 10}),
    "broad: startup_trials 25": Strategy(first={"search.startup_trials": 25}),
    "narrow: startup_trials 4": Strategy(second={"search.startup_trials": 4}),
    "narrow: startup_trials 16": Strategy(second={"search.startup_trials": 16}),
    "narrow: random": Strategy(second={"search.sampler": "random"}),
    "narrow: no pruning": unpruned(Strategy(), second=True),
    "narrow: grace 2": Strategy(second={"pruner.grace_epochs": 2}),
    "broad: 30% of the budget": Strategy(share=0.3),
    "broad: 60% of the budget": Strategy(share=0.6),
    "refine: best fraction 0.3": Strategy(rules={"_BEST_FRACTION": 0.3}),
    "refine: at least 3 best, not 5": Strategy(rules={"_LEAST_BEST": 3}),
    "refine: at least 8 best, not 5": Strategy(rules={"_LEAST_BEST": 8}),
    "refine: margin 0.05": Strategy(rules={"_MARGIN": 0.05}),
    "refine: margin 0.2": Strategy(rules={"_MARGIN": 0.2}),
}
HALVING: Mapping[str, Strategy] = {
    "no pruning": unpruned(Strategy(), first=True),
    **{
        f"factor {factor}, grace {grace}": Strategy(
            first={"pruner.reduction_factor": float(factor), "pruner.grace_epochs": grace}
        )
        for factor in (2, 3, 4)
        for grace in (1, 2, 4)
        if (factor, grace) != (3, 2)
    },
    "factor 3, grace 4, of 40 epochs, import; 25 trials": Strategy(
        first={"train.epochs": EPOCHS, "pruner.grace_epochs": 4}, trials=25
    ),
}
RERANK: Mapping[str, Strategy] = {
    BASELINE: Strategy(),
    "+ rerank of 5, 3 runs each": Strategy(rerank=(5, 3)),
    "+ rerank of 3, 3 runs each": Strategy(rerank=(3, 3)),
    "+ rerank of 3, 2 runs each": Strategy(rerank=(3, 2)),
    "one long TPE + ASHA": alone(),
    "one long TPE + ASHA, + rerank of 5, 3 runs each": replace(alone(), rerank=(5, 3)),
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Strategies that are compared at one budget."""

    title: str
    budget: int
    """Epochs."""
    knows: bool = True
    """Whether the first study begins with the two points of `unet-broad` that are known to work."""
    strategies: Mapping[str, Strategy]


TABLES: Mapping[str, Table] = {
    "main": Table(title="Strategies", budget=720, strategies=MAIN),
    "blind": Table(
        title="Strategies, without the known first points", budget=720, knows=False, strategies=MAIN
    ),
    "variants": Table(title="One thing changed", budget=720, strategies={BASELINE: Strategy(), **VARIANTS}),
    "halving": Table(
        title="Halving in the broad study", budget=720, strategies={BASELINE: Strategy(), **HALVING}
    ),
    "rerank": Table(title="With a rerank, at twice the budget", budget=1440, strategies=RERANK),
}


class Trier:
    """Tries strategies on one surface; what begins alike is searched once.

    Args:
        surface: Where.
        seed: Of samplers and noise.
        workers: Trials at a time.
    """

    def __init__(self, surface: Surface, *, seed: int, workers: int) -> None:
        self._surface, self._seed, self._workers = surface, seed, workers
        self._firsts: dict[tuple[str, int, bool], Study] = {}

    def pursue(self, strategy: Strategy, *, budget: int, best: float, knows: bool) -> Outcome:
        """Return what a strategy finds.

        Args:
            strategy: What to do.
            budget: Epochs.
            best: The best quality there is.
            knows: Whether the first study begins with known points.
        """
        if strategy.rerank is not None:
            budget -= math.prod(strategy.rerank) * EPOCHS
        share = 1.0 if strategy.second is None else strategy.share
        first = self._first(strategy, round(share * budget), knows=knows)
        last, imported = first, []
        if strategy.second is not None:
            spec = narrowed(first, strategy, self._seed)
            if strategy.imports != "none":
                imported = imports(spec, first, regardless=strategy.imports == "regardless")
            last = Study(spec, self._surface, self._noise(2))
            last.use_proposer(imported)
            last.search(budget - first.spent, workers=self._workers)
        params, value = last.complete[0].params, last.complete[0].value or 0.0
        if strategy.rerank is not None:
            params, value = self._reranked(last, *strategy.rerank)
        quality = self._surface.quality(params)
        return Outcome(
            regret=max(0.0, best - quality),
            optimism=value - quality,
            num_trials=len(first.runs) + (len(last.runs) if last is not first else 0),
            first_complete=len(first.complete),
            imported=len(imported),
        )

    def at_fixed_numbers(self, strategy: Strategy) -> Counts:
        """Return what a strategy's studies leave after so many trials as they are to have, whatever that costs."""
        spec = load_study("unet-broad", {**FIRST, **strategy.first, "study.seed": self._seed})
        first = Study(spec, self._surface, self._noise(1))
        first.search(10**6, workers=self._workers, num_trials=strategy.trials)
        second = Study(narrowed(first, strategy, self._seed), self._surface, self._noise(2))
        second.use_proposer([])
        second.search(10**6, workers=self._workers, num_trials=SECOND_TRIALS)
        return Counts(
            epochs=first.spent, num_complete=len(first.complete), second_complete=len(second.complete)
        )

    def _first(self, strategy: Strategy, budget: int, *, knows: bool) -> Study:
        key = repr(sorted(strategy.first.items())), budget, knows
        if key not in self._firsts:
            spec = load_study("unet-broad", {**FIRST, **strategy.first, "study.seed": self._seed})
            spec = spec if knows else replace(spec, enqueue=())
            self._firsts[key] = Study(spec, self._surface, self._noise(1))
            self._firsts[key].search(budget, workers=self._workers)
        return self._firsts[key]

    def _reranked(self, study: Study, num_best: int, num_runs: int) -> tuple[Params, float]:
        """Return which of the best trials has the best mean when trained again, and the mean."""
        noise = self._noise(3)
        means = []
        for run in study.complete[:num_best]:
            values = [float(np.nanmax(self._surface.run(run.params, EPOCHS, noise))) for _ in range(num_runs)]
            means.append((fmean(values), run.params))
        mean, params = max(means, key=lambda each: each[0])
        return params, mean

    def _noise(self, stage: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, stage])


def narrowed(first: Study, strategy: Strategy, seed: int) -> StudySpec:
    """Return the study that the first one leaves."""
    assert strategy.second is not None
    defaults = {name: getattr(refine_rules, name) for name in strategy.rules}
    for name, value in strategy.rules.items():
        setattr(refine_rules, name, value)
    try:
        refinement = refine_rules.refine(first.spec.space, tried(first), first.spec.objective, model="unet")
    finally:
        for name, value in defaults.items():
            setattr(refine_rules, name, value)
    return refined(
        load_study("unet-narrow", {**SECOND, **strategy.second, "study.seed": seed, "study.trials": 1000}),
        first.spec,
        refinement,
        incumbent=first.complete[0].params,
        reasons={},
    )


# ---- Results ---------------------------------------------------------------------------------------------

Key = tuple[str, str]
"""Table and strategy."""

COUNTED_SEEDS = 10
"""On so many trials are counted, not epochs, too: how many come to their end depends on little but the rungs."""


def compute(
    kind: str, seed: int, best: float | None, keys: Sequence[Key], workers: int
) -> tuple[float, dict[Key, dict[str, Any]]]:
    """Return the best quality of a surface, and what became of strategies there."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    surface = Surface(kind, seed)
    if best is None:
        best = surface.best_quality(BROAD.enqueue)
    trier = Trier(surface, seed=seed, workers=workers)
    outcomes: dict[Key, dict[str, Any]] = {}
    for table, name in keys:
        strategy, budget, knows = TABLES[table].strategies[name], TABLES[table].budget, TABLES[table].knows
        outcome = trier.pursue(strategy, budget=budget, best=best, knows=knows)
        outcomes[table, name] = vars(outcome)
        if table == "halving" and seed < COUNTED_SEEDS:
            outcomes[table, name] |= vars(trier.at_fixed_numbers(strategy))
    return best, outcomes


class Results:
    """Outcomes by table, strategy and surface, kept in a file."""

    def __init__(self, path: Path | None, *, workers: int) -> None:
        self._path = path
        # What is compared must be of the same making; of another response, code or study, begin another file.
        response = inspect.getsource(Surface) + repr(
            (EPOCHS, TOP, FLOOR, START, TAU, EXPONENT, SAG, RUN_NOISE, EPOCH_NOISE, FIRST_EPOCH_NOISE)
        )
        rules = inspect.getsource(refine_rules)
        texts = [response, rules, repr((BROAD.space, BROAD.enqueue, FIRST, SECOND))]
        made_of = {"digest": hashlib.sha256("".join(texts).encode()).hexdigest(), "workers": workers}
        self._content: dict[str, Any] = {**made_of, "best": {}, "outcomes": {}}
        if path is not None and path.exists():
            self._content = json.loads(path.read_text())
            there = {key: self._content.get(key) for key in made_of}
            assert there == made_of, f"{path}: must hold runs of {made_of}, got {there}"

    def best(self, surface: str) -> float | None:
        """Return the best quality of a surface, if it is known."""
        found: float | None = self._content["best"].get(surface)
        return found

    def of(self, key: Key) -> dict[str, dict[str, Any]]:
        """Return a strategy's outcomes by surface."""
        table, name = key
        entry = self._content["outcomes"].setdefault(table, {}).setdefault(name, {})
        settings = f"{TABLES[table].budget} epochs, {TABLES[table].strategies[name]}"
        if entry.setdefault("settings", settings) != settings:
            entry.clear()
            entry["settings"] = settings
        by_surface: dict[str, dict[str, Any]] = entry.setdefault("by_surface", {})
        return by_surface

    def add(self, surface: str, best: float, outcomes: Mapping[Key, dict[str, Any]]) -> None:
        """Keep what became of strategies on a surface."""
        self._content["best"][surface] = best
        for key, outcome in outcomes.items():
            self.of(key)[surface] = outcome
        if self._path is not None:
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(self._content) + "\n")
            new.replace(self._path)

    def print_table(self, name: str, strategies: Sequence[str], seeds: Sequence[int]) -> None:
        """Print a row for each strategy: its regret, and the difference to the baseline, pair by pair."""
        table = TABLES[name]
        surfaces = {kind: [f"{kind}/{seed}" for seed in seeds] for kind in KINDS}
        num = sum(map(len, surfaces.values()))
        print(f"\n{table.title}: {table.budget} epochs, {num} surfaces; regret and optimism times 1000\n")
        head = [
            "strategy",
            *KINDS,
            "median",
            "mean",
            "to the baseline, 95% interval",
            "optimism",
            "trials",
            "COMPLETE",
        ]
        if name == "halving":
            head += [
                "of 50: epochs",
                "COMPLETE",
                "10 or more",
                "then of 30: COMPLETE",
                "5 or more",
                "2 or more",
            ]
        print(f"| {' | '.join(head)} |")
        print("|---" + "|---:" * (len(head) - 1) + "|")
        rows = (
            {"no search: the better of the known points": self._unsearched(surfaces)} if table.knows else {}
        )
        rows |= {each: self.of((name, each)) for each in strategies}
        baseline = self.of((name, BASELINE))
        for strategy, found in rows.items():
            regrets = {
                kind: np.array([1000 * found[each]["regret"] for each in on]) for kind, on in surfaces.items()
            }
            gaps = {
                kind: regrets[kind] - np.array([1000 * baseline[each]["regret"] for each in on])
                for kind, on in surfaces.items()
            }
            every = np.concatenate(list(regrets.values()))
            cells = [_cell(regrets[kind], gaps[kind]) for kind in KINDS]
            cells += [f"{np.median(every):.0f}", f"{every.mean():.1f}"]
            cells.append("" if strategy == BASELINE else _shown_interval(list(gaps.values())))
            runs = [found[each] for on in surfaces.values() for each in on]
            if "optimism" in runs[0]:
                cells.append(f"{1000 * fmean(run['optimism'] for run in runs):.0f}")
                cells += [
                    f"{fmean(run[key] for run in runs):.0f}" for key in ("num_trials", "first_complete")
                ]
            counted = [run for run in runs if "epochs" in run]
            if counted:
                cells.append(f"{fmean(run['epochs'] for run in counted):.0f}")
                for key, least in (("num_complete", (10,)), ("second_complete", (5, 2))):
                    cells.append(f"{fmean(run[key] for run in counted):.1f}")
                    cells += [f"{fmean(100 * (run[key] >= each) for run in counted):.0f}%" for each in least]
            cells += [""] * (len(head) - 1 - len(cells))
            print(f"| {strategy} | {' | '.join(cells)} |")

    def _unsearched(self, surfaces: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
        """Return the regret of the better of the points that `unet-broad` tries first."""
        found = {}
        for kind, on in surfaces.items():
            for each in on:
                surface = Surface(kind, int(each.partition("/")[2]))
                quality = max(surface.quality(point) for point in BROAD.enqueue)
                found[each] = {"regret": self._content["best"][each] - quality}
        return found


def _cell(regrets: np.ndarray, gaps: np.ndarray) -> str:
    """Return a mean regret and how it differs, bold where the interval excludes 0."""
    if not gaps.any():
        return f"{regrets.mean():.0f}"
    low, high = _interval([gaps])
    gap = f"{gaps.mean():+.0f}"
    return f"{regrets.mean():.0f} ({f'**{gap}**' if low > 0 or high < 0 else gap})"


def _shown_interval(gaps: Sequence[np.ndarray]) -> str:
    low, high = _interval(gaps)
    shown = f"{fmean(each.mean() for each in gaps):+.1f} ({low:+.1f} .. {high:+.1f})"
    return f"**{shown}**" if low > 0 or high < 0 else shown


def _interval(gaps: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the mean of paired differences, drawn anew within each kind of surface."""
    rng = np.random.default_rng(0)
    means = np.mean([rng.choice(each, (10_000, len(each))).mean(axis=1) for each in gaps], axis=0)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def missing(
    results: Results, tables: Mapping[str, Sequence[str]], seeds: Sequence[int]
) -> Iterator[tuple[str, int, float | None, list[Key]]]:
    """Yield, for each surface, the strategies that have no outcome there."""
    for seed in seeds:
        for kind in KINDS:
            keys = [
                (table, name)
                for table, strategies in tables.items()
                for name in strategies
                if f"{kind}/{seed}" not in results.of((table, name))
            ]
            if keys:
                yield kind, seed, results.best(f"{kind}/{seed}"), keys


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--first-seed", type=int, default=0, help="other surfaces, to look at a choice again")
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="strategies with this in their name")
    parser.add_argument("--workers", type=int, default=1, help="trials at a time")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", type=Path, help="results, written after each surface; goes on from there")
    parser.add_argument("--quick", action="store_true", help="two seeds, the main table: does it run?")
    args = parser.parse_args()
    num_seeds, names = (2, ["main"]) if args.quick else (args.seeds, args.tables)
    tables = {
        name: [
            each
            for each in TABLES[name].strategies
            if each == BASELINE or not args.only or any(text in each for text in args.only)
        ]
        for name in names
    }
    seeds = range(args.first_seed, args.first_seed + num_seeds)
    results = Results(args.json, workers=args.workers)
    with ProcessPoolExecutor(args.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        under_way = {
            pool.submit(compute, kind, seed, best, keys, args.workers): f"{kind}/{seed}"
            for kind, seed, best, keys in missing(results, tables, seeds)
        }
        for num, future in enumerate(as_completed(under_way), 1):
            results.add(under_way[future], *future.result())
            print(f"{num} of {len(under_way)} surfaces", flush=True)
    for table, strategies in tables.items():
        results.print_table(table, strategies, seeds)


if __name__ == "__main__":
    main()
