"""`searcher probe` on a machine without a GPU."""

import json

import pytest
import torch
from tiny_study import TINY

from searcher.cli.main import main


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch, cache_dir):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without a GPU says")
def test_it_says_how_much_main_memory_to_reserve(capsys):
    assert main(["probe", "--study", "tiny.toml", "--set", "optimizer.name=sgd", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["study"], said["device_name"], said["fits"]) == ("tiny", "CPU", True)
    assert said["trials_per_gpu"] is None
    assert said["resources.memory_gib"] * 2**30 >= 1.1 * said["host_bytes"]
    assert [each["params"] for each in said["measured"]] == [said["params"]]


def test_a_study_whose_space_comes_from_its_parent_is_refused(capsys):
    assert main(["probe", "--study", "unet-narrow"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "studies/unet-narrow.toml: must say itself what is searched, got what follows from unet-broad"
    )
    assert error.count("\n") == 1
