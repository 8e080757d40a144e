"""albumentations pipelines: read without running anything, seeded by sample, labels moved with their image."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations as A

from searcher.data_pipeline import BatchStream, DataError, SyntheticGlands, build_augmentation, prepare_store
from searcher.data_pipeline.pipeline import Transforms, check_pipeline
from searcher.data_pipeline.pipeline_file import pipeline_text
from searcher.exceptions import StudyFileError
from searcher.study.config import TrialConfig
from searcher.study.reader import parse_study


def saved(folder: Path, *transforms, name: str = "p.yaml", **more) -> Path:
    path = folder / name
    A.save(A.Compose([*transforms], **more), path, data_format=path.suffix.removeprefix("."))
    return path


def content(folder: Path, *transforms, **more) -> str:
    return pipeline_text(saved(folder, *transforms, **more))


ALL_SORTS = (
    A.RandomCrop(64, 64),
    A.HorizontalFlip(p=0.5),
    A.Affine(rotate=(-30, 30), scale=(0.8, 1.2), p=1.0),
    A.ElasticTransform(p=0.5),
    A.OneOf([A.GaussNoise(), A.RandomBrightnessContrast(), A.HueSaturationValue()], p=0.8),
    A.GaussianBlur(p=0.3),
)


def test_yaml_and_json_have_one_canonical_form(tmp_path):
    flips = (A.HorizontalFlip(p=0.5), A.RandomRotate90(p=1.0))
    assert pipeline_text(saved(tmp_path, *flips)) == pipeline_text(saved(tmp_path, *flips, name="p.json"))


def test_a_batch_is_the_same_for_any_number_of_threads(tmp_path):
    store = prepare_store(SyntheticGlands(num_images=6, size_px=96, seed=3), tmp_path)
    augmentation = build_augmentation("", crop_px=48, pipeline=content(tmp_path, *ALL_SORTS))

    def batches(num_threads: int) -> list[tuple[np.ndarray, np.ndarray]]:
        with BatchStream(
            store, range(6), batch_size=3, augmentation=augmentation, seed=5, num_threads=num_threads
        ) as stream:
            return [(batch.images.copy(), batch.labels.copy()) for batch in stream.epoch(1)]

    first = batches(0)
    assert len(np.unique(np.concatenate([images for images, _ in first]))) > 50
    for num_threads in (1, 16):
        for one, other in zip(first, batches(num_threads), strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])


def test_labels_go_where_their_pixels_go(tmp_path):
    # The image says at each pixel which label it has: after any geometry both still agree, away from outlines.
    labels = np.kron(np.arange(1, 10, dtype=np.int32).reshape(3, 3), np.ones((40, 40), np.int32))
    image = np.repeat((labels * 20).astype(np.uint8)[..., None], 3, axis=2)
    geometry = (
        A.Affine(rotate=37, scale=0.9, p=1.0),
        A.Perspective(p=1.0),
        A.HorizontalFlip(p=1.0),
        A.Resize(90, 150),
    )
    moved, moved_labels = Transforms(content(tmp_path, *geometry)).moved(image, labels, 1)
    assert moved.shape == (90, 150, 3)
    assert moved_labels.shape == (90, 150)
    assert set(np.unique(moved_labels)) <= {*range(10)}
    agree = np.abs(moved[..., 0].astype(int) - 20 * moved_labels) <= 1
    assert agree.mean() > 0.85


def test_labels_are_taken_from_the_nearest_pixel_whatever_the_file_says(tmp_path):
    text = content(tmp_path, A.Resize(77, 53, mask_interpolation=1), mask_interpolation=2)
    labels = np.kron(np.array([[5, 900], [70_000, 0]], np.int32), np.ones((30, 30), np.int32))
    image = np.zeros((60, 60, 3), np.uint8)
    for given in (labels, np.minimum(labels, 60_000).astype(np.uint16)):
        _, moved = Transforms(text).moved(image, given, 0)
        assert set(np.unique(moved)) == set(np.unique(given))


def test_transforms_draw_apart_from_each_other(tmp_path):
    flips = Transforms(content(tmp_path, A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)))
    labels = np.array([[1, 2], [3, 4]], np.int32)
    corners = {flips.moved(np.zeros((2, 2, 3), np.uint8), labels, seed)[1][0, 0] for seed in range(40)}
    assert corners == {1, 2, 3, 4}, "albumentations' own seeding flips both ways or none"


def test_deep_images_and_single_channels_keep_their_kind(tmp_path):
    pipeline = Transforms(content(tmp_path, A.HorizontalFlip(p=1.0)))
    labels = np.ones((4, 6), np.int32)
    for shape, dtype in (((4, 6, 1), np.uint16), ((4, 6, 5), np.uint8), ((4, 6, 2), np.uint16)):
        image = np.arange(np.prod(shape)).reshape(shape).astype(dtype) * 7
        np.testing.assert_array_equal(pipeline.moved(image, labels, 0)[0], image[:, ::-1])


def test_a_small_outcome_is_continued_to_the_crop(tmp_path):
    augmentation = build_augmentation("", crop_px=32, pipeline=content(tmp_path, A.RandomCrop(16, 16)))
    out, out_labels = np.empty((32, 32, 3), np.uint8), np.empty((32, 32), np.int32)
    augmentation(
        np.full((40, 40, 3), 9, np.uint8),
        np.ones((40, 40), np.int32),
        np.random.default_rng(0),
        out,
        out_labels,
    )
    assert (out == 9).all()
    assert (out_labels > 0).all()


def test_what_is_refused_by_an_image_names_the_pipeline(tmp_path):
    pipeline = Transforms(content(tmp_path, A.HueSaturationValue(p=1.0)))
    with pytest.raises(
        DataError, match=r"augment\.pipeline: must take images of 8 x 9 px with 5 channels of uint8"
    ):
        pipeline.moved(np.zeros((8, 9, 5), np.uint8), np.zeros((8, 9), np.int32), 0)
    assert threading.active_count() >= 1


def _changed(text: str, **values) -> str:
    tree = json.loads(text)
    tree["transform"]["transforms"][0].update(values)
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("not: [closed", "must be YAML or JSON"),
        ("- 1", "must be a Compose of transforms, got something else"),
        ("a: !!python/object/apply:os.system ['touch SPRUNG']", "must be YAML or JSON"),
        ('{"transform": {"__class_fullname__": "Compose", "transforms": [3]}}', "must be made of transforms"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ), "got more than 10000 values"),
        ("transform: {a: .nan}", "Out of range float values"),
        ("transform: 2020-01-01", "got a value of type date"),
        ("\xff", ""),
    ],
)  # fmt: skip
def test_a_file_that_holds_none_is_one_line(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(text, encoding="latin-1")
    (tmp_path / "s.toml").write_text("")
    with pytest.raises(StudyFileError) as caught:
        parse_study(
            '[study]\nname = "s"\n[augment]\npipeline = "p.yaml"',
            source="s.toml",
            origin=str(tmp_path / "s.toml"),
        )
    [problem] = caught.value.problems
    assert problem.startswith("s.toml: augment.pipeline: ")
    assert expected in problem
    assert not (tmp_path / "SPRUNG").exists()


@pytest.mark.parametrize(
    ("transform", "changes", "expected"),
    [
        (A.Normalize(), {}, "must not have Normalize, which gives values of another kind"),
        (A.ToGray(num_output_channels=1, p=1.0), {}, "must give images of uint8 with 3 channels"),
        (
            A.HorizontalFlip(),
            {"__class_fullname__": "Lambda", "__name__": "x"},
            "must not have Lambda, which",
        ),
        (A.HorizontalFlip(), {"__class_fullname__": "os.system"}, "got 'os.system'; leave it out"),
        (A.HorizontalFlip(), {"__class_fullname__": "BaseCompose"}, "got 'BaseCompose'"),
        (A.HorizontalFlip(), {"chance": 2}, "must be a pipeline of albumentations 2"),
        (A.HorizontalFlip(), {"p": 7}, "must be a pipeline of albumentations 2"),
        (
            A.Affine(rotate=45, p=1.0, fill_mask=3),
            {},
            "Affine.fill_mask must be 0, which is background, got 3",
        ),
    ],
)
def test_what_makes_no_sense_is_said_before_the_launch(tmp_path, transform, changes, expected):
    text = content(tmp_path, transform)
    with pytest.raises(DataError) as caught:
        check_pipeline(_changed(text, **changes))
    assert expected in caught.value.problems[0]


def test_a_study_holds_the_content_and_not_the_path(tmp_path):
    path = saved(tmp_path, *ALL_SORTS)
    text = '[study]\nname = "s"\n[augment]\npipeline = "p.yaml"\ncrop_px = 64\n'
    where = {"source": "s.toml", "origin": str(tmp_path / "s.toml")}
    spec = parse_study(text, **where)
    config = spec.trial_config({})
    assert config.augment.pipeline == pipeline_text(path)
    assert config.to_dict()["augment"].keys() == {"crop_px", "pipeline"}
    assert TrialConfig.model_validate(config.to_dict()) == config
    assert config.digest() != TrialConfig(augment={"crop_px": 64}).digest()
    saved(tmp_path, A.HorizontalFlip())
    assert parse_study(text, **where).identity() != spec.identity(), (
        "a launch refuses to go on with another pipeline"
    )
    path.unlink()  # the database has the text, and what was set beside it
    stored = parse_study(text, overrides=spec.overrides, stored=True, **where)
    assert stored.trial_config({}).digest() == config.digest()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('[augment]\npipeline = "p.yaml"\npreset = "strong"', "got preset beside it; remove one or the other"),
        ('[augment]\npipeline = "none.yaml"', "none.yaml: must be a readable file, got No such file or directory"),
        ('[augment]\npipeline = "p.yaml"\n[space.augment]\nstrength = { low = 0.0, high = 1.0 }',
         "space.augment.strength: must not be searched beside augment.pipeline"),
        ('[space.augment]\npipeline = { choices = ["p.yaml"] }', "space.augment.pipeline: must not be searched"),
    ],
)  # fmt: skip
def test_it_excludes_presets_and_their_search(tmp_path, body, expected):
    saved(tmp_path, A.HorizontalFlip())
    with pytest.raises(StudyFileError) as caught:
        parse_study(f'[study]\nname = "s"\n{body}', source="s.toml", origin=str(tmp_path / "s.toml"))
    assert any(expected in problem for problem in caught.value.problems), caught.value.problems
