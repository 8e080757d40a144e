"""Splits: no patient on both sides, grades in proportion, the same for the same arguments."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searcher.data_pipeline import DataError, Sample, split_by_group

# 85 images of 15 patients of unequal size, some with both grades: the structure of GlaS's training set, made up.
PATIENTS = {
    "1": (4, 8), "2": (0, 16), "3": (4, 4), "4": (4, 0), "5": (4, 0), "6": (0, 4), "7": (0, 3), "8": (0, 1),
    "9": (8, 0), "10": (11, 4), "11": (0, 4), "13": (1, 0), "14": (0, 1), "15": (1, 0), "16": (0, 3),
}  # fmt: skip


def cohort(patients: dict[str, tuple[int, int]]) -> list[Sample]:
    return [
        Sample(f"train_{patient}_{grade}_{n}", "train", patient, grade)
        for patient, counts in patients.items()
        for grade, count in zip(("benign", "malignant"), counts, strict=True)
        for n in range(count)
    ]


GLAS = cohort(PATIENTS)
ALL = range(len(GLAS))


def groups(indices: tuple[int, ...]) -> set[str]:
    return {GLAS[i].group for i in indices}


def test_the_made_up_cohort_is_like_glas() -> None:
    assert (len(GLAS), len(PATIENTS)) == (85, 15)
    assert Counter(sample.stratum for sample in GLAS) == {"benign": 37, "malignant": 48}


@pytest.mark.parametrize("seed", range(20))
def test_a_fraction_shares_no_patient_and_keeps_size_and_grades(seed: int) -> None:
    train, val = split_by_group(GLAS, ALL, fraction=0.2, seed=seed)
    assert sorted(train + val) == list(ALL)
    assert not groups(train) & groups(val)
    assert 15 <= len(val) <= 19  # a fifth of 85 is 17
    benign = sum(GLAS[i].stratum == "benign" for i in val)
    assert 6 <= benign <= 9  # a fifth of 37 is 7.4


@pytest.mark.parametrize("seed", range(10))
def test_every_fold_validates_once_and_the_folds_are_alike(seed: int) -> None:
    splits = [split_by_group(GLAS, ALL, folds=5, fold=fold, seed=seed) for fold in range(5)]
    assert sorted(i for split in splits for i in split.val) == list(ALL)
    for train, val in splits:
        assert not groups(train) & groups(val)
        assert sorted(train + val) == list(ALL)
    assert max(len(split.val) for split in splits) <= 20  # one patient alone has 16
    assert min(len(split.val) for split in splits) >= 13


def test_perfect_balance_is_found_where_it_exists() -> None:
    samples = cohort({str(n): (4, 0) if n % 2 else (0, 4) for n in range(10)})
    for fold in range(5):
        val = split_by_group(samples, range(40), folds=5, fold=fold, seed=7).val
        assert Counter(samples[i].stratum for i in val) == {"benign": 4, "malignant": 4}


def test_seeds_give_different_splits() -> None:
    assert len({split_by_group(GLAS, ALL, seed=seed).val for seed in range(10)}) >= 5


def test_the_order_of_the_indices_does_not_matter() -> None:
    assert split_by_group(GLAS, list(reversed(ALL)), seed=3) == split_by_group(GLAS, ALL, seed=3)


def test_known_split() -> None:
    """Two patients, one image each, are one to train and one to validate on, by hand."""
    samples = cohort({"a": (1, 0), "b": (1, 0)})
    split = split_by_group(samples, [0, 1], seed=0)
    assert {split.train, split.val} == {(0,), (1,)}


def test_only_the_given_indices_are_split() -> None:
    train, val = split_by_group(GLAS, range(0, 85, 2), seed=0)
    assert sorted(train + val) == list(range(0, 85, 2))


def test_one_patient_cannot_be_split() -> None:
    samples = cohort({"a": (5, 0)})
    with pytest.raises(DataError, match="need at least 2 patients, got 1 among 5 images"):
        split_by_group(samples, range(5))


def test_more_folds_than_patients() -> None:
    with pytest.raises(DataError, match="16 folds need at least 16 patients, got 15 among 85 images"):
        split_by_group(GLAS, ALL, folds=16, fold=0)


def test_as_many_folds_as_patients_leave_one_patient_out() -> None:
    left_out = [groups(split_by_group(GLAS, ALL, folds=15, fold=fold).val) for fold in range(15)]
    assert all(len(fold) == 1 for fold in left_out)
    assert set().union(*left_out) == set(PATIENTS)


def test_many_groups_are_split_quickly_and_well() -> None:
    samples = cohort({str(n): (1, 0) if n % 3 else (0, 1) for n in range(3000)})
    val = split_by_group(samples, range(3000), fraction=0.1, seed=0).val
    assert Counter(samples[i].stratum for i in val) == {"benign": 200, "malignant": 100}


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(any), min_size=2, max_size=12),
    folds=st.integers(2, 5),
    seed=st.integers(0, 2**31),
)
def test_rules_hold_for_any_cohort(sizes: list[tuple[int, int]], folds: int, seed: int) -> None:
    samples = cohort({str(n): size for n, size in enumerate(sizes)})
    indices = range(len(samples))
    splits = [split_by_group(samples, indices, fraction=0.3, seed=seed)]
    if folds <= len(sizes):
        splits += [split_by_group(samples, indices, folds=folds, fold=k, seed=seed) for k in range(folds)]
    for train, val in splits:
        assert train
        assert val
        assert sorted(train + val) == list(indices)
        assert not {samples[i].group for i in train} & {samples[i].group for i in val}
