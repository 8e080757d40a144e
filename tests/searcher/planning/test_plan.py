"""Plans for data of every kind: each is a valid study whose values follow from the objects."""

from dataclasses import replace
from importlib.resources import files

import pytest

from searcher.data_pipeline.exposure import NormalisationChoice
from searcher.exceptions import UserError
from searcher.planning.facts import PlanningFacts
from searcher.planning.plan import plan_study
from searcher.study.reader import parse_study

RGB = ("red", "green", "blue")
GLANDS = PlanningFacts(
    num_images=85,
    num_patients=15,
    patients_are_known=True,
    has_validation=False,
    short_px=522,
    largest_px=775 * 522,
    num_objects=769,
    objects_per_image=7,
    small_area_px=564,
    narrow_px=30,
    side_px=127.0,
    large_side_px=495.0,
    gap_px=6,
    near=0.28,
    channels=RGB,
    dtype="uint8",
    normalisation=NormalisationChoice("fixed", "images are 8 bit on a bright background (median 215 of 255)"),
)
NUCLEI = replace(
    GLANDS,
    num_images=300,
    num_patients=300,
    patients_are_known=False,
    short_px=256,
    largest_px=256 * 256,
    num_objects=15_000,
    objects_per_image=45,
    small_area_px=40,
    narrow_px=6,
    side_px=18.0,
    large_side_px=40.0,
    gap_px=1,
    near=0.3,
)


def planned(facts, **options):
    chosen = {"name": "mine", "where": "/data", "has_imagenet": True, "num_cpus": 8} | options
    plan = plan_study(facts, **chosen)
    return plan, parse_study(plan.text, source="mine.toml")


def searched(spec):
    return {
        each.name: getattr(each.domain, "choices", None) or (each.domain.low, each.domain.high)
        for each in spec.space.parameters
    }


def test_glands_get_what_was_measured_on_glas():
    plan, spec = planned(GLANDS)
    shipped = parse_study(
        files("searcher.studies").joinpath("unet-instances.toml").read_text(), source="unet-instances"
    )
    same = (
        *("model.encoder", "model.input_scale", "model.head", "model.loss", "model.border_weight"),
        *("optimizer.lr", "augment.preset", "augment.strength"),
    )
    assert {key: searched(spec)[key] for key in same} == {key: searched(shipped)[key] for key in same}
    assert spec.fixed["train.batch_size"] == shipped.fixed["train.batch_size"]
    assert spec.fixed["data.samples_per_epoch"] == shipped.fixed["data.samples_per_epoch"]
    assert searched(spec)["model.contour_width_px"] == (4, 12)
    assert spec.enqueue[0]["model.contour_width_px"] == 8  # what "auto" is for these glands
    first = {key: spec.enqueue[0][key] for key in shipped.enqueue[0] if key != "model.border_weight"}
    assert first == {key: shipped.enqueue[0][key] for key in first}
    assert plan.folds_text is None
    assert plan.remarks == ()


def test_nuclei_get_their_own_sizes():
    plan, spec = planned(NUCLEI)
    space = searched(spec)
    assert spec.study.objective == "object_f1"
    assert spec.fixed["postprocess.min_object_area_px"] == 40
    assert space["model.input_scale"] == (1.0, 1.5, 2.0)
    assert space["model.contour_width_px"] == (1, 2)  # (6 - 1) // 2 leaves 6 px an inside
    assert space["model.distance_cap_px"] == (2, 4, 9)
    assert max(space["augment.crop_px"]) == 192
    assert "patients are unknown, so each of 300 images counts as its own" in plan.remarks[0]


def test_small_tiles_get_crops_and_depths_that_fit_them():
    _, spec = planned(replace(NUCLEI, short_px=64, largest_px=64 * 64))
    assert max(searched(spec)["augment.crop_px"]) == 64
    assert spec.fixed["model.depth"] == 3  # 64 px at scale 1.5 are 12 px at the deepest level
    assert spec.fixed["train.batch_size"] == 32


