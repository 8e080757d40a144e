"""`searcher export`: from a study or checkpoints to a bundle that evaluates alike."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from trained_runs import SETTINGS, folder_of

from searcher.bundle.load import load_bundle
from searcher.cli.main import main
from searcher.training import checkpoint_tuning
from searcher.training.checkpoints import load_checkpoint, save_checkpoint


@pytest.fixture(autouse=True)
def _with_a_cache(cache_dir):
    """Stores go where the session keeps them."""


def evaluated(trained, tmp_path, *arguments):
    where = ["--data", str(trained / "data"), "--splits", "train", "--json", str(tmp_path / "e.json")]
    assert main(["evaluate", *map(str, arguments), *where]) == 0
    return json.loads((tmp_path / "e.json").read_text())


def figures(record):
    split = record["splits"]["train"]
    return split["pooled"], split["mean"], record["postprocess"], record["tta"]


def test_a_bundle_of_folds_reaches_what_its_checkpoints_do(trained, tmp_path, capsys):
    runs = [folder_of(trained, name) for name in ("plain", "tta")]
    to = tmp_path / "both"
    assert (
        main(["export", *map(str, runs), "--to", str(to), "--name", "both folds", "--pixel-size-um", "0.5"])
        == 0
    )
    assert "both folds, 2 networks, averaged" in capsys.readouterr().out
    assert figures(evaluated(trained, tmp_path, to)) == figures(evaluated(trained, tmp_path, *runs))
    bundle = load_bundle(to)
    assert (bundle.name, bundle.pixel_size_um, bundle.manifest.data.licence[:10]) == (
        "both folds",
        0.5,
        "not stated",
    )
    assert bundle.members[0].facts.history[1]["object_dice"] > 0, "from the run's own history"
    assert {"learning-curve-1.png", "learning-curve-2.png"} <= bundle.manifest.files.keys()
    assert "example.jpg" not in bundle.manifest.files, "nobody said that tissue may be shown"


def test_the_winner_of_a_study_is_exported_and_the_database_knows(trained, stored_study, tmp_path, capsys):
    numbers = []
    for name, value in (("plain", 0.7), ("tta", 0.9)):
        number = stored_study.begin()
        stored_study.save(number, "best", (folder_of(trained, name) / "best.pt").read_bytes())
        stored_study.ledger.report(number, 1, {"object_dice": value})
        stored_study.ledger.complete(number, value, best_epoch=1, stop_reason="epochs")
        numbers.append(number)
    assert main(["export", "--study", "s", "--to", "winner"]) == 0
    assert main(["export", "--study", "s", "--trial", str(numbers[0]), "--to", "other"]) == 0
    winner, other = load_bundle(tmp_path / "winner"), load_bundle(tmp_path / "other")
    assert [each.members[0].facts.trial for each in (winner, other)] == [numbers[1], numbers[0]]
    assert winner.members[0].facts.history == {1: {"object_dice": 0.9}}
    assert winner.members[0].facts.params == stored_study.database.trials("s")[numbers[1]].params
    assert winner.manifest.data.name == "synthetic glands"
    for name in ("example.jpg", "learning-curve.png"):
        assert f"]({name})" in (tmp_path / "winner" / "README.md").read_text()
        Image.open(tmp_path / "winner" / name).load()
    evaluated(trained, tmp_path, "--study", "s")
    capsys.readouterr()
    assert main(["best", "--study", "s", "--json"]) == 0
    best = json.loads(capsys.readouterr().out)
    assert [each["path"] for each in best["exports"]] == [str(tmp_path / "winner")]
    assert best["exports"][0]["sha256"] == winner.manifest_sha256
    [written] = best["evaluations"]
    assert (written["split"], written["metrics"]["num_images"], written["metrics"]["trials"]) == (
        "train",
        4,
        [numbers[1]],
    )
    assert main(["best", "--study", "s"]) == 0
    shown = capsys.readouterr().out
    assert f"exported: {tmp_path / 'winner'}" in shown
    assert "evaluated on train of" in shown
    stored_study.complete(0.95)
    assert main(["gc", "--study", "s", "--keep", "1"]) == 0
    kept = {
        trial.number
        for trial in stored_study.database.trials("s")
        if not trial.checkpoints["best"].is_removed
    }
    assert {*numbers} <= kept, "what was exported is kept"


def test_the_lineage_travels_with_the_bundle(trained, stored_study, tmp_path):
    from stored_study import RERANK, StoredStudy

    for _ in range(6):
        stored_study.complete(0.5)
    (tmp_path / "again").mkdir()
    again = StoredStudy(stored_study.database, tmp_path / "again", text=RERANK)
    again.ledger.enqueue(again.spec.enqueue)
    number = again.begin()
    again.save(number, "best", (folder_of(trained, "plain") / "best.pt").read_bytes())
    again.ledger.complete(number, 0.9, best_epoch=1, stop_reason="epochs")
    assert main(["export", "--study", "again", "--to", "b"]) == 0
    [before] = load_bundle(tmp_path / "b").members[0].facts.lineage
    assert (before.study, before.how) == ("s", "rerank")
    assert "rerank of `s`" in (tmp_path / "b" / "README.md").read_text()


def test_networks_are_tuned_together_on_what_each_was_validated_on(trained, stored_study, tmp_path, capsys):
    number = stored_study.begin()
    stored_study.save(number, "best", (folder_of(trained, "plain") / "best.pt").read_bytes())
    stored_study.ledger.report(number, 1, {"object_dice": 0.7})
    stored_study.ledger.complete(number, 0.7, best_epoch=1, stop_reason="epochs")
    assert main(["export", "--study", "s", "--to", "tuned", "--tune"]) == 0
    before = load_checkpoint(folder_of(trained, "plain") / "best.pt")[0].tuned
    said = " ".join(capsys.readouterr().out.split())
    assert f"tuned on {before['num_images']} validation images: {before['metric']}" in said
    [member] = load_bundle(tmp_path / "tuned").members
    assert member.network.tuned.to_dict() == before == member.facts.tuned, (
        "alone it is tuned as after training"
    )
    runs = [str(folder_of(trained, name)) for name in ("plain", "tta")]
    assert main(["export", *runs, "--to", "both", "--tune"]) == 2
    assert "--tune: must have the training data, got none at hand; add --data DIR" in capsys.readouterr().err
    assert not (tmp_path / "both").exists()


def test_what_cannot_be_averaged_is_refused_before_minutes_of_tuning(trained, tmp_path, capsys, monkeypatch):
    data, runs = str(trained / "data"), []
    for head in ("binary", "contour"):
        settings = [
            *SETTINGS,
            "data.val_fraction=0.5",
            "tuning.postprocess=false",
            "model.loss=ce",
            f"model.head={head}",
        ]
        options = [part for setting in settings for part in ("--set", setting)]
        train = [
            "train",
            "--study",
            "unet-demo",
            "--epochs",
            "1",
            "--data",
            data,
            "--storage",
            str(tmp_path / head),
        ]
        assert main([*train, *options]) == 0
        runs.append(str(folder_of(tmp_path, head)))
    monkeypatch.setattr(checkpoint_tuning, "tune_together", None)
    capsys.readouterr()
    assert main(["export", *runs, "--to", str(tmp_path / "b"), "--tune", "--data", data]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "an ensemble needs models whose maps say the same" in line
    assert not (tmp_path / "b").exists()


def foreign_checkpoint(run, tmp_path):
    """A checkpoint whose weights are those of another network than its configuration says."""
    checkpoint, _ = load_checkpoint(Path(run) / "best.pt")
    config = checkpoint.config | {"model": checkpoint.config["model"] | {"base_channels": 4}}
    return save_checkpoint(dataclasses.replace(checkpoint, config=config), tmp_path / "foreign.pt").path


def test_a_checkpoint_named_from_where_it_lies_keeps_its_name(trained, tmp_path, monkeypatch):
    run = folder_of(trained, "plain")
    monkeypatch.chdir(run)
    assert main(["export", "best.pt", "--to", str(tmp_path / "b")]) == 0
    assert load_bundle(tmp_path / "b").name == f"unet-demo/{run.name}"
    assert main(["export", ".", "--to", str(tmp_path / "b"), "--force", "--name", "again"]) == 0
    assert load_bundle(tmp_path / "b").name == "again"


def test_onnx_is_compared_on_what_the_command_line_gives_and_the_card_shows_it(trained, tmp_path, capsys):
    example = trained / "data" / "images" / "0.png"
    to = tmp_path / "b"
    onnx = ["--onnx", "--onnx-size", "64", "--example", str(example)]
    assert main(["export", str(folder_of(trained, "plain")), "--to", str(to), *onnx]) == 0
    facts = load_bundle(to).manifest.onnx
    assert facts.compared_on == ("random pixels", "0.png")
    assert 0 < facts.max_difference < 1e-4
    assert "model.onnx: differs from PyTorch by at most" in capsys.readouterr().out
    assert "](example.jpg)" in (to / "README.md").read_text()
    [maps] = onnxruntime.InferenceSession(to / "model.onnx").run(
        None, {"images": np.asarray(Image.open(example))[None]}
    )
    assert maps.shape[2:] == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "must be given either files or --study NAME, got neither"),
        (["{run}", "--study", "s"], "got both"),
        (["{run}", "--trial", "1"], "--trial: must be given with --study"),
        (["nothing"], "nothing: must be a bundle, a checkpoint or a trial's folder"),
        (["{run}/config.json"], "must be a whole checkpoint"),
        (["{run}", "--data", "nowhere"], "nowhere: the data folder must exist"),
        (["--study", "s", "--trial", "77"], "--trial 77: must be a trial of s, which has 1"),
        (["--study", "s", "--trial", "0"], "sha256 must be"),
        (["{run}", "--to", "no/such/folder"], "its folder must exist"),
        (["{run}", "--as", "help"], "--as: must be one of bundle, onnx, got 'help'; choose one of them"),
        (["{run}", "--as", "onnx", "--as", "onnx"], "--as: must name formats, each once"),
        (["{run}", "--pixel-size-um", "0"], "must be a number above 0"),
        (["{run}", "--name", "x" * 201], "--name: must have at most 200 characters, got 201"),
        (["{run}", "--data", "{other}"], "must be what the networks were trained on, got other images"),
        (["{run}", "--db", "postgresql://u:pw@h/d"], "--db: must be given with --study"),
        (["{foreign}"], "its weights must fit this version of searcher"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(trained, stored_study, tmp_path, capsys, arguments, word):
    number = stored_study.complete(0.5)
    (stored_study.folder(number) / "best.pt").write_bytes(b"damaged")
    run = str(folder_of(trained, "plain"))
    named = {"run": run, "other": str(trained / "data"), "foreign": str(foreign_checkpoint(run, tmp_path))}
    before = sorted(tmp_path.iterdir())
    to = [] if "--to" in arguments else ["--to", "b"]
    try:
        code = main(["export", *(each.format(**named) for each in arguments), *to])
    except SystemExit as error:
        code = error.code
    assert code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert word in lines[0]
    assert sorted(tmp_path.iterdir()) == before
