"""The validated, frozen meaning of a study file."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from searcher.exceptions import StudyFileError
from searcher.parts import Options, PartSection, Section, one_of
from searcher.plugins import Registry
from searcher.study.config import DEFAULT_MODEL, TrialConfig
from searcher.study.objectives import COSTS, METRICS, Direction, Objective, direction_of
from searcher.study.parts import PRUNERS, SAMPLERS
from searcher.study.problems import Problems
from searcher.study.rerank import CANDIDATE, Candidate
from searcher.study.space import SearchSpace, Value

__all__ = [
    "Candidate",
    "ParentSection",
    "PrunerSection",
    "ResourcesSection",
    "SearchSection",
    "StudySection",
    "StudySpec",
    "default_identity",
    "flat",
    "nested",
]


class StudySection(Section):
    """Settings of the study itself: name, objective and budget."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")
    """Name of the study in the database and of its folder in the storage root."""
    description: str = ""
    """One line for people."""
    objective: Annotated[str, one_of(METRICS)] = "object_dice"
    """Validation metric to optimise; its direction follows from its name."""
    secondary_objectives: list[Annotated[str, one_of(METRICS, COSTS)]] = Field(default_factory=list)
    """Further metrics, or `seconds_per_image`: the search then looks for the best compromises between all of them.
    Checkpoints, pruning and children go by `objective` alone."""
    trials: int = Field(default=20, ge=1, le=1_000_000)
    """Budget: trials that end COMPLETE or PRUNED. Failed ones do not count. May be raised later."""
    hours: float = Field(default=0.0, ge=0.0, le=1_000_000.0)
    """Hours that one launch may take, in addition to `trials`: no trial begins that is not expected to end within them.
    Running trials then go on to their end. The next launch has as many again. 0: no limit."""
    gpu_hours: float = Field(default=0.0, ge=0.0, le=1_000_000.0)
    """Hours of all trials of one launch together, times GPUs of a trial, in the same way. 0: no limit."""
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """Seed of the sampler, of 32 bits as Optuna's samplers take it."""

    @model_validator(mode="after")
    def _each_once(self) -> "StudySection":
        if len({self.objective, *self.secondary_objectives}) < 1 + len(self.secondary_objectives):
            raise ValueError(
                "secondary_objectives must name other metrics than objective, each once, "
                f"got {self.secondary_objectives}"
            )
        return self


class SearchSection(PartSection):
    """Settings of the sampler that proposes trials."""

    registry: ClassVar[Registry[Any]] = SAMPLERS
    named_by: ClassVar[str] = "sampler"

    sampler: Annotated[str, one_of(SAMPLERS)] = "tpe"
    """Random, quasi-Monte Carlo (Sobol), tree-structured Parzen estimator, Gaussian process, CMA-ES. `fast-gp` is a
    Gaussian process too, which knows conditions and how uncertain the value of a stopped trial is."""
    startup_trials: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto"] = 10
    """Trials drawn at random before all but `random` and `qmc` begin to learn from results; stopped ones count. `auto`
    is half as many as there are searched parameters."""
    stop_if_gain_below: float = Field(default=0.0, ge=0.0, le=1_000_000.0)
    """The study ends when another trial is expected to improve the objective by less than this. That is the expected
    improvement of the best proposal of `fast-gp`'s process, with any sampler, from 10 trials on. 0: never."""
    exploration: float = Field(default=0.1, ge=0.0, le=1.0)
    """Part of the trials that look anywhere in the whole space, where the study's space was narrowed."""
    options: Options = Field(default={}, validate_default=True)
    """Settings of a plug-in's sampler."""


