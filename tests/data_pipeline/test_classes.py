"""Classes of objects from a data set to the batches: kept through store, crops and reflections, balanced in crops."""

import logging
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from searcher.data_pipeline import DataError, open_dataset, prepare_store
from searcher.data_pipeline.augment import build_augmentation
from searcher.data_pipeline.augmentation import Reflections
from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.samples import RGB, Sample
from searcher.data_pipeline.datasets.synthetic import SyntheticNuclei
from searcher.data_pipeline.datasets.view import DataView, viewed
from searcher.data_pipeline.exceptions import DamagedStoreError
from searcher.data_pipeline.normalisation import Normalisation
from searcher.data_pipeline.store import Store, find_classes, find_leftovers, normalised
from searcher.data_pipeline.stream import BatchStream
from searcher.data_pipeline.warp import draw_start, draw_warp, resample

LEVEL = 60
"""An object's pixels have this times its class in every channel."""


class Squares:
    """Images with a square of 10 px in each of the cells of a grid, whose grey level is its class."""

    kind = name = "squares"
    licence = ""
    pixel_size_um = None
    channels = RGB
    dtype = "uint8"

    def __init__(self, classes: Sequence[Sequence[int]], *, first_label: int = 1) -> None:
        self.classes_of = classes
        self.first_label = first_label
        self.samples = [Sample(f"item_{i}", "train", f"group_{i}", "") for i in range(len(classes))]
        self.num_reads = 0

    def fingerprint(self) -> str:
        return "5" * 64

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        self.num_reads += 1
        kinds = self.classes_of[index]
        labels = np.zeros((16, 16 * len(kinds)), np.int32)
        levels = np.zeros_like(labels, np.uint8)
        for n, kind in enumerate(kinds):
            window = (slice(3, 13), slice(16 * n + 3, 16 * n + 13))
            labels[window], levels[window] = self.first_label + n, LEVEL * kind
        return np.repeat(levels[..., None], 3, axis=2), labels


class Named(Squares):
    """The same with the classes of the squares."""

    names = ("unknown", "lymphocyte", "epithelial", "tumour")

    def read_annotated(self, index: int) -> tuple[NDArray[np.uint8], Annotation]:
        image, labels = self.read(index)
        kinds = enumerate(self.classes_of[index], start=self.first_label)
        return image, Annotation(labels, {label: self.names[kind] for label, kind in kinds if kind})


def sorted_classes(kinds: Sequence[int]) -> list[int]:
    """Without a declared order, classes are numbered by name: epithelial, lymphocyte, tumour."""
    return [{0: 0, 1: 2, 2: 1, 3: 3}[kind] for kind in kinds]


GRID = [[1, 2, 0, 3], [2, 2, 1, 1], [3, 3, 2, 0]]


@pytest.fixture
def squares(tmp_path: Path) -> Store:
    return prepare_store(Named(GRID, first_label=7), tmp_path, with_classes=True)


def test_the_classes_of_every_label_and_of_none(squares: Store) -> None:
    assert squares.class_names == ("epithelial", "lymphocyte", "tumour")
    for index, kinds in enumerate(GRID):
        assert squares.classes(index).tolist() == [0] * 7 + sorted_classes(kinds)
    assert squares.class_table.counts([0, 2]).tolist() == [2, 1, 3]


def test_pixels_labels_and_index_are_those_of_a_store_without_classes(tmp_path: Path) -> None:
    with_classes = prepare_store(Named(GRID), tmp_path / "a", with_classes=True)
    without = prepare_store(Squares(GRID), tmp_path / "b")
    for name in ("pixels.bin", "labels.bin", "index.json"):
        assert (with_classes.path / name).read_bytes() == (without.path / name).read_bytes()
    beside = {path.name for path in with_classes.path.iterdir()} - {
        path.name for path in without.path.iterdir()
    }
    assert beside == {"classes-own.json"}
    assert without.class_names == ()
    assert not find_leftovers(tmp_path / "a")


