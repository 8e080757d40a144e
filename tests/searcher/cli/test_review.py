"""`searcher review`: from a bundle and images to files for QuPath, and back as a data set."""

import csv
import json

import numpy as np
import pytest
import shapely
import torch
from PIL import Image
from trained_runs import folder_of

import searcher
from searcher.bundle.load import load_bundle
from searcher.bundle.manifest import DataFacts
from searcher.cli.main import main
from searcher.data_pipeline.datasets import SyntheticGlands, open_dataset
from searcher.data_pipeline.store import prepare_store
from searcher.exceptions import StudyFileError, UserError
from searcher.study.catalog import load_study
from searcher.training.trainer import Trainer


@pytest.fixture(scope="module")
def bundle(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("review") / "bundle"
    assert main(["export", str(folder_of(trained, "plain")), "--to", str(folder), "--name", "small"]) == 0
    return folder


@pytest.fixture
def images(tmp_path):
    source = SyntheticGlands(num_images=3, size_px=128, seed=5)
    (tmp_path / "new").mkdir()
    for index, name in enumerate(("a.png", "b.tif", "c.png")):
        Image.fromarray(source.read(index)[0]).save(tmp_path / "new" / name)
    return tmp_path / "new"


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_images_and_objects_are_ranked_and_each_image_has_a_file_to_correct(bundle, images, tmp_path, capsys):
    (images / "broken.png").write_bytes(b"no image")
    out = tmp_path / "review"
    review = ["review", str(bundle), str(images), "--to", str(out), "--region-px", "96", "--json"]
    assert main([*review, "--class-name", "Crypt"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert [*said["failed"]] == ["broken.png"]
    ranked = rows(out / "review.csv")
    assert [row["image"] for row in ranked] == [row["image"] for row in said["images"]]
    values = [float(row["disagreement"]) for row in ranked]
    assert values == sorted(values, reverse=True)
    assert sorted(row["image"] for row in ranked) == ["a.png", "b.tif", "c.png"]
    objects = rows(out / "review-objects.csv")
    unsure = [float(row["disagreement"]) for row in objects]
    assert unsure == sorted(unsure, reverse=True)
    assert len(objects) == sum(int(row["objects"]) for row in ranked)
    for row in ranked:
        file = out / "geojson" / f"{row['image'].partition('.')[0]}.geojson"
        region, *found = json.loads(file.read_text())["features"]
        assert region["properties"]["classification"]["name"] == "Region*"
        box = shapely.geometry.shape(region["geometry"]).bounds
        left, top = int(row["region_x"]), int(row["region_y"])
        assert box == (left, top, left + 96, top + 96)
        known = {each["id"]: each for each in objects if each["image"] == row["image"]}
        for feature in found:
            properties = feature["properties"]
            assert properties["objectType"] == "annotation", "detections cannot be edited in QuPath"
            assert properties["classification"]["name"] == "Crypt"
            value = float(known[feature["id"]]["disagreement"])
            assert properties["measurements"]["disagreement"] == pytest.approx(value)
            assert shapely.geometry.shape(feature["geometry"]).intersects(shapely.box(*box))
    assert main(review) == 2, "corrections are never overwritten"


def test_a_corrected_file_comes_back_as_what_is_annotated_in_its_region(bundle, images, tmp_path):
    found = searcher.review(bundle, [images / "a.png", images / "b.tif"], tmp_path / "review", region_px=64)
    assert [each.path.name for each in found] in (["a.png", "b.tif"], ["b.tif", "a.png"])
    truth = {"a": SyntheticGlands(num_images=3, size_px=128, seed=5).read(0)[1]}
    truth["b"] = SyntheticGlands(num_images=3, size_px=128, seed=5).read(1)[1]
    for name in truth:  # a person draws every object of the region anew, and keeps the region
        file = tmp_path / "review" / "geojson" / f"{name}.geojson"
        document = json.loads(file.read_text())
        region = document["features"][0]
        document["features"] = [region, *drawn(truth[name])]
        file.write_text(json.dumps(document))
    assert main(["data", "import", str(tmp_path / "review"), "--to", str(tmp_path / "data")]) == 0
    source = open_dataset(tmp_path / "data")
    regions = {each.path.stem: each.region for each in found}
    assert sorted(sample.id for sample in source.samples) == ["a", "b"]
    for index, sample in enumerate(source.samples):
        _image, labels = source.read(index)
        expected = truth[sample.id][regions[sample.id].window]
        assert labels.shape == (64, 64)
        np.testing.assert_array_equal(labels > 0, expected > 0)


def drawn(labels):
    """The objects of a label map as a person's annotations, one square polygon a pixel row."""
    for value in np.unique(labels[labels > 0]):
        area = shapely.union_all([shapely.box(x, y, x + 1, y + 1) for y, x in np.argwhere(labels == value)])
        geometry = json.loads(shapely.to_geojson(area))
        yield {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation"}}


def test_a_file_without_its_region_is_refused(bundle, images, tmp_path, capsys):
    searcher.review(bundle, images, tmp_path / "review", region_px=64, top=1)
    [file] = (tmp_path / "review" / "geojson").iterdir()
    [image] = (tmp_path / "review" / "images").iterdir()
    assert image.stem == file.stem
    assert len(rows(tmp_path / "review" / "review.csv")) == 3, "all are ranked"
    document = json.loads(file.read_text())
    document["features"] = document["features"][1:]
    if not document["features"]:
        pytest.skip("nothing was found in this image")
    file.write_text(json.dumps(document))
    assert main(["data", "import", str(tmp_path / "review"), "--to", str(tmp_path / "data")]) == 2
    assert "must keep its region, the annotation of the class Region*" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_what_cannot_be_is_one_line_and_leaves_nothing(bundle, images, tmp_path):
    for wish in ({"region_px": 8}, {"top": 0}, {"pixel_size_um": -1.0}):
        with pytest.raises(UserError, match="must be"):
            searcher.review(bundle, images, tmp_path / "review", **wish)
    for each in images.iterdir():
        each.write_bytes(b"")
    with pytest.raises(UserError, match="no image could be predicted, got none of 3"):
        searcher.review(bundle, images, tmp_path / "review")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]


@pytest.fixture(scope="module")
def corrected(tmp_path_factory):
    """A data set of three small images, as `data import` writes them."""
    source = SyntheticGlands(num_images=3, size_px=96, seed=9)
    folder = tmp_path_factory.mktemp("corrected")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for index in range(3):
        image, labels = source.read(index)
        Image.fromarray(image).save(folder / "images" / f"{index}.png")
        Image.fromarray(labels.astype(np.uint16)).save(folder / "labels" / f"{index}.png")
    return folder


def test_a_study_is_planned_that_trains_the_bundles_network_on(bundle, corrected, tmp_path, capsys):
    file = tmp_path / "more.toml"
    plan = ["plan", "--data", str(corrected), "--from", str(bundle), "--name", "more"]
    assert main([*plan, "--write", str(file)]) == 0
    spec = load_study(str(file))
    [member] = load_bundle(bundle).members
    weights = load_bundle(bundle).manifest.files[member.facts.weights].sha256
    config = spec.trial_config(spec.enqueue[0])
    assert config.model == member.network.config.model
    assert (config.warm_start.bundle, config.warm_start.sha256) == (str(bundle), weights)
    store = prepare_store(open_dataset(corrected), tmp_path / "cache")
    with Trainer(config, spec.objective, store=store, run_dir=tmp_path / "run") as trainer:
        assert len(trainer.transfer.loaded) == len(member.network.weights)
        for name, tensor in trainer.learner.model.state_dict().items():
            assert torch.equal(tensor.cpu(), member.network.weights[name]), name
    # As the database stores it: the path and the digest are pinned, so that a bundle of other weights is refused.
    assert spec.overrides["warm_start.sha256"] == weights
    with pytest.raises(StudyFileError, match="must have the weights that the study began from, 0000"):
        load_study(str(file), {"warm_start.sha256": "0" * 64})
    with pytest.raises(StudyFileError, match="must be a folder that searcher export wrote"):
        load_study(str(file), {"warm_start.bundle": str(tmp_path)})
    keeping = load_study(str(file), {"warm_start.optimizer": "keep"}).trial_config(spec.enqueue[0])
    with pytest.raises(UserError, match="needs a checkpoint, got a bundle"):
        Trainer(keeping, spec.objective, store=store, run_dir=tmp_path / "keep")
    assert main(["plan", "--data", str(corrected), "--from", str(corrected)]) == 2
    assert "must be a bundle with a bundle.json" in capsys.readouterr().err


def test_a_bundle_may_name_the_class_of_its_objects():
    facts = DataFacts(name="d", licence="l", fingerprints=("a" * 64,))
    assert "class_name" not in facts.model_dump()
    named = facts.model_copy(update={"class_name": "Nucleus"})
    assert DataFacts.model_validate_json(named.model_dump_json()) == named