class ParentSection(Section):
    """Settings for deriving a study from another one: from which, and how."""

    study: str
    """A shipped study, a .toml file in the same folder, or a study of the database."""
    how: Literal["refine", "rerank", "finetune"]
    """`refine`: search what its best trials leave of its space. `rerank`: train its best trials again on other folds or
    seeds. `finetune`: go on training its best checkpoint."""
    min_complete: int = Field(default=0, ge=0, le=1_000_000)
    """COMPLETE trials that it must have; 0 takes 10 to refine, `best` to rerank, 1 to fine-tune."""
    best: int = Field(default=5, ge=1, le=10_000)
    """Of `rerank`: how many of its trials are trained again."""
    replicate: Literal["fold", "seed"] = "fold"
    """Of `rerank`: what differs between the runs of one of them. `fold`: other folds than the search's split.
    `seed`: the search's split, other seeds."""
    replicates: int = Field(default=3, ge=1, le=1000)
    """Of `rerank`: runs of each."""
    import_trials: bool = True
    """Of `refine`: let its trials inside the narrowed space inform the search, where their values mean the same."""
    trials: list[int] = Field(default_factory=list)
    """Which of its trials this study came from; written by searcher, the best first."""
    candidates: list[Candidate] = Field(default_factory=list)
    """Of `rerank`, the trials; written by searcher."""

    @property
    def needed(self) -> int:
        """Number of COMPLETE trials that the parent must have."""
        return self.min_complete or {"refine": 10, "rerank": self.best, "finetune": 1}[self.how]


class PrunerSection(PartSection):
    """Settings of the pruner that stops weak trials early."""

    registry: ClassVar[Registry[Any]] = PRUNERS

    name: Annotated[str, one_of(PRUNERS)] = "asha"
    """Asynchronous successive halving (Li et al. 2018, arXiv 1810.05934), or none."""
    grace_epochs: int = Field(default=2, ge=1, le=100_000)
    """Epochs that every trial gets; the first rung."""
    reduction_factor: float = Field(default=3.0, ge=1.1, le=1000.0)
    """At each rung the best 1/reduction_factor go on; rungs are this factor apart. Nearer to 1 there would be more
    rungs than epochs."""
    options: Options = Field(default={}, validate_default=True)
    """Settings of a plug-in's pruner."""


_MOST_GPUS = 1024
_LEAST_GPUS = 1e-4