def test_a_store_of_an_earlier_release_is_extended_once_and_says_so(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    prepare_store(Squares(GRID), tmp_path)
    source = Named(GRID)
    assert prepare_store(source, tmp_path).class_names == ()
    assert source.num_reads == 0
    assert prepare_store(source, tmp_path, with_classes=True).class_names
    assert (source.num_reads, caplog.text.count("images are read once more")) == (3, 1)
    assert prepare_store(source, tmp_path, with_classes=True).class_names
    assert source.num_reads == 3


def test_data_without_classes_have_none(tmp_path: Path) -> None:
    store = prepare_store(Squares(GRID), tmp_path, with_classes=True)
    assert store.class_names == ()
    assert prepare_store(Named([[0, 0]]), tmp_path / "no", with_classes=True).class_table.digest == ""


def test_another_process_and_normalised_images_have_the_same_classes(squares: Store) -> None:
    for store in (squares, normalised(squares, Normalisation("percentile"))):
        again = pickle.loads(pickle.dumps(store))
        assert again.class_names == squares.class_names
        assert again.classes(1).tolist() == squares.classes(1).tolist()
    assert find_classes(squares.path, squares.class_table.digest) == squares.class_table
    assert find_classes(squares.path, "0" * 64) is None


def test_a_damaged_table_is_refused_in_one_line(squares: Store, tmp_path: Path) -> None:
    path = squares.path / "classes-own.json"
    path.write_text(path.read_text().replace("tumour", "tumors"))
    with pytest.raises(DamagedStoreError, match="must match their own digest"):
        prepare_store(Named(GRID, first_label=7), tmp_path, with_classes=True)


def test_labels_beyond_a_table_are_refused(tmp_path: Path) -> None:
    store = prepare_store(Named(GRID, first_label=2**25), tmp_path, with_classes=True)
    with pytest.raises(DataError, match="labels up to 16777216, got 33554435"):
        store.classes(0)


def test_the_numbers_of_other_data_by_name(squares: Store) -> None:
    table = squares.class_table.in_order_of(("plasma", "lymphocyte", "epithelial"))
    assert table.of_labels(0, 10).tolist() == [0] * 7 + [2, 3, 0, 0]
    assert squares.class_table.unknown_to(("lymphocyte",)) == {"epithelial": 4, "tumour": 3}
    assert squares.class_table.unknown_to(squares.class_names) == {}


# ---- folders ---------------------------------------------------------------------------------------------------------


def write_folder(root: Path, rows: str, *, declared: str = "") -> Path:
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    for index in range(2):
        image, labels = Squares(GRID[:2]).read(index)
        Image.fromarray(image).save(root / "images" / f"im{index}.png")
        Image.fromarray(labels.astype(np.uint16)).save(root / "labels" / f"im{index}.png")
    (root / "objects.csv").write_text(f"image,label,class\n{rows}")
    if declared:
        (root / "dataset.toml").write_text(f"classes = {declared}\n")
    return root


def test_classes_have_the_order_that_the_folder_declares(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "d", "im0,1,b\nim0,2,a\nim1,4,a\n", declared='["c", "b", "a"]')
    store = prepare_store(open_dataset(folder), tmp_path / "cache", with_classes=True)
    assert store.class_names == ("c", "b", "a")
    assert [store.classes(index).tolist() for index in (0, 1)] == [[0, 2, 3, 0, 0], [0, 0, 0, 0, 3]]


def test_corrected_classes_share_the_pixels_and_are_other_classes(tmp_path: Path) -> None:
    one = write_folder(tmp_path / "one", "im0,1,b\nim0,2,a\n")
    other = write_folder(tmp_path / "other", "im0,1,b\nim0,2,b\nim0,3,a\n")
    first = prepare_store(open_dataset(one), tmp_path / "cache", with_classes=True)
    second = prepare_store(open_dataset(other), tmp_path / "cache", with_classes=True)
    assert first.path == second.path
    assert first.class_table.digest != second.class_table.digest
    assert find_classes(first.path, first.class_table.digest).counts([0]).tolist() == [1, 1]
    assert second.classes(0).tolist() == [0, 2, 2, 1, 0]


def test_a_view_keeps_the_classes_of_the_objects_that_it_keeps(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "d", "im0,1,a\nim0,4,b\nim1,2,a\n")
    halves = viewed(open_dataset(folder), DataView(val_region="right:0.5"))
    store = prepare_store(halves, tmp_path / "cache", with_classes=True)
    assert {sample.id: dict(store.class_table.of_images[n]) for n, sample in enumerate(store.samples)} == {
        "im0.train": {1: 1},
        "im0.val": {4: 2},
        "im1.train": {2: 1},
        "im1.val": {},
    }
    same = viewed(open_dataset(folder), DataView(labels_are="instances"))
    assert prepare_store(same, tmp_path / "cache", with_classes=True).class_names == ("a", "b")
    pieces = viewed(open_dataset(folder), DataView(labels_are="binary"))
    assert prepare_store(pieces, tmp_path / "cache", with_classes=True).class_names == ()


# ---- the stream ------------------------------------------------------------------------------------------------------


def assert_classes_are_seen(
    image: NDArray[np.uint8], labels: NDArray[np.int32], classes: NDArray[np.int32]
) -> set[int]:
    """Check the class of every label of some size by the grey level inside of it; return the classes."""
    seen = set()
    for label, num in zip(*np.unique(labels[labels > 0], return_counts=True), strict=True):
        if num < 30:  # of a sliver, all pixels are interpolated with the background
            continue
        kind = round(float(image[labels == label].max()) / LEVEL)
        assert classes[label] == sorted_classes([kind])[0], label
        seen.add(int(classes[label]))
    return seen


@pytest.mark.parametrize("preset", ["none", "poster", "standard"])
def test_a_crop_has_the_classes_of_its_labels_reflections_too(preset: str, squares: Store) -> None:
    """Crops of 40 px of images 16 px high: most of a crop is the reflection of its image."""
    augmentation = build_augmentation(preset, crop_px=40, strength=0.0)
    with BatchStream(
        squares,
        range(3),
        batch_size=4,
        samples_per_epoch=12,
        augmentation=augmentation,
        seed=0,
        num_threads=0,
        with_classes=True,
    ) as stream:
        seen = [
            assert_classes_are_seen(*each)
            for batch in stream.epoch(0)
            for each in zip(batch.images, batch.labels, batch.classes, strict=True)
        ]
    assert {0, 1, 2, 3} == set().union(*seen)


def test_a_warp_says_whose_reflection_a_label_is(squares: Store) -> None:
    rng = np.random.default_rng(0)
    num = 0
    for _ in range(20):
        index = int(rng.integers(3))
        image, labels = np.empty((48, 48, 3), np.uint8), np.empty((48, 48), np.int32)
        warp = draw_warp((16, 64), 48, 0.3, rng)
        found = resample(squares.image(index), squares.labels(index), warp, image, labels)
        classes = np.zeros(64, np.int32)
        classes[:11] = squares.classes(index)
        for label, reflected in (found or {}).items():
            classes[label] = squares.classes(index)[reflected]
        assert_classes_are_seen(image, labels, classes)
        num += len(found or {})
    assert num > 20


def test_without_classes_a_batch_has_none_and_nothing_asks_for_them(squares: Store, monkeypatch) -> None:
    monkeypatch.setattr(Store, "classes", lambda *_: pytest.fail("asked for classes"))
    augmentation = build_augmentation("none", crop_px=16)
    with BatchStream(squares, range(3), batch_size=3, augmentation=augmentation, seed=0) as stream:
        assert all(batch.classes is None for batch in stream.epoch(0))


def rare(tmp_path: Path) -> Store:
    """Ten images of twelve squares; one square of all is a tumour, five are lymphocytes."""
    kinds = [[2] * 12 for _ in range(10)]
    kinds[3][4] = 3
    for n in range(5):
        kinds[n][0] = 1
    return prepare_store(Named(kinds), tmp_path, with_classes=True)


def aimed(store: Store, share: float, *, num_threads: int = 0, preset: str = "standard") -> list[tuple]:
    augmentation = build_augmentation(preset, crop_px=16)
    with BatchStream(
        store,
        range(10),
        batch_size=8,
        samples_per_epoch=160,
        augmentation=augmentation,
        seed=3,
        num_threads=num_threads,
        with_classes=True,
        class_balance=share,
    ) as stream:
        return [
            (name, tuple(sorted({int(classes[label]) for label in np.unique(labels[labels > 0])})))
            for batch in stream.epoch(0)
            for name, labels, classes in zip(batch.ids, batch.labels, batch.classes, strict=True)
        ]


def test_balanced_crops_show_each_class_as_often(tmp_path: Path) -> None:
    store = rare(tmp_path)
    balanced = aimed(store, 1.0)
    shown = Counter(kind for _, kinds in balanced for kind in kinds)
    # 160 crops aim at one of three classes each: 53 on average, with a standard deviation of 6. Crops are one cell
    # wide, and show parts of neighbours, most of which are epithelial.
    assert 35 <= shown[3] <= 80
    assert 35 <= shown[2] <= 80
    plain = Counter(kind for _, kinds in aimed(store, 0.0) for kind in kinds)
    assert plain[3] <= 8
    half = Counter(kind for _, kinds in aimed(store, 0.5) for kind in kinds)
    assert plain[3] < half[3] < shown[3]
    assert balanced == aimed(store, 1.0, num_threads=3)


def test_an_augmentation_that_takes_no_place_gets_the_image_of_the_object(tmp_path: Path) -> None:
    class WholeImage:
        crop_px = 16

        def __call__(self, image, labels, rng, out_image, out_labels) -> Reflections:
            out_image[:], out_labels[:] = image[:, :16], labels[:, :16]
            return None

    with BatchStream(
        rare(tmp_path), range(10), batch_size=5, samples_per_epoch=100, augmentation=WholeImage(), seed=0,
        num_threads=0, with_classes=True, class_balance=1.0,
    ) as stream:  # fmt: skip
        names = Counter(name for batch in stream.epoch(0) for name in batch.ids)
    assert names["item_3"] > 25  # the only image with a tumour, for a third of the crops


@pytest.mark.parametrize("near", [0, 5, 31, 60, 99])
def test_a_crop_near_a_place_has_it(near: int) -> None:
    rng = np.random.default_rng(near)
    starts = {draw_start(100, 40, rng, near) for _ in range(200)}
    assert min(starts) >= 0
    assert max(starts) <= 60
    assert all(start <= near < start + 40 for start in starts)
    if 30 <= near < 70:  # away from the border it is in the middle half, wherever in it
        assert {near - start for start in starts} == set(range(10, 31))


# ---- drawn nuclei ----------------------------------------------------------------------------------------------------


def test_drawn_nuclei_are_one_piece_each_of_a_known_class_and_always_the_same(count_pieces: Callable) -> None:
    source = SyntheticNuclei(num_images=4, size_px=128, seed=2)
    kinds: Counter[str] = Counter()
    for index in range(4):
        image, annotation = source.read_annotated(index)
        labels = annotation.labels
        assert annotation.classes.keys() == set(np.unique(labels[labels > 0]).tolist())
        assert labels.max() == len(annotation.classes)
        assert all(count_pieces(labels == label) == 1 for label in annotation.classes)
        again, truth = source.read(index)
        assert np.array_equal(again, image)
        assert np.array_equal(truth, labels)
        kinds.update(annotation.classes.values())
    assert kinds.keys() == {"epithelial", "lymphocyte"}
    assert min(kinds.values()) > 20
    areas = {kind: [] for kind in kinds}
    for label, kind in annotation.classes.items():
        areas[kind].append(int((labels == label).sum()))
    assert np.median(areas["epithelial"]) > 1.5 * np.median(areas["lymphocyte"])


@pytest.fixture
def count_pieces() -> Callable[[NDArray[np.bool_]], int]:
    from scipy import ndimage

    return lambda mask: ndimage.label(mask, np.ones((3, 3)))[1]
