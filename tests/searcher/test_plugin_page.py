"""The page on plug-ins: its file is a plug-in, its study is a study, its checks hold."""

import re
from pathlib import Path

import pytest
from plugged import plugged_in

from searcher.study.catalog import load_study
from searcher.study.reader import parse_study
from searcher.testing import check_export, check_head, check_loss, check_metric, check_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "plugins.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
TOML = [text for kind, text in BLOCKS if kind == "toml"]


def test_the_page_has_a_model_checks_and_a_loss_other_parts_studies_and_an_entry_point():
    assert (len(PYTHON), len(TOML)) == (5, 4)


def test_the_file_is_a_plugin_whose_keys_a_study_searches_and_which_conforms(tmp_path):
    with plugged_in(tmp_path, PYTHON[0], "my_model.py"):
        (tmp_path / "my_study.toml").write_text(TOML[0])
        spec = load_study(str(tmp_path / "my_study.toml"))
        assert spec.plugins == (str(tmp_path / "my_model.py"),)
        assert spec.trial_config({"model.width": 9}).model.width == 9
        checked = []

        def quickly(model, **settings):
            checked.append(settings)
            check_model(model, learns=not settings, **settings)

        calls = PYTHON[1].replace("from searcher.testing import check_head, check_loss, check_model\n", "")
        exec(calls, {"check_model": quickly})
        assert checked == [{}, {"head": "contour", "channels": 1}]


@pytest.mark.parametrize("block", PYTHON[2:3])
def test_the_loss_conforms(tmp_path, block):
    with plugged_in(tmp_path, block, "my_loss.py"):
        check_loss("iou")
        check_loss("iou", smooth_px=0.5)
        spec = parse_study(f'[study]\nname = "s"\n{TOML[1]}', source="s.toml")
        config = spec.trial_config({"model.loss": "bce+iou", "model.options.iou.smooth_px": 0.5})
        assert config.model.options == {"iou": {"smooth_px": 0.5}}


def test_the_export_format_conforms(tmp_path):
    with plugged_in(tmp_path, PYTHON[4], "my_format.py"):
        check_export("state_dict", num_networks=2)


def test_the_other_parts_are_known_by_a_study(tmp_path):
    with plugged_in(tmp_path, PYTHON[3], "my_parts.py"):
        check_metric("jaccard")
        named = '[study]\nname = "s"\nobjective = "jaccard"\n[optimizer]\nname = "rprop"\n'
        named += '[search]\nsampler = "nsga2"\n[pruner]\nname = "median"\n'
        spec = parse_study(named, source="s.toml")
        assert spec.search.options == {"population_size": 50}
        assert spec.trial_config({}).optimizer.name == "rprop"


def test_the_entry_point_is_of_our_group():
    assert '[project.entry-points."searcher.plugins"]' in TOML[2]


def test_our_own_heads_and_losses_conform():
    for head in ("binary", "contour", "distance"):
        check_head(head)
    for loss in ("bce", "dice", "ce", "focal"):
        check_loss(loss)
