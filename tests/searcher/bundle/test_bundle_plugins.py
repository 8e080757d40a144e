"""A bundle names the plug-ins that its networks are made of; without them it is not opened, with them it predicts."""

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from plugged import plugged_in

from searcher.bundle.load import load_bundle
from searcher.bundle.manifest import MemberFacts
from searcher.bundle.member import BundleMember
from searcher.exceptions import UserError
from searcher.inference.trained import TrainedNetwork
from searcher.models.registry import build_model
from searcher.study.config import TrialConfig

CPU = torch.device("cpu")
LOSS = """
    from searcher.models.losses import RegionLoss, register_loss

    @register_loss("half")
    class Half(RegionLoss):
        def of_region(self, probability, target):
            return 0.5 * (1 - (probability * target).mean())
    """


def member(**model: object) -> BundleMember:
    config = TrialConfig.model_validate({"model": {"base_channels": 2, "depth": 1, **model}})
    torch.manual_seed(0)
    weights = build_model(config.model, config.postprocess).state_dict()
    facts = MemberFacts(
        weights="weights.safetensors", study=None, trial=None, epoch=1, objective="object_dice", value=0.5, params={},
        config=config.to_dict(), tuned=None, checkpoint_sha256="c" * 64, data_fingerprint="d" * 64, history={},
        lineage=(),
    )  # fmt: skip
    return BundleMember(TrainedNetwork(config, weights, None), facts)


@pytest.fixture
def bundle(write, data_facts, tmp_path: Path) -> Path:
    """A bundle whose network was trained with a plug-in's loss, which is forgotten again."""
    with plugged_in(tmp_path, LOSS, "half_loss.py"):
        write(tmp_path / "b", "half", [member(loss="bce+half")], data=data_facts)
    return tmp_path / "b"


def test_a_bundle_names_its_plugins_and_their_parts(bundle):
    manifest = json.loads((bundle / "bundle.json").read_text())
    [facts] = manifest["plugins"]
    assert (facts["name"], facts["version"], facts["parts"]) == ("half_loss.py", "", ["model.loss=half"])
    assert len(facts["sha256"]) == 64
    assert "`half&#95;loss.py`" in (bundle / "README.md").read_text()


def test_without_plugins_a_bundle_is_what_it_was(write, data_facts, tmp_path):
    write(tmp_path / "b", "plain", [member()], data=data_facts)
    assert "plugins" not in json.loads((tmp_path / "b" / "bundle.json").read_text())
    assert "It needs" not in (tmp_path / "b" / "README.md").read_text()


def test_without_its_plugin_it_is_not_opened_and_its_file_is_not_looked_for(bundle):
    assert (bundle.parent / "half_loss.py").is_file()
    with pytest.raises(UserError) as caught:
        load_bundle(bundle)
    [problem] = caught.value.problems
    assert problem == (
        f"{bundle}: must have its plug-in half_loss.py, got none that knows model.loss=half; give --plugin FILE with it"
    )


def test_with_its_plugin_it_predicts(bundle, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with plugged_in(tmp_path / "elsewhere", LOSS, "half_loss.py"):
        maps = load_bundle(bundle).predictor(device=CPU).see(image)
    assert maps.shape == (1, 32, 32)


def test_another_version_of_its_plugin_is_said(bundle, tmp_path, caplog):
    (tmp_path / "elsewhere").mkdir()
    with (
        plugged_in(tmp_path / "elsewhere", LOSS + "    # changed", "half_loss.py"),
        caplog.at_level(logging.WARNING),
    ):
        load_bundle(bundle)
    [line] = caplog.messages
    assert "was written with the plug-in half_loss.py" in line
    assert "what it predicts may differ" in line


@pytest.mark.parametrize("part", ["nothing", "model.loss=", "=half", "model.loss=a\nb", "a=b=c", 3])
def test_what_is_no_part_is_one_line(bundle, part):
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["plugins"][0]["parts"] = [part]
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError) as caught:
        load_bundle(bundle)
    [problem] = caught.value.problems
    assert problem.startswith(f"{bundle}/bundle.json: plugins.0.parts.0: ")


def test_a_hostile_name_is_shown_harmless(bundle):
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["plugins"][0] |= {"name": "a\n\x1b[31mb", "parts": ["model.loss=\u202ehalf"]}
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError) as caught:
        load_bundle(bundle)
    [problem] = caught.value.problems
    assert "\n" not in problem
    assert "\x1b" not in problem
    assert "\u202e" not in problem


def test_a_bundle_cannot_make_us_import_what_it_names(bundle, tmp_path, monkeypatch):
    trap = tmp_path / "trap.py"
    trap.write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    manifest = json.loads((bundle / "bundle.json").read_text())
    for name in (str(trap), "trap", "trap.py"):
        manifest["plugins"][0]["name"] = name
        (bundle / "bundle.json").write_text(json.dumps(manifest))
        with pytest.raises(UserError, match="must have its plug-in"):
            load_bundle(bundle)
    assert "trap" not in sys.modules
