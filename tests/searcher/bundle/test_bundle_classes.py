"""Classes in bundles: named, checked, in ONNX, in Python's predictions."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

import searcher
from searcher.api.predicting_files import check_class_name
from searcher.bundle.load import load_bundle
from searcher.data_pipeline.datasets import SyntheticGlands
from searcher.exceptions import UserError
from searcher.models.registry import names

CLASSES = {"num_classes": 2, "class_names": ("round", "long*")}


def image():
    return SyntheticGlands(num_images=1, size_px=96, seed=3).read(0)[0]


@pytest.fixture(scope="module", params=names())
def bundle(request, write, new_member, data_facts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "b"
    formats = ("bundle", "onnx") if request.param == "unet" else ("bundle",)
    write(
        folder,
        "classed",
        [new_member(name=request.param, **CLASSES)],
        data=data_facts,
        formats=formats,
        size_px=96,
    )
    return folder


def test_python_gives_classes_with_their_probabilities(bundle):
    opened = searcher.load_bundle(bundle, device="cpu")
    assert opened.class_names == ("round", "long*")
    found = opened.predict(image())
    labels, scores, classes = found
    assert labels.max() == len(scores) == len(classes)
    assert found.class_probabilities.shape == (len(scores), 2)
    np.testing.assert_array_equal(classes, found.class_probabilities.argmax(axis=1) + 1)


def test_the_bundle_names_them_and_so_does_its_card(bundle):
    values = json.loads((bundle / "bundle.json").read_text())
    assert values["class_names"] == ["round", "long*"]
    card = (bundle / "README.md").read_text()
    assert "which class it is of: 1 round, 2 long&#42;." in card
    if "onnx" in values and values["onnx"] is not None:
        assert "classes float32[B, 2, H, W]" in card


def test_onnx_has_the_classes_as_an_output_of_their_own(bundle):
    manifest = load_bundle(bundle).manifest
    if manifest.onnx is None:
        pytest.skip("a detector has no ONNX network")
    session = onnxruntime.InferenceSession(bundle / manifest.onnx.file, providers=["CPUExecutionProvider"])
    maps, classes = session.run(["maps", "classes"], {"images": image()[None]})
    seen = load_bundle(bundle).predictor(device=torch.device("cpu"), tta=False).see(image())
    np.testing.assert_allclose(np.concatenate([maps[0], classes[0]]), seen, atol=1e-5)


def test_other_names_than_the_networks_learned_are_refused(bundle, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for file in bundle.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    values = json.loads((other / "bundle.json").read_text())
    (other / "bundle.json").write_text(json.dumps(values | {"class_names": ["long*", "round"]}))
    with pytest.raises(
        UserError, match=r"class_names must be those that its networks were trained with, round, long\*"
    ):
        load_bundle(other)


def test_one_class_for_all_is_refused_where_each_has_its_own(bundle, tmp_path):
    with pytest.raises(UserError, match="class_name Gland: must be for a bundle without classes, got one"):
        searcher.load_bundle(bundle, device="cpu").predict_files(tmp_path, tmp_path / "o", class_name="Gland")
    check_class_name("--class-name", "Gland", ())


def test_networks_of_other_classes_are_no_ensemble(write, new_member, data_facts, tmp_path):
    members = [
        new_member(n, 2, num_classes=2, class_names=each) for n, each in enumerate((("a", "b"), ("b", "a")))
    ]
    with pytest.raises(UserError, match="trained on the same classes, got a, b and b, a"):
        write(tmp_path / "b", "two", members, data=data_facts)


def test_without_classes_a_bundle_is_written_as_before(write, new_member, data_facts, tmp_path):
    write(tmp_path / "b", "plain", [new_member()], data=data_facts)
    assert "class_names" not in (tmp_path / "b" / "bundle.json").read_text()
    opened = searcher.load_bundle(tmp_path / "b", device="cpu")
    assert opened.class_names == ()
    assert opened.predict(image()).class_probabilities is None
