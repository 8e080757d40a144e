"""The ONNX network says what PyTorch's does, or is not written."""

import numpy as np
import onnxruntime
import pytest
import torch

from searcher.bundle.load import load_bundle
from searcher.bundle.onnx import check_exportable, export_onnx
from searcher.data_pipeline.datasets import SyntheticGlands
from searcher.exceptions import SearcherError, UserError
from searcher.inference.trained import predictor_of

CPU = torch.device("cpu")


def test_the_onnx_network_of_an_ensemble_is_the_mean_of_its_networks(write, tmp_path, new_member, data_facts):
    members = [new_member(number, 2, seed=number, input_scale=0.5) for number in range(2)]
    models = [member.network.model(CPU) for member in members]
    tissue = SyntheticGlands(num_images=3, size_px=96, seed=5)
    inputs = {"tissue": tissue.read(0)[0]}
    write(
        tmp_path / "b",
        "two",
        members,
        data=data_facts,
        formats=("onnx", "bundle"),
        size_px=96,
        images=inputs,
    )
    onnx = load_bundle(tmp_path / "b").manifest.onnx
    assert (onnx.height, onnx.width, onnx.compared_on) == (96, 96, ("random pixels", "tissue"))
    session = onnxruntime.InferenceSession(tmp_path / "b" / onnx.file, providers=["CPUExecutionProvider"])
    images = np.stack([tissue.read(index)[0] for index in range(3)])  # another batch than was exported
    [maps] = session.run(None, {"images": images})
    predictor = predictor_of([member.network for member in members], models, device=CPU)
    for index in range(3):
        np.testing.assert_allclose(maps[index], predictor.see(images[index]), atol=1e-5)
    assert 0 <= onnx.max_difference < 1e-5


def test_a_network_that_comes_out_otherwise_is_refused(tmp_path, new_member, monkeypatch):
    monkeypatch.setattr("searcher.bundle.onnx.MAX_DIFFERENCE", -1.0)
    with pytest.raises(SearcherError, match="must be PyTorch's"):
        export_onnx([new_member().network.model(CPU)], tmp_path / "m.onnx", size_px=64, inputs={})


def test_mask_rcnn_has_no_maps_to_export(new_member):
    model = new_member(name="mask_rcnn").network.model(CPU)
    with pytest.raises(UserError, match="--onnx: must be given for a model with maps"):
        check_exportable([model])
