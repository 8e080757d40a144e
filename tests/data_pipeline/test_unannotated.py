"""What nobody annotated, from the file to the batch: -1 all the way, and nothing else changes."""

from pathlib import Path

import albumentations
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from searcher.data_pipeline import (
    BatchStream,
    DataError,
    build_augmentation,
    inspect_dataset,
    open_dataset,
    prepare_store,
)
from searcher.data_pipeline.datasets.canonical import import_dataset
from searcher.data_pipeline.datasets.view import DataView, objects_of, viewed
from searcher.data_pipeline.label_evidence import label_facts
from searcher.data_pipeline.unannotated import marked_value, objects_only

LABELS = np.zeros((48, 64), np.int32)
LABELS[4:12, 4:14], LABELS[20:30, 10:30], LABELS[20:30, 40:60] = 1, 2, 3
LABELS[36:, :] = -1
"""A quarter is not annotated: 768 of 3072 px."""


def write_folder(root: Path, stored: NDArray[np.integer], suffix: str = ".tif", toml: str = "") -> Path:
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(rng.integers(0, 256, (*stored.shape, 3), dtype=np.uint8)).save(
            root / "images" / f"{name}.png"
        )
        path = root / "labels" / f"{name}{suffix}"
        if suffix == ".npy":
            np.save(path, stored)
        elif suffix == ".tif":
            tifffile.imwrite(path, stored)
        else:
            Image.fromarray(stored).save(path)
    if toml:
        (root / "dataset.toml").write_text(toml)
    return root


@pytest.mark.parametrize(
    ("dtype", "suffix", "value", "toml"),
    [
        (np.int32, ".tif", -1, ""),
        (np.int16, ".npy", -1, ""),
        (np.uint8, ".png", 255, "not_annotated = 255\n"),
        (np.uint16, ".png", 65535, ""),
    ],
)
def test_every_way_to_say_it_gives_the_same_labels(
    tmp_path: Path, dtype: type, suffix: str, value: int, toml: str
) -> None:
    stored = np.where(LABELS < 0, value, LABELS).astype(dtype)
    source = open_dataset(write_folder(tmp_path, stored, suffix, toml))
    if value == 65535:
        source = viewed(source, DataView(not_annotated=value))
    assert np.array_equal(source.read(0)[1], LABELS)


def test_what_is_said_is_part_of_the_fingerprint_and_nothing_else_is(tmp_path: Path) -> None:
    stored = np.where(LABELS < 0, 255, LABELS).astype(np.uint8)
    plain = open_dataset(write_folder(tmp_path / "plain", stored, ".png"))
    said = open_dataset(write_folder(tmp_path / "said", stored, ".png", "not_annotated = 255\n"))
    by_option = viewed(plain, DataView(not_annotated=255))
    assert len({plain.fingerprint(), said.fingerprint(), by_option.fingerprint()}) == 3
    assert viewed(plain, DataView()) is plain


def test_store_batches_and_facts(tmp_path: Path) -> None:
    source = open_dataset(write_folder(tmp_path / "data", LABELS))
    store = prepare_store(source, tmp_path / "cache")
    assert store.labels(0).dtype == np.int32
    assert np.array_equal(store.labels(0), LABELS)
    facts = label_facts(store.labels(0))
    assert facts == label_facts(np.maximum(LABELS, 0))
    assert facts.areas == (80, 200, 200)
    augmentation = build_augmentation("none", crop_px=32)
    with BatchStream(store, [0, 1], batch_size=2, augmentation=augmentation, seed=0, num_threads=0) as stream:
        for batch in stream.epoch(0):
            assert set(np.unique(batch.labels)) <= {-1, 0, 1, 2, 3}


