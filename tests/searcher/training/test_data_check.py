"""What a person is told, or refused, before anything is trained."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from searcher.data_pipeline import DataError, Sample
from searcher.data_pipeline.datasets.view import DataView
from searcher.data_pipeline.label_evidence import LabelFacts, label_facts
from searcher.data_pipeline.store import Store, prepare_store
from searcher.study.config import DataConfig, TrialConfig
from searcher.training.data_check import check_data, pixel_sizes_remark
from searcher.training.dataset import DataRequest, common_pixel_size, split_store
from searcher.training.object_sizes import size_remarks

OBJECT = np.zeros((12, 12), np.int32)
OBJECT[2:6, 2:6] = 1


class _Source:
    kind = name = "made up"
    licence = ""
    pixel_size_um = None
    dtype = "uint8"
    channels = ("red", "green", "blue")

    def __init__(self, samples: Sequence[Sample], labels: Sequence[np.ndarray]) -> None:
        self.samples, self._labels = samples, labels

    def fingerprint(self) -> str:
        return "e" * 64

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full((12, 12, 3), 200, np.uint8), self._labels[index]


def store_of(folder: Path, samples: Sequence[Sample], labels: Sequence[np.ndarray] | None = None) -> Store:
    return prepare_store(_Source(samples, labels or [OBJECT] * len(samples)), folder)


def request(**view: str) -> DataRequest:
    return DataRequest("DATA", "", DataConfig(), DataView(**view))  # type: ignore[arg-type]


def named(number: int, *, split: str = "train", size: float | None = None, patient: str = "") -> Sample:
    return Sample(f"n{number}", split, patient or f"n{number}", "", size)


def test_unknown_patients_are_said_and_known_ones_are_not(tmp_path: Path) -> None:
    said = check_data(store_of(tmp_path / "a", [named(i) for i in range(4)]), request(), TrialConfig())
    assert [line.partition(",")[0] for line in said] == ["DATA: patients are unknown"]
    known = [named(i, patient=f"P{i // 2}") for i in range(4)]
    assert check_data(store_of(tmp_path / "b", known), request(), TrialConfig()) == []


def test_remarks_of_the_files_are_said_by_every_later_launch_too(tmp_path: Path) -> None:
    """The first one reads the files; the others find the store."""
    source = _Source([named(i, patient=f"P{i // 2}") for i in range(4)], [OBJECT] * 4)
    source.remarks = tuple(f"file {number}: turned" for number in range(7))  # type: ignore[attr-defined]
    expected = [*source.remarks[:5], "and 2 remarks more on the files; searcher data inspect shows them all"]
    assert check_data(prepare_store(source, tmp_path), request(), TrialConfig()) == expected
    assert check_data(Store.open(tmp_path / source.fingerprint()), request(), TrialConfig()) == expected


def test_no_object_to_train_on_or_to_validate_on_is_refused(tmp_path: Path) -> None:
    empty = np.zeros_like(OBJECT)
    samples = [named(0, patient="P"), named(1, patient="P"), named(2, split="val")]
    for name, labels in (("training", [empty, empty, OBJECT]), ("validation", [OBJECT, OBJECT, empty])):
        store = store_of(tmp_path / name, samples, labels)
        for view in (request(), request(labels_are="instances")):
            with pytest.raises(
                DataError, match=f"DATA: {name} images must hold objects, got no object in any of"
            ):
                check_data(store, view, TrialConfig())


def test_masks_are_refused_unless_a_person_vouches_for_them(tmp_path: Path) -> None:
    mask = np.where(OBJECT > 0, 255, 0).astype(np.int32)
    mask[8:11, 8:11] = 255
    store = store_of(tmp_path, [named(i, patient=f"P{i // 2}") for i in range(4)], [mask] * 4)
    with pytest.raises(
        DataError, match=r"got 4 of 4 label values in several separate pieces.*add --labels-are binary"
    ):
        check_data(store, request(), TrialConfig())
    assert check_data(store, request(labels_are="instances"), TrialConfig()) == []


def test_a_split_that_the_data_set_has_is_obeyed(tmp_path: Path) -> None:
    samples = [named(0), named(1, split="val"), named(2), named(3, split="holdout"), named(4, split="val")]
    store = store_of(tmp_path / "a", samples)
    assert split_store(store, DataConfig()) == ((0, 2), (1, 4))
    by_folds = split_store(store, DataConfig(folds=2))
    assert sorted(by_folds.train + by_folds.val) == [0, 1, 2, 4]
    both = store_of(tmp_path / "b", [named(0, patient="P"), named(1, split="val", patient="P")])
    with pytest.raises(
        DataError, match=r"a patient must be trained on or validated on, got P \(1 patients\)"
    ):
        split_store(both, DataConfig())
    other = store_of(tmp_path / "c", [named(0, split="cohort")])
    with pytest.raises(DataError, match="some images must be of the split train, got only cohort"):
        split_store(other, DataConfig())


@pytest.mark.parametrize(
    ("sizes", "common", "said"),
    [
        ([None, None], None, None),
        ([0.5, 0.5, 0.5], 0.5, None),
        ([0.5, 0.6, 0.5], 0.5, None),
        ([0.25, 0.5, 0.5], None, "got 0.25 um in 1 images (n0); 0.5 um in 2 images (n1, n2)"),
        (
            [0.5, None, 0.5],
            None,
            "the pixel size is unknown of 1 images (n1) and 0.5 um in 2 images (n0, n2)",
        ),
    ],
)
def test_pixel_sizes(
    tmp_path: Path, sizes: list[float | None], common: float | None, said: str | None
) -> None:
    store = store_of(tmp_path, [named(i, size=size) for i, size in enumerate(sizes)])
    indices = range(len(sizes))
    assert common_pixel_size(store, indices) == common
    remark = pixel_sizes_remark(store, indices)
    assert remark is None if said is None else said in str(remark)


def squares(*sides: int) -> LabelFacts:
    labels = np.zeros((100, 100 * len(sides)), np.int32)
    for number, side in enumerate(sides):
        labels[:side, 100 * number : 100 * number + side] = number + 1
    return label_facts(labels)


def config(area: int, width: int = 1, head: str = "contour") -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "postprocess": {"min_object_area_px": area},
            "model": {"name": "unet", "head": head, "contour_width_px": width},
        }
    )


def test_settings_that_lose_objects_are_said_with_one_that_does_not() -> None:
    facts = [squares(10, 10, 20, 30), squares(40, 40, 40, 40)]  # areas 100, 100, 400, 900, 1600 ..
    assert size_remarks(config(100), facts) == []
    assert size_remarks(config(300), facts) == [
        "postprocess.min_object_area_px must not exceed the objects, got 300 px where 25% of 8 training objects are "
        "smaller than that and are dropped (median 1250 px); add --set postprocess.min_object_area_px=100"
    ]
    assert size_remarks(config(0, width=4), facts) == []
    (line,) = size_remarks(config(0, width=5), facts)
    assert line.endswith(
        "25% of 8 training objects are at most 10 px wide; add --set model.contour_width_px=4"
    )
    assert size_remarks(config(0, width=5, head="binary"), facts) == []
    assert size_remarks(config(300), [squares(*[9] + [40] * 19)]) == []  # 5%
