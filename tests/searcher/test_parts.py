"""Parts that a plug-in brings are named, validated, searched and used as ours are."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState, create_trial
from plugged import plugged_in
from ray.tune.schedulers import TrialScheduler
from tiny_study import TINY, tiny

from searcher.data_pipeline import Sample, build_augmentation, open_dataset
from searcher.exceptions import StudyFileError
from searcher.orchestration.trials.samplers import build_sampler
from searcher.orchestration.trials.scheduler import build_scheduler
from searcher.plugins import PluginError
from searcher.study.config import OptimizerConfig, TrialConfig
from searcher.study.config_keys import config_fields, field_bounds
from searcher.study.objectives import Objective
from searcher.study.reader import parse_study
from searcher.study.spec import StudySpec
from searcher.study.writer import write_study
from searcher.training.checkpoint_size import checkpoint_bytes
from searcher.training.optimizers import build_optimizer
from searcher.training.schedules import LearningRate

PLUGIN = """
    import optuna
    import torch
    from pydantic import Field

    from searcher.data_pipeline.augment import register_augmentation
    from searcher.data_pipeline.datasets.layouts.table import register_layout
    from searcher.parts import Section
    from searcher.study.parts import register_optimizer, register_pruner, register_sampler, register_schedule
    from searcher.training.schedules import Schedule

    class StillOptions(Section):
        pull: float = Field(default=0.5, ge=0.0, lt=1.0)
        \"\"\"Part of the way to 0 at each step.\"\"\"
        rounds: int = Field(default=1, ge=1, le=3)
        \"\"\"How often.\"\"\"

    @register_optimizer("still", options=StillOptions)
    class Still(torch.optim.Optimizer):
        def __init__(self, groups, lr, pull, rounds):
            super().__init__(groups, {"lr": lr, "pull": pull})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter]["seen"] = parameter.clone()
                    parameter.mul_(1 - group["pull"])

    register_optimizer("rprop")(torch.optim.Rprop)

    class HalvingOptions(Section):
        every: int = Field(default=2, ge=1, le=1000)
        \"\"\"Steps.\"\"\"

    @register_schedule("halving", options=HalvingOptions)
    class Halving(Schedule):
        def __init__(self, every):
            self.every, self.epochs = every, 0

        def factor(self, step):
            return 0.5 ** (step // self.every)

        def end_epoch(self, epoch, value, *, is_warm_up):
            self.epochs = epoch

        def state_dict(self):
            return {"epochs": self.epochs}

        def load_state_dict(self, state):
            self.epochs = state["epochs"]

    class GeneticOptions(Section):
        population_size: int = Field(default=4, ge=2, le=1000)
        \"\"\"Trials of a generation.\"\"\"

    register_sampler("nsga2", options=GeneticOptions, several_objectives=True)(optuna.samplers.NSGAIISampler)
    register_sampler("brute")(optuna.samplers.BruteForceSampler)

    class MedianOptions(Section):
        n_startup_trials: int = Field(default=2, ge=0, le=1000)
        \"\"\"Trials that are not judged.\"\"\"

    register_pruner("median", options=MedianOptions)(optuna.pruners.MedianPruner)

    @register_augmentation("whiten")
    class Whiten:
        def __init__(self, crop_px):
            self.crop_px = crop_px

        def __call__(self, image, labels, rng, out_image, out_labels):
            out_image[:], out_labels[:] = 255, labels[: self.crop_px, : self.crop_px]

    @register_layout("mine")
    def open_mine(root, *, strict):
        from searcher.data_pipeline.datasets import SyntheticGlands
        return SyntheticGlands(num_images=4, size_px=64, seed=1) if (root / "mine.txt").exists() else None
"""


@pytest.fixture(scope="module", autouse=True)
def _plugged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with plugged_in(tmp_path_factory.mktemp("plugin"), PLUGIN):
        yield


def study(body: str) -> StudySpec:
    return parse_study('[study]\nname = "s"\n' + body, source="s.toml")


def problems(body: str) -> list[str]:
    with pytest.raises(StudyFileError) as caught:
        study(body)
    return caught.value.problems


def test_options_are_checked_filled_in_and_part_of_the_digest():
    spec = study('[optimizer]\nname = "still"\noptions.pull = 0.25')
    config = spec.trial_config({})
    assert config.to_dict()["optimizer"]["options"] == {"pull": 0.25, "rounds": 1}
    assert TrialConfig.model_validate(config.to_dict()) == config
    other = spec.trial_config({"optimizer.options.pull": 0.5})
    assert other.digest() != config.digest()
    assert spec.identity()["optimizer.options.pull"] == 0.25
    assert "options" not in TrialConfig().to_dict()["optimizer"], "digests of ours are what they were"
    assert study(write_study(spec).partition("\n\n")[2]).fixed == spec.fixed
    assert hash(config.optimizer) != hash(other.optimizer)


def test_options_are_searched_where_their_part_is():
    spec = study(
        '[space.optimizer]\nname = { choices = ["still", "adam"] }\n'
        '[space.optimizer.options]\npull = { low = 0.1, high = 0.9, when = { "optimizer.name" = ["still"] } }'
    )
    drawn = [spec.space.suggest(trial) for trial in _asked(12)]
    assert {"optimizer.options.pull" in each for each in drawn} == {True, False}
    for params in drawn:
        assert spec.trial_config(params).optimizer.options.get("pull") == params.get("optimizer.options.pull")
    assert config_fields("unet")["optimizer.options.rounds"] == (int, "How often.")
    assert field_bounds("unet", "optimizer.options.rounds") == (1, 3)
    assert write_study(spec).count("[space.optimizer.options]") == 1


def _asked(num: int) -> list[optuna.Trial]:
    known = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [known.ask() for _ in range(num)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            '[optimizer]\nname = "lion"',
            "s.toml: optimizer.name: must be 'sgd', 'adam', 'adamw', 'rprop' or 'still', got 'lion'",
        ),
        (
            '[optimizer]\nname = "still"\noptions = { pul = 0.1, rounds = 9 }',
            "s.toml: optimizer.options.pul: unknown key, got 0.1; did you mean pull?",
        ),
        (
            '[optimizer]\nname = "still"\noptions = { pul = 0.1, rounds = 9 }',
            "s.toml: optimizer.options.rounds: must be less than or equal to 3, got 9 (How often.)",
        ),
        (
            "[optimizer]\noptions.pull = 0.1",
            "s.toml: optimizer.options: must be empty for optimizer.name = 'adamw', which has no options of its own, "
            "got pull; remove them",
        ),
        (
            "[space.optimizer.options]\npull = { low = 0.1, high = 0.9 }",
            "s.toml: space.optimizer.options.pull: must be searched only where optimizer.name has it, got 'adamw'; "
            'add when = { "optimizer.name" = ["still"] }',
        ),
        (
            '[optimizer]\nname = "still"\n[space.optimizer.options]\npull = { low = 0.1, high = 2.0 }',
            "s.toml: space.optimizer.options.pull: must be less than 1, got 2.0",
        ),
        (
            '[search]\nsampler = "nsga2"\noptions.population_size = 1',
            "s.toml: search.options.population_size: must be greater than or equal to 2, got 1",
        ),
        (
            '[search]\nsampler = "brute"\n[study]\nsecondary_objectives = ["loss"]',
            "s.toml: search.sampler: must know several objectives, got 'brute'; take fast-gp, tpe, gp, qmc or random",
        ),
    ],
)
def test_what_is_wrong_with_them_is_one_line(body, expected):
    if "[study]" in body:
        with pytest.raises(StudyFileError) as caught:
            parse_study(f'{body}\nname = "s"', source="s.toml")
        assert caught.value.problems == [expected]
    else:
        assert any(line.startswith(expected) for line in problems(body)), problems(body)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            "class Bad(BaseModel):\n    a: int = 1",
            "Bad: must refuse unknown keys; derive it from",
        ),
        ("class Bad(Section):\n    a: int", "Bad.a: must have a valid default, got none; give it one"),
        (
            "class Bad(Section):\n    a: list = []",
            "Bad.a: must be a number, a text or a truth value, got list",
        ),
    ],
)
def test_settings_that_cannot_be_a_table_are_refused_when_they_are_registered(tmp_path, settings, expected):
    body = "from pydantic import BaseModel\nfrom searcher.parts import Section\n"
    body += f"from searcher.study.parts import register_optimizer\n{settings}\n"
    body += "register_optimizer('bad', options=Bad)(dict)\n"
    with pytest.raises(PluginError, match=expected), plugged_in(tmp_path, body, "bad.py"):
        pass


def test_an_optimiser_steps_and_its_state_is_counted():
    module = torch.nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.fill_(8.0)
    optimizer = build_optimizer(module, OptimizerConfig(name="still", options={"pull": 0.75}))
    optimizer.step()
    assert module.weight.tolist() == [[2.0, 2.0]]
    assert isinstance(build_optimizer(module, OptimizerConfig(name="rprop")), torch.optim.Rprop)
    # `still` keeps one tensor of a parameter's size, as SGD with momentum does.
    spec = tiny()
    sizes = [
        checkpoint_bytes(spec.trial_config({"optimizer.name": name, "optimizer.momentum": 0.9}))
        for name in ("still", "sgd")
    ]
    assert sizes[0] == sizes[1]


def test_a_schedule_shapes_the_rate_after_warm_up_and_its_state_is_kept():
    config = (
        study('[schedule]\nname = "halving"\noptions.every = 3\nwarmup_epochs = 0.5')
        .trial_config({})
        .schedule
    )

    def rate() -> LearningRate:
        return LearningRate(config, peak=0.8, steps_per_epoch=4, num_epochs=3, objective=Objective("loss"))

    first, again = rate(), rate()
    # Two steps of warm-up to 1/3 and 2/3 of the peak, then half as much every three steps.
    assert [first.at(step) for step in range(9)] == pytest.approx(
        [0.8 / 3, 1.6 / 3, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2]
    )
    first.end_epoch(2, 0.5)
    again.load_state_dict(first.state_dict())
    assert again.state_dict() == {"epochs": 2}


def test_a_sampler_gets_the_seed_and_its_options():
    spec = study('[search]\nsampler = "nsga2"\noptions.population_size = 7')
    sampler = build_sampler(spec, num_trials=3)
    assert isinstance(sampler, optuna.samplers.NSGAIISampler)
    assert sampler.population_size == 7
    known = [optuna.create_study(sampler=build_sampler(spec, num_trials=n)) for n in (0, 0, 5)]
    first, same, later = ([each.ask().suggest_float("x", 0, 1) for _ in range(3)] for each in known)
    assert first == same != later


def test_an_optuna_pruner_judges_by_the_curves_of_this_launch_and_of_earlier_ones():
    spec = parse_study(
        TINY.replace("grace_epochs = 1\nreduction_factor = 2", 'name = "median"\ngrace_epochs = 2'),
        source="s",
    )
    past = [
        create_trial(state=TrialState.COMPLETE, value=v, intermediate_values={1: v, 2: v}) for v in (0.1, 0.3)
    ]

    def run(scheduler, name, *values, past_values=None):
        trial = SimpleNamespace(trial_id=name, config={"job": SimpleNamespace(past_values=past_values or {})})
        scheduler.on_trial_add(None, trial)
        first = 1 + len(past_values or {})
        return trial, [
            scheduler.on_trial_result(None, trial, {"epoch": epoch, "objective": value})
            for epoch, value in enumerate(values, first)
        ]

    go_on, stop = TrialScheduler.CONTINUE, TrialScheduler.STOP
    scheduler = build_scheduler(spec, past)
    assert run(scheduler, "good", 0.15, 0.15)[1] == [go_on, go_on]  # the median of 0.1 and 0.3 is 0.2
    assert run(scheduler, "bad", 0.9, 0.9)[1] == [go_on, stop], "the first epoch is grace"
    assert run(scheduler, "retry", 0.9, past_values={1: 0.9})[1] == [stop]
    alone = build_scheduler(spec, [])
    for number, value in enumerate((0.1, 0.3)):
        trial, said = run(alone, f"t{number}", value, value)
        assert said == [go_on, go_on], "nobody to compare with"
        alone.on_trial_complete(None, trial, {"epoch": 3, "objective": value})
    broken, _ = run(alone, "broken", 0.01)
    alone.on_trial_error(None, broken)
    assert run(alone, "bad", 0.9, 0.9)[1] == [go_on, stop]
    assert run(alone, "nan", float("nan"), float("nan"))[1] == [go_on, stop]


def test_an_augmentation_preset_makes_crops():
    config = study('[augment]\npreset = "whiten"').trial_config({}).augment
    augmentation = build_augmentation(config.preset, crop_px=4, options=config.options)
    image, labels = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.int32)
    crop, crop_labels = np.empty((4, 4, 3), np.uint8), np.empty((4, 4), np.int32)
    augmentation(image, labels, np.random.default_rng(0), crop, crop_labels)
    assert (crop == 255).all()
    assert (crop_labels == 1).all()


def test_a_layout_is_asked_before_ours_also_in_an_archives_only_folder(tmp_path: Path):
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "mine.txt").write_text("")
    samples = open_dataset(tmp_path / "outer").samples
    assert len(samples) == 4
    assert isinstance(samples[0], Sample)
