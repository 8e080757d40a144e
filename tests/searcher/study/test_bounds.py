"""Every number of a study file is finite and bounded: a digit too many is one line, not a full memory."""

import math
from types import NoneType
from typing import Any, get_args

import pytest
from tiny_study import TINY

from searcher.exceptions import StudyFileError
from searcher.models.settings import SETTINGS, PostprocessSettings
from searcher.study.config import Section, TrialConfig
from searcher.study.config_keys import field_bounds
from searcher.study.reader import parse_study
from searcher.study.spec import ParentSection, PrunerSection, ResourcesSection, SearchSection, StudySection

TABLES: dict[str, type[Any]] = {
    "study": StudySection,
    "search": SearchSection,
    "pruner": PrunerSection,
    "resources": ResourcesSection,
    "parent": ParentSection,
    **{
        name: info.annotation
        for name, info in TrialConfig.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section | PostprocessSettings)
    },
    **{f"model {name}": settings for name in SETTINGS.built_in_names() for settings in [SETTINGS[name]]},
}
NUMBERS = [
    (table, key, info.annotation)
    for table, section in TABLES.items()
    for key, info in section.model_fields.items()
    if {int, float} & {info.annotation, *get_args(info.annotation)} - {bool, NoneType}
]
FREE = {"trial", "value", "lr", "weight_decay", "grad_clip_norm"}
"""Finite numbers that decide about no memory and no time."""


def rules(table: str, key: str) -> list[Any]:
    return list(TABLES[table].model_fields[key].metadata)


@pytest.mark.parametrize(("table", "key", "kind"), NUMBERS, ids=lambda value: str(value))
def test_every_number_has_a_highest_value_and_none_may_be_infinite(table, key, kind):
    values: tuple[float, ...] = (math.inf, -math.inf, math.nan)
    highest = [rule for rule in rules(table, key) if hasattr(rule, "le") or hasattr(rule, "lt")]
    if key not in FREE and key != "gpus" and kind in (int, float):
        assert highest, f"{table}.{key} has no highest value"
    for value in values:
        with pytest.raises(ValueError, match=key):
            TABLES[table].model_validate({key: value})


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("pruner.reduction_factor", 1.0000000001, "must be greater than or equal to 1.1, got 1.0000000001"),
        ("data.synthetic_images", 10**11, "must be less than or equal to 1000000, got 100000000000"),
        ("data.synthetic_images", 10**6, "must be at most 1e+10 pixels, got synthetic_images=1000000"),
        ("resources.memory_gib", math.inf, "must be a finite number, got inf"),
        ("resources.cpus", 1e-9, "must be greater than or equal to 0.01, got 1e-09"),
        ("resources.gpus", 1e-9, "gpus must be 0 or at least 0.0001, the smallest part that Ray counts"),
        ("resources.gpus", math.inf, "a fraction up to 1 or a whole number, 1024 at most, got inf"),
        ("train.epochs", 10**9, "must be less than or equal to 100000, got 1000000000"),
        ("study.seed", 2**40, "must be less than or equal to 4294967295, got 1099511627776"),
        ("optimizer.lr", math.nan, "must be a finite number, got nan"),
    ],
)
def test_a_number_out_of_bounds_is_one_line_with_its_rule(key, value, said):
    if key == "data.synthetic_images" and value == 10**6:
        overrides = {key: value, "data.synthetic_size_px": 192}
    else:
        overrides = {key: value}
    with pytest.raises(StudyFileError) as refused:
        parse_study(TINY, source="tiny.toml", overrides=overrides)
    assert len(refused.value.problems) == 1
    assert said in str(refused.value), str(refused.value)


def test_tiles_that_hardly_advance_are_refused():
    with pytest.raises(
        ValueError, match=r"eval_tile_overlap_px must be at most 7/8 of eval_tile_px, got .*=100 "
    ):
        TrialConfig.model_validate({"train": {"eval_tile_px": 101, "eval_tile_overlap_px": 100}})
    assert TrialConfig.model_validate({"train": {"eval_tile_px": 512, "eval_tile_overlap_px": 448}})


def test_a_space_cannot_lead_beyond_the_bounds():
    assert field_bounds("unet", "train.batch_size") == (1, 65_536)