@pytest.mark.parametrize("preset", ["none", "poster", "standard", "strong"])
def test_augmentation_moves_it_like_an_object(preset: str) -> None:
    """The same moves with an object in place of what is not annotated give the same pixels; no object is invented."""
    size, image = 96, np.zeros((*LABELS.shape, 3), np.uint8)
    whole = np.where(LABELS < 0, 4, LABELS).astype(np.int32)
    augmentation = build_augmentation(preset, crop_px=size)
    for seed in range(6):
        found = [np.empty((size, size), np.int32) for _ in range(2)]
        for labels, out in zip((LABELS, whole), found, strict=True):
            out_image = np.empty((size, size, 3), np.uint8)
            augmentation(image, labels, np.random.default_rng(seed), out_image, out)
        partial, moved = found
        assert (partial == -1).any()
        assert not (partial[moved == 0] != 0).any()
        is_unknown = partial == -1
        assert not np.isin(moved[is_unknown], (1, 2, 3)).any(), (
            "only what was not annotated, or its reflection"
        )
        assert len(np.unique(partial)) <= len(np.unique(moved))
        assert partial.min() == -1


def test_a_pipeline_moves_it(tmp_path: Path) -> None:
    path = tmp_path / "moves.json"
    albumentations.save(albumentations.Compose([albumentations.VerticalFlip(p=1)]), path, data_format="json")
    augmentation = build_augmentation("none", crop_px=48, pipeline=path.read_text())
    labels = LABELS[:, :48]
    out = np.empty((48, 48), np.int32)
    image = np.zeros((48, 48, 3), np.uint8)
    augmentation(image, labels, np.random.default_rng(0), np.empty_like(image), out)
    assert np.array_equal(out, labels[::-1])


def test_pieces_of_a_mask_are_found_beside_it() -> None:
    mask = np.array([[255, 0, 128, 128], [255, 0, 0, 128]], np.int32)
    assert objects_of(marked_value(mask, 128), "binary").tolist() == [[1, 0, -1, -1], [1, 0, 0, -1]]
    assert objects_only(marked_value(mask, 128)).min() == 0


def test_resampling_keeps_it(tmp_path: Path) -> None:
    root = write_folder(tmp_path, LABELS)
    (root / "samples.csv").write_text("id,pixel_size_um\na,0.5\nb,0.5\n")
    labels = viewed(open_dataset(root), DataView(resample_um=1.0)).read(0)[1]
    assert labels.shape == (24, 32)
    assert (labels[18:] == -1).all()
    assert (labels[:18] >= 0).all()


def test_import_writes_it_and_inspect_says_how_much(tmp_path: Path) -> None:
    stored = np.where(LABELS < 0, 65535, LABELS).astype(np.uint16)
    source = viewed(
        open_dataset(write_folder(tmp_path / "source", stored, ".png")), DataView(not_annotated=65535)
    )
    report = import_dataset(source, "source", tmp_path / "out")
    assert report.num_objects == 6
    assert report.remarks[-1].startswith(
        "source: 2 of 2 images are annotated in part, 25% of their pixels are not"
    )
    again = open_dataset(tmp_path / "out")
    assert np.array_equal(again.read(1)[1], LABELS)
    inspected = inspect_dataset(again)
    assert not inspected.problems
    assert any("25% of their pixels are not" in remark for remark in inspected.remarks)
    instances = inspected.splits["train"].instances
    assert instances.count == 6
    assert instances.foreground == pytest.approx(480 / (3072 - 768))


@pytest.mark.parametrize(
    ("labels", "toml", "said"),
    [
        (np.full((8, 8), -1, np.int32), "", "must be annotated, got a label map without an annotated pixel"),
        (np.full((8, 8), -2, np.int32), "", "or be -1 where nothing is annotated, got -2 to -2"),
        (np.ones((8, 8), np.int32), 'not_annotated = "255"\n', "not_annotated must be the number of pixels"),
        (np.ones((8, 8), np.int32), "not_annotated = 0\n", "a whole one but 0, got 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    tmp_path: Path, labels: NDArray[np.int32], toml: str, said: str
) -> None:
    with pytest.raises(DataError) as error:
        open_dataset(write_folder(tmp_path, labels, toml=toml)).read(0)
    (line,) = error.value.problems
    assert said in line
