"""`searcher evaluate`: from trained checkpoints to the official metrics, and into a file."""

import hashlib
import json
import re

import numpy as np
import pytest
import torch
from parsed_page import ParsedPage
from PIL import Image
from stored_study import RERANK, StoredStudy
from trained_runs import SETTINGS, folder_of

from searcher.cli.main import main
from searcher.data_pipeline.datasets import SyntheticGlands


@pytest.fixture(autouse=True)
def _with_a_cache(cache_dir):
    """Stores go where the session keeps them."""


def evaluate(trained, *arguments):
    return main(["evaluate", *map(str, arguments), "--data", str(trained / "data"), "--splits", "train"])


def test_all_figures_are_in_the_file(trained, tmp_path, capsys):
    run = folder_of(trained, "plain")
    assert evaluate(trained, run, "--json", tmp_path / "e.json") == 0
    shown = capsys.readouterr().out
    record = json.loads((tmp_path / "e.json").read_text())
    split = record["splits"]["train"]
    assert split["num_images"] == 4
    assert f"{split['pooled']['object_dice']:.4f}" in shown
    assert len(split["images"]) == 4
    assert split["seconds_per_image"]["median"] > 0
    assert 0 < split["poster"]["f1"] <= 1
    assert (record["schema"], record["name"]) == ("searcher-evaluation-1", f"unet-demo/{run.name}")
    assert (
        record["members"][0]["checkpoint_sha256"]
        == hashlib.sha256((run / "best.pt").read_bytes()).hexdigest()
    )
    assert record["tta"] is False


