"""What follows from the classes of the data: names, numbers, weights, what is said of them, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from searcher.data_pipeline import DataError, prepare_store
from searcher.data_pipeline.datasets.synthetic import SyntheticNuclei
from searcher.data_pipeline.datasets.view import DataView
from searcher.data_pipeline.store import ClassTable, Store
from searcher.study.catalog import load_study
from searcher.study.config import DataConfig, TrialConfig
from searcher.study.reader import parse_study
from searcher.training.class_check import class_remarks
from searcher.training.class_data import classed, pinned, weights_of, with_class_digest, with_classes
from searcher.training.dataset import DataRequest, split_store

LEARNED = {"data": {"learn_classes": True}}


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> Store:
    source = SyntheticNuclei(num_images=8, size_px=64, seed=0)
    return prepare_store(source, tmp_path_factory.mktemp("nuclei"), with_classes=True)


def config(**data: object) -> TrialConfig:
    return TrialConfig.model_validate({"data": {"learn_classes": True, **data}})


@pytest.mark.parametrize(
    ("counts", "power", "expected"),
    [
        # 1/90 and 1/10 are 2 in all over 100 objects: divided by 0.02.
        ([90, 10], 1.0, (0.5556, 5.0)),
        # 1/3 and 1 are 3 and 1 .. 4 in all over 10 objects: divided by 0.4.
        ([9, 1], 0.5, (0.8333, 2.5)),
        # 0.001 and 1 are 2 in all over 1001: 500.5 is held to 10.
        ([1000, 1], 1.0, (0.5005, 10.0)),
        ([90, 0, 10], 1.0, (0.5556, 1.0, 5.0)),
        ([90, 10], 0.0, ()),
        ([7, 7, 7], 1.0, ()),
        ([5], 1.0, ()),
    ],
)
def test_class_weights_by_hand(counts: list[int], power: float, expected: tuple[float, ...]) -> None:
    assert weights_of(np.array(counts), power) == pytest.approx(expected)


def test_the_model_has_the_classes_of_the_training_images(nuclei: Store) -> None:
    plain = config()
    split = split_store(nuclei, plain.data)
    fitted = with_classes(plain, nuclei, split.train)
    names = [name for index in split.train for name in SyntheticNuclei(
        num_images=8, size_px=64, seed=0).read_annotated(index)[1].classes.values()]  # fmt: skip
    counts = [names.count("epithelial"), names.count("lymphocyte")]
    assert nuclei.class_table.counts(split.train).tolist() == counts
    assert (fitted.model.num_classes, fitted.model.class_names) == (2, ("epithelial", "lymphocyte"))
    assert fitted.model.class_weights == weights_of(np.array(counts), 1.0)
    assert TrialConfig.model_validate(fitted.to_dict()) == fitted
    assert fitted.digest() == plain.digest()  # of one trial, whose data have a digest of their own
    nothing = TrialConfig()
    assert with_classes(nothing, nuclei, split.train) is nothing


def test_the_digest_of_the_classes_is_of_the_trial_and_of_the_study_if_they_are_learned(
    nuclei: Store,
) -> None:
    digest = nuclei.class_table.digest
    trial = with_class_digest(config(), nuclei)
    assert trial.data.class_digest == digest
    assert trial.digest() != config().digest()
    assert with_class_digest(TrialConfig(), nuclei) == TrialConfig()
    study = parse_study('[study]\nname = "a"\n[data]\nlearn_classes = true', source="a.toml")
    began = pinned(study, nuclei)
    assert began.identity()["data.class_digest"] == digest
    assert began.trial_config({}).data.class_digest == digest
    stored = parse_study(study.text, source="a.toml", overrides=began.overrides, stored=True)
    assert stored.identity() == began.identity()
    without = parse_study('[study]\nname = "a"', source="a.toml")
    assert pinned(without, nuclei) is without
    assert not any("class" in key for key in without.identity())


def test_a_store_gives_a_trial_the_classes_that_its_study_began_with(nuclei: Store) -> None:
    data = with_class_digest(config(), nuclei).data
    assert classed(Store.open(nuclei.path), data).class_names == nuclei.class_names
    assert classed(nuclei, DataConfig()) is nuclei
    other = data.model_copy(update={"class_digest": "1" * 64})
    with pytest.raises(
        DataError, match=r"classes must be those that the study began with, 111111111111, got"
    ):
        classed(nuclei, other)
    with pytest.raises(DataError, match=r"data\.learn_classes needs the classes of objects, got none"):
        classed(Store.open(nuclei.path), config().data)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"class_balance": 0.5}, "class_balance needs learn_classes=true, got class_balance=0.5"),
        ({"class_weighting": 0.0}, "class_weighting needs learn_classes=true"),
        ({"learn_classes": True, "class_balance": 1.5}, "class_balance"),
    ],
)
def test_keys_about_classes_need_classes(data: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        TrialConfig.model_validate({"data": data})


def test_whether_classes_are_learned_is_not_searched() -> None:
    with pytest.raises(Exception, match=r"space\.data\.learn_classes: must not be searched"):
        parse_study(
            '[study]\nname = "a"\n[space.data]\nlearn_classes = { choices = [true, false] }', source="a.toml"
        )
    load_study("unet-demo")


def test_data_without_classes_are_refused_with_the_remedy(tmp_path: Path) -> None:
    request = DataRequest(None, str(tmp_path), config(synthetic_images=4, synthetic_size_px=64).data)
    with pytest.raises(DataError, match=r"needs the class of each object, got none; add objects\.csv"):
        request.prepare()
    pieces = replace(request, view=DataView(labels_are="binary"))
    with pytest.raises(DataError, match="--labels-are makes objects of its own"):
        pieces.prepare()


def test_a_node_gets_the_classes_with_its_store(tmp_path: Path) -> None:
    data = config(synthetic="nuclei", synthetic_images=4, synthetic_size_px=64).data
    drivers = DataRequest(None, str(tmp_path / "driver"), data).prepare()
    digest = drivers.class_table.digest
    node = DataRequest(None, str(tmp_path / "node"), data.model_copy(update={"class_digest": digest}))
    assert node.open(drivers.fingerprint).class_names == drivers.class_names
    (tmp_path / "node" / drivers.fingerprint / "classes-own.json").unlink()
    assert node.open(drivers.fingerprint).class_table == drivers.class_table
    unpinned = DataRequest(None, str(tmp_path / "node"), data)
    assert unpinned.open(drivers.fingerprint).class_names == drivers.class_names


# ---- what is said ----------------------------------------------------------------------------------------------------


def with_table(store: Store, names: tuple[str, ...], *of_images: dict[int, int], declared: int = 0) -> Store:
    more = tuple({} for _ in range(len(store) - len(of_images)))
    return store.with_classes(ClassTable(names, declared, (*of_images, *more)))


@pytest.fixture
def by_split(nuclei: Store):
    """Return a function from classes of the first training and the first validation image to the remarks on them."""

    def remarks(names, train, val, *, declared=0, **data) -> list[str]:
        settings = config(**data)
        split = split_store(nuclei, settings.data)
        of_images = [{} for _ in range(len(nuclei))]
        of_images[split.train[0]], of_images[split.val[0]] = train, val
        return class_remarks(with_table(nuclei, names, *of_images, declared=declared), "DATA", settings)

    return remarks


def test_counts_weights_and_balance_are_one_line(by_split) -> None:
    [line] = by_split(("a", "b"), {1: 1, 2: 1, 3: 1, 4: 2}, {1: 1, 2: 2, 3: 2}, class_balance=0.5)
    # 1/3 and 1 are 2 in all over 4 objects: divided by a half.
    assert line == (
        "DATA: 2 classes (training + validation objects): a 3 + 1, b 1 + 2; class weights 0.67, 2; "
        "50% of the crops are taken around an object, each class equally often"
    )
    [line] = by_split(("a", "b"), {1: 1, 2: 2}, {1: 1, 2: 2})
    assert line.endswith("class weights all alike; crops are not balanced by class")
    assert class_remarks(object(), "DATA", TrialConfig()) == []


def test_classes_that_are_lacking_or_alike_are_said(by_split) -> None:
    both = {1: 1, 2: 2}
    assert (
        "no validation image has an object of the class 'b', which is not measured then"
        in (by_split(("a", "b"), both, {1: 1})[1])
    )
    assert (
        "no training image has an object of the class 'b', which is never predicted then"
        in (by_split(("a", "b"), {1: 1}, both)[1])
    )
    assert "no object has the class 'c'" in by_split(("a", "b", "c"), both, both)[1]
    assert "nothing to tell apart" in by_split(("a",), {1: 1}, {1: 1})[1]
    alike = by_split(("B cell", "b-cell"), both, both)[1]
    assert alike.startswith("DATA: the classes 'B cell' and 'b-cell' differ in case or spaces alone")


def test_the_folds_that_lack_a_class_are_named(nuclei: Store) -> None:
    settings = config(folds=4, fold=0)
    folds = [split_store(nuclei, config(folds=4, fold=fold).data) for fold in range(4)]
    of_images = [{1: 1} for _ in range(len(nuclei))]
    of_images[folds[2].val[0]] = {1: 1, 2: 2}
    lines = class_remarks(with_table(nuclei, ("a", "b"), *of_images), "DATA", settings)
    assert "no training image of fold 2 has an object of the class 'b'" in lines[1]
    assert "no validation image of fold 0, 1, 3 has an object of the class 'b'" in lines[2]


def test_classes_that_the_data_set_does_not_declare_and_no_class_at_all_are_refused(by_split) -> None:
    with pytest.raises(
        DataError,
        match=r"classes must be among those of dataset\.toml, lymphocyte, plasma, got 'lymphocyt' for 1 objects "
        r"\(label 5 of image \d\); .* did you mean",
    ):
        by_split(("lymphocyte", "plasma", "lymphocyt"), {1: 1, 5: 3}, {1: 2}, declared=2)
    with pytest.raises(DataError, match="training objects must have classes, got none in"):
        by_split(("a", "b"), {}, {1: 1, 2: 2})