@pytest.mark.parametrize("known", [True, False])
def test_few_patients_are_validated_in_folds_which_a_second_study_trains_on(known):
    plan, spec = planned(replace(GLANDS, num_images=6, num_patients=6, patients_are_known=known))
    assert (spec.fixed["data.folds"], spec.fixed["data.fold"]) == (6, 0)
    assert any("6 patients are few" in line if known else "6 images are few" in line for line in plan.remarks)
    folds = parse_study(plan.folds_text, source="mine-folds.toml")
    assert (folds.name, folds.parent.study, folds.parent.replicates) == ("mine-folds", "mine", 6)
    assert folds.study.objective == spec.study.objective


@pytest.mark.parametrize(
    ("num_images", "expected"),
    [
        (1, "/data: must have two images or more, got 1; nothing could be held out"),
        (6, "/data: must be of two patients or more, got 6 images of 1; nothing could be held out"),
    ],
)
def test_one_image_or_patient_cannot_be_planned_for(num_images, expected):
    with pytest.raises(UserError) as caught:
        planned(replace(GLANDS, num_images=num_images, num_patients=1))
    assert caught.value.problems[0].startswith(expected)


def test_a_given_validation_split_is_obeyed():
    _, spec = planned(replace(GLANDS, num_patients=1, has_validation=True))
    assert not {"data.folds", "data.val_fraction"} & spec.fixed.keys()


def test_fluorescence_is_normalised_and_keeps_its_colours():
    choice = NormalisationChoice("percentile", "images have 16 bit")
    _, spec = planned(replace(NUCLEI, channels=("DAPI", "CD3\n[x]"), dtype="uint16", normalisation=choice))
    assert spec.fixed["data.normalisation"] == "percentile"
    assert spec.enqueue[0]["augment.preset"] == "standard"


def test_large_images_are_validated_in_tiles_and_without_weights_training_is_longer():
    _, spec = planned(replace(GLANDS, largest_px=12_000_000), has_imagenet=False)
    assert spec.fixed["train.eval_tile_px"] == 1024
    assert spec.fixed["train.epochs"] == 28
    assert searched(spec)["model.encoder"] == ("plain", "residual")
    assert "model.weights" not in spec.fixed


@pytest.mark.parametrize(
    "odd",
    [
        {"side_px": 1.0, "large_side_px": 1.0, "narrow_px": 1, "small_area_px": 1},
        {"side_px": 5000.0, "large_side_px": 9000.0, "narrow_px": 4000, "short_px": 9000},
        {"near": 0.0},
        {"near": 0.0, "narrow_px": 2},
        {"narrow_px": 3},
        {"short_px": 16},
    ],
)
def test_odd_sizes_still_make_a_valid_study_whose_first_point_is_in_its_space(odd):
    _, spec = planned(replace(GLANDS, **odd), where='a "b"\n[study]\x1b', num_cpus=1)
    spec.trial_config(spec.enqueue[0])
    assert set(spec.enqueue[0]) <= {each.name for each in spec.space.parameters}


def test_classes_are_learned_where_objects_have_two_or_more():
    plan, spec = planned(replace(NUCLEI, classes={"epithelial": 900, "lymphocyte": 400, "plasma": 0}))
    assert spec.fixed["data.learn_classes"] is True
    assert "learn_classes = true  # objects have 2 classes: epithelial 900, lymphocyte 400" in plan.text
    assert "data.class_balance" not in searched(spec)
    assert spec.study.objective == "mpq"
    _, spec = planned(replace(NUCLEI, classes={"epithelial": 900, "lymphocyte": 300}))
    assert searched(spec)["data.class_balance"] == (0.0, 0.5)
    assert spec.enqueue[0]["data.class_balance"] == 0.5
    for classes in ({}, {"nucleus": 900}, {"nucleus": 900, "other": 0}):
        _, spec = planned(replace(NUCLEI, classes=classes))
        assert "data.learn_classes" not in spec.fixed
        assert spec.study.objective == "object_f1"