def test_dark_images_are_brightened_for_networks_from_before_normalisation_and_it_is_said(
    trained, tmp_path, capsys
):
    """The run's own checkpoint, without what it says of normalisation; a quarter of the images' exposure."""
    payload = torch.load(folder_of(trained, "plain") / "best.pt", weights_only=True)
    assert payload["config"]["data"].pop("normalisation") == "fixed"
    torch.save(payload, tmp_path / "old.pt")
    source = SyntheticGlands(num_images=2, size_px=96, seed=5)
    for folder in ("images", "labels"):
        (tmp_path / "d" / folder).mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.png")):
        image, labels = source.read(index)
        Image.fromarray((255 - image) // (1 + 3 * index)).save(tmp_path / "d" / "images" / name)
        Image.fromarray(labels.astype(np.uint16)).save(tmp_path / "d" / "labels" / name)
    arguments = ["evaluate", str(tmp_path / "old.pt"), "--data", str(tmp_path / "d"), "--splits", "train"]
    assert main([*arguments, "--json", str(tmp_path / "e.json")]) == 0
    assert (
        "1 of 2 images are dark, 99.8% of the pixels below 64 of 255; brightened" in capsys.readouterr().err
    )
    assert json.loads((tmp_path / "e.json").read_text())["normalisation"] == "fixed, dark images brightened"
    assert main([*arguments, "--normalisation", "fixed"]) == 0
    assert "brightened" not in capsys.readouterr().err


def test_searcher_benchmark_reads_what_was_written(trained, tmp_path, capsys):
    assert evaluate(trained, folder_of(trained, "plain"), "--json", tmp_path / "e.json", "--name", "toy") == 0
    record = json.loads((tmp_path / "e.json").read_text())
    record["splits"]["testA"] = record["splits"].pop("train")  # these images have no test set
    (tmp_path / "e.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert main(["benchmark", str(tmp_path / "e.json"), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    [ours] = [row for row in table["contest"] if row["source"] == "ours"]
    assert (ours["method"], ours["f1"]) == ("toy", [record["splits"]["testA"]["pooled"]["f1"], None])
    assert table["poster"][-1]["f1"] == [record["splits"]["testA"]["poster"]["f1"], None]


def figures(record):
    """The record's figures without the time they took."""
    split = dict(record["splits"]["train"])
    del split["seconds_per_image"]
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in split.pop("images")]
    return split, rows


def test_a_checkpoint_is_evaluated_as_it_was_tuned_unless_told_otherwise(trained, tmp_path):
    from searcher.training.checkpoints import load_checkpoint

    run = folder_of(trained, "tta")
    tuned = load_checkpoint(run / "best.pt")[0].tuned
    records = {}
    for wish in ("", "--tta", "--no-tta"):
        assert evaluate(trained, run / "best.pt", *filter(None, [wish]), "--json", tmp_path / "e.json") == 0
        records[wish] = json.loads((tmp_path / "e.json").read_text())
    assert records[""]["postprocess"] == tuned["postprocess"]
    assert [records[wish]["tta"] for wish in ("", "--tta", "--no-tta")] == [tuned["tta"], True, False]
    assert figures(records["--tta"]) != figures(records["--no-tta"])
    assert figures(records[""]) == figures(records["--tta" if tuned["tta"] else "--no-tta"])


def test_the_report_shows_what_the_file_says(trained, tmp_path, capsys):
    run = folder_of(trained, "plain")
    files = ["--json", tmp_path / "e.json", "--report", tmp_path / "r.html"]
    assert evaluate(trained, run, *files, "--name", "mine & yours") == 0
    assert f"the report, for a browser: {tmp_path / 'r.html'}" in capsys.readouterr().out.replace("\n", "")
    record = json.loads((tmp_path / "e.json").read_text())
    page = ParsedPage((tmp_path / "r.html").read_text())
    split = record["splits"]["train"]
    assert f"mine & yours outlined {split['counts']['num_predicted']} objects" in page.text
    [images] = [table for table in page.tables if table.label.startswith("Every image")]
    for image in split["images"]:
        assert images.row(image["id"])[2] == f"{image['object_dice']:.3f}"
    best = max(split["images"], key=lambda image: image["object_dice"])
    assert re.search(rf"Best(, [a-z ,H]+)? · {best['id']}", page.text)
    assert record["members"][0]["checkpoint_sha256"][:12] in page.text
    assert record["data"]["fingerprint"] in page.text
    assert len(page.of("svg")) == 4, "with the training's curves"


def test_a_report_that_cannot_be_written_is_said_before_the_work(trained, tmp_path, capsys):
    where = tmp_path / "no" / "r.html"
    assert evaluate(trained, folder_of(trained, "plain"), "--report", where) == 2
    assert f"--report {where}: its folder must exist" in capsys.readouterr().err


def test_several_checkpoints_are_an_ensemble(trained, tmp_path):
    runs = [folder_of(trained, name) for name in ("plain", "tta")]
    assert evaluate(trained, *runs, "--json", tmp_path / "e.json") == 0
    record = json.loads((tmp_path / "e.json").read_text())
    assert record["paths"] == [str(run / "best.pt") for run in runs]
    assert record["tta"] is False, "only if all were tuned so: the first was not"


def test_a_split_that_is_not_there(trained, capsys):
    """Without one that is named, the images that were held out would be measured; these networks saw other data."""
    words = ["evaluate", str(folder_of(trained, "plain")), "--data", str(trained / "data")]
    assert main([*words, "--splits", "testA"]) == 2
    assert (
        "--splits testA: must be splits of the data set, got testA; it has train" in capsys.readouterr().err
    )
    assert main(words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "or be the data that the networks were trained on, got other data with only train;" in line


def test_the_best_trial_of_a_study_is_found_in_the_database(trained, stored_study, tmp_path, capsys):
    weights = (folder_of(trained, "plain") / "best.pt").read_bytes()
    number = stored_study.begin()
    stored_study.save(number, "best", weights)
    stored_study.ledger.complete(number, 0.9, best_epoch=1, stop_reason="epochs")
    stored_study.complete(0.1)
    where = ["--data", str(trained / "data"), "--splits", "train", "--json", str(tmp_path / "e.json")]
    assert main(["evaluate", "--study", "s", *where]) == 0
    record = json.loads((tmp_path / "e.json").read_text())
    assert record["paths"][0] == str(stored_study.folder(number) / "best.pt")
    capsys.readouterr()
    assert main(["gc", "--study", "s", "--keep", "1"]) == 0
    assert main(["evaluate", "--study", "s", *where]) == 0, "gc keeps the best"


def test_all_runs_of_a_reranks_winner_are_one_ensemble(trained, stored_study, tmp_path, capsys):
    (tmp_path / "again").mkdir()
    again = StoredStudy(stored_study.database, tmp_path / "again", text=RERANK)
    again.ledger.enqueue(again.spec.enqueue)
    for name, value in (
        ("plain", 0.9),
        ("tta", 0.7),
        ("plain", 0.3),
        ("tta", 0.8),
    ):  # trial 5 has the better mean
        number = again.begin()
        again.save(number, "best", (folder_of(trained, name) / "best.pt").read_bytes())
        again.ledger.complete(number, value, best_epoch=1, stop_reason="epochs")
    where = ["--data", str(trained / "data"), "--splits", "train"]
    assert main(["evaluate", "--study", "again", "--ensemble", *where, "--json", "e.json"]) == 0
    record = json.loads((tmp_path / "e.json").read_text())
    assert record["paths"] == [str(again.folder(n) / "best.pt") for n in (1, 3)]
    assert main(["evaluate", "--study", "again", *where, "--json", "e.json"]) == 0
    [one] = json.loads((tmp_path / "e.json").read_text())["paths"]
    assert one == str(again.folder(3) / "best.pt")
    capsys.readouterr()
    stored_study.complete(0.5)
    assert main(["evaluate", "--study", "s", "--ensemble", *where]) == 2
    assert "must name a rerank with several COMPLETE runs" in capsys.readouterr().err


@pytest.mark.parametrize("wanted", ["pr\u00fcf", "pru\u0308f"])
def test_a_split_is_found_in_either_form_of_its_name(wanted):
    from searcher.api.evaluation import _splits
    from searcher.data_pipeline import Sample

    class Named:
        samples = (
            Sample("a", "train", "a", ""),
            Sample("b", "pr\u00fcf", "b", ""),
            Sample("c", "u\u0308", "c", ""),
        )

        def indices(self, split):
            return [i for i, sample in enumerate(self.samples) if sample.split == split]

    def found(text):
        return _splits(None, Named(), text, "data", print)

    assert found(wanted) == {"pr\u00fcf": {(): [1]}}
    assert found(f"{wanted}, \u00fc") == {"pr\u00fcf": {(): [1]}, "u\u0308": {(): [2]}}


def test_without_a_test_split_each_image_is_measured_by_the_networks_that_did_not_train_on_it(
    trained, tmp_path, capsys
):
    """Two folds: each network alone measures its own half, both together all images, with the same figures."""
    data = trained / "data"
    for fold in (0, 1):
        settings = [*SETTINGS, "tuning.postprocess=false", "data.folds=2", f"data.fold={fold}"]
        settings.append("postprocess.min_object_area_px=40")  # not of each fold's own objects
        options = [part for setting in settings for part in ("--set", setting)]
        storage = ["--data", str(data), "--storage", str(tmp_path / f"fold{fold}")]
        assert main(["train", "--study", "unet-demo", "--epochs", "1", *storage, *options]) == 0
    runs = [folder_of(tmp_path, f"fold{fold}") for fold in (0, 1)]
    found = []
    for number, paths in enumerate(([runs[0]], [runs[1]], runs)):
        words = ["evaluate", *map(str, paths), "--data", str(data), "--no-tta"]
        capsys.readouterr()
        assert main([*words, "--json", str(tmp_path / f"{number}.json")]) == 0
        assert "split held-out" in capsys.readouterr().err
        found.append(json.loads((tmp_path / f"{number}.json").read_text())["splits"]["held-out"])
    first, second, both = ({image["id"]: image for image in each["images"]} for each in found)
    assert (len(first), len(second)) == (2, 2)
    assert both.keys() == first.keys() | second.keys() == {"0", "1", "2", "3"}
    assert found[2]["num_images"] == 4
    for image, figures in both.items():
        alone = first.get(image) or second[image]
        assert {**figures, "seconds": 0} == {**alone, "seconds": 0}
