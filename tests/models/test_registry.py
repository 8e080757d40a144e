"""Models by name, and what their settings promise."""

import subprocess
import sys

import pytest

from searcher.models.registry import build_model, names
from searcher.models.settings import SETTINGS, PostprocessSettings, UNetSettings


def test_every_model_with_settings_can_be_built():
    assert names() == tuple(sorted(SETTINGS.names()))
    for name in names():
        assert build_model(SETTINGS[name](), PostprocessSettings()).training


def test_settings_arrive_in_the_model():
    postprocess = PostprocessSettings(threshold=0.3)
    model = build_model(UNetSettings(base_channels=6, depth=2, dropout=0.25), postprocess)
    assert model.encoder[0][0].out_channels == 6
    assert len(model.decoder) == 2
    assert model.dropout.p == 0.25
    assert model.postprocess == postprocess


def test_unknown_name_lists_the_known():
    settings = UNetSettings.model_construct(name="vnet")
    with pytest.raises(ValueError, match=r"model.name must be one of mask_rcnn, unet, got 'vnet'"):
        build_model(settings, PostprocessSettings())


def test_settings_and_names_come_without_torch():
    """Study files are validated on machines and in commands that must not wait for torch."""
    code = "import sys, searcher.models.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