class ResourcesSection(Section):
    """The resources of a trial. They are not part of the study's identity and may change between launches."""

    cpus: float = Field(default=1.0, ge=0.01, le=10_000.0)
    """CPU cores of a trial."""
    gpus: float | Literal["auto"] = "auto"
    """GPUs of a trial, a fraction to let trials share one; `auto` is one where the cluster has any, else none."""
    memory_gib: float = Field(default=0.0, ge=0.0, le=1_000_000.0)
    """Main memory of a trial, reserved on its node; 0 reserves none. Ray does not hold a trial to it."""
    hang_timeout_s: float = Field(default=600.0, ge=0.0, le=1_000_000.0)
    """Seconds without a step, after which a trial's worker is taken for hanging: it is killed, the trial is retried.
    First steps may take 6 times as long, later ones 10 times the trial's slowest. 0 waits forever."""
    max_concurrent: int = Field(default=0, ge=0, le=10_000)
    """Trials at a time; 0 is as many as fit."""
    keep_best: int = Field(default=0, ge=0, le=1_000_000)
    """Of how many best trials to keep the checkpoint; 0 keeps that of every trial."""
    pictures: int = Field(default=3, ge=0, le=20)
    """Number of the worst validation images to draw of each COMPLETE trial for the dashboard, with its learning curve;
    0 draws nothing."""

    @field_validator("gpus", mode="before")
    @classmethod
    def _whole_above_one(cls, gpus: Any) -> Any:
        if not isinstance(gpus, float | int):
            return gpus
        if not 0 <= gpus <= _MOST_GPUS or (gpus > 1 and gpus != int(gpus)):
            raise ValueError(
                f"gpus must be a fraction up to 1 or a whole number, {_MOST_GPUS} at most, got {gpus:g}"
            )
        if 0 < gpus < _LEAST_GPUS:
            raise ValueError(
                f"gpus must be 0 or at least {_LEAST_GPUS:g}, the smallest part that Ray counts, got {gpus:g}"
            )
        return gpus


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """The validated content of a study file, with the command line's values."""

    source: str
    """Where it was read from, for messages."""
    origin: str
    """What finds the file again: a shipped study's name, or an absolute path."""
    text: str
    """The study file as its author wrote it."""
    overrides: Mapping[str, Any]
    """What the command line set, by dotted key; applied already."""
    study: StudySection
    search: SearchSection
    pruner: PrunerSection
    resources: ResourcesSection
    fixed: Mapping[str, Value]
    """Configuration keys that the file or the command line sets to one value."""
    space: SearchSpace
    enqueue: tuple[Mapping[str, Value], ...]
    """Known-good points, tried first; parameters they leave open are sampled."""
    parent: ParentSection | None = None
    """The study that this one continues, None if it has no parent."""
    plugins: tuple[str, ...] = ()
    """The plug-ins that it and its parents name, as any process imports them: modules and absolute paths."""

    @property
    def is_open(self) -> bool:
        """Whether the study still lacks its parent's space, candidates or checkpoint; see `searcher.study.derive`."""
        if self.parent is None:
            return False
        if self.parent.how == "refine":
            return not self.space.parameters
        if self.parent.how == "rerank":
            return not self.parent.candidates
        return not self.fixed.get("warm_start.sha256")

    @property
    def has_own_space(self) -> bool:
        """Whether the file defines the search space; a rerank's is derived from its candidates."""
        return self.parent is None or self.parent.how != "rerank"

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.name

    @property
    def objective(self) -> Objective:
        """The metric that the study optimises."""
        return Objective(self.study.objective)

    @property
    def directions(self) -> list[Direction]:
        """Direction of the objective, then of the secondary objectives."""
        return [direction_of(name) for name in (self.study.objective, *self.study.secondary_objectives)]

    @property
    def max_epochs(self) -> int:
        """Largest number of epochs that a trial of the study can have."""
        if "train.epochs" in self.space:
            return max(int(edge) for edge in self.space["train.epochs"].domain.widened().edges())
        return self.trial_config({}).train.epochs

    def trial_config(self, params: Mapping[str, Value]) -> TrialConfig:
        """Return the configuration of a trial with given parameters.

        Raises:
            StudyFileError: The parameters contradict each other.
        """
        chosen = dict(params)
        again = chosen.pop(CANDIDATE, None)
        candidates = self.parent.candidates if self.parent is not None else []
        own: Mapping[str, Value] = next((each.params for each in candidates if each.trial == again), {})
        try:
            return TrialConfig.model_validate(nested({**own, **self.fixed, **chosen}))
        except ValidationError as error:
            problems = Problems(self.source, ())
            problems.add_validation(error, {})
            raise StudyFileError(problems.lines) from error

    def identity(self) -> dict[str, Any]:
        """Return everything that must be the same for all trials of a study, as flat plain values.

        These are the values that give a trial's result its meaning: objective, configuration and space. Budget,
        sampler, pruner, resources, enqueued points and description may change between launches.
        """
        base = TrialConfig.model_validate(nested(self.fixed)).to_dict()
        config = {key: value for key, value in flat(base).items() if key not in self.space}
        space = {f"space.{name}": entry for name, entry in self.space.to_dict().items()}
        candidates = self.parent.candidates if self.parent is not None else []
        again = {
            f"parent.candidates.{each.trial}": json.dumps(each.params, sort_keys=True) for each in candidates
        }
        how = {"parent.how": self.parent.how} if self.parent is not None else {}
        secondary_objectives = (
            {"study.also": ", ".join(self.study.secondary_objectives)}
            if self.study.secondary_objectives
            else {}
        )
        return {
            "study.objective": self.study.objective,
            **how,
            **secondary_objectives,
            **config,
            **space,
            **again,
        }

    def digest(self) -> str:
        """Return the SHA-256 of the canonical JSON of `identity`, 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()


def default_identity(model: str = DEFAULT_MODEL) -> dict[str, Any]:
    """Return the configuration of a study file without any setting, as flat plain values.

    Args:
        model: Name of the model.
    """
    return flat(TrialConfig.model_validate({"model": {"name": model}}).to_dict())


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys as nested tables: {"a.b": 1} becomes {"a": {"b": 1}}."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *tables, leaf = key.split(".")
        node = tree
        for table in tables:
            node = node.setdefault(table, {})
        node[leaf] = value
    return tree


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as dotted keys: {"a": {"b": 1}} becomes {"a.b": 1}."""
    entries: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            entries |= flat(value, f"{prefix}{key}.")
        else:
            entries[prefix + key] = value
    return entries
