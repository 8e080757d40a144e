"""`import searcher`: what a notebook gets is what the command line does, and errors name Python's arguments."""

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from forks import common_folder
from new_database import new_database
from PIL import Image
from stored_study import StoredStudy
from trained_runs import folder_of, shared_runs

import searcher
from searcher.cli.main import main
from searcher.data_pipeline.exceptions import DataError
from searcher.exceptions import UserError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trials of one epoch, and images with labels; see `make_runs`."""
    return shared_runs(common_folder(tmp_path_factory))


@pytest.fixture
def study(trained, tmp_path, cache_dir, monkeypatch):
    """The study `s` in `searcher.db` here: trial 0 with a real network, trial 1 failed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEARCHER_DB", raising=False)
    with new_database("searcher.db") as database:
        stored = StoredStudy(database, tmp_path)
        number = stored.begin()
        stored.save(number, "best", (folder_of(trained, "plain") / "best.pt").read_bytes())
        stored.ledger.report(number, 1, {"object_dice": 0.25, "loss": 1.0})
        stored.ledger.report(number, 2, {"object_dice": 0.75, "loss": 0.5})
        stored.ledger.complete(number, 0.75, best_epoch=2, stop_reason="epochs")
        stored.ledger.fail(stored.begin(), "a loss was NaN", retry=False)
        yield stored


def test_importing_searcher_imports_nothing_heavy_and_every_name_is_there():
    code = """
import sys
import searcher
heavy = {"alembic", "matplotlib", "numpy", "optuna", "pandas", "ray", "sqlalchemy", "torch"} & sys.modules.keys()
assert not heavy, heavy
assert set(searcher.__all__) <= set(dir(searcher))
try:
    searcher.lunch
except AttributeError as error:
    assert "'lunch'" in str(error)
else:
    raise AssertionError
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", ""), ended.stderr
    for name in searcher.__all__:
        getattr(searcher, name)


def test_a_study_is_read_with_the_columns_of_optunas_table(study):
    result = searcher.load_study("s")
    table = result.trials
    assert isinstance(table, pd.DataFrame)
    assert list(table["number"]) == [0, 1]
    assert list(table["state"]) == ["COMPLETE", "FAIL"]
    assert table["value"][0] == 0.75
    assert np.isnan(table["value"][1])
    assert list(table["epochs"]) == [2, 0]
    assert list(table["reason"]) == ["epochs", "a loss was NaN"]
    params = study.database.trials("s")[0].params
    assert table["params_optimizer.lr"][0] == params["optimizer.lr"]
    assert (result.name, result.objective, result.direction, result.budget, result.num_done) == (
        "s", "object_dice", "maximize", 9, 1,
    )  # fmt: skip
    best = result.best
    assert (best.number, best.value, best.epoch, best.metrics["loss"]) == (0, 0.75, 2, 0.5)
    assert best.checkpoint == str(study.folder(0) / "best.pt")
    assert "searcher.db" not in repr(result), "nor an address, which may hold a password"


def test_without_pandas_trials_are_rows(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = searcher.load_study("s").trials
    assert [row["state"] for row in rows] == ["COMPLETE", "FAIL"]


def test_pictures_are_what_a_notebook_and_a_browser_show(study, tmp_path):
    picture = searcher.load_study("s").plot()
    assert picture._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"
    picture.save(tmp_path / "study.html")
    assert "</html>" in (tmp_path / "study.html").read_text()
    with pytest.raises(UserError, match=r"^plot .*study\.txt: must end in \.html or \.png"):
        picture.save(tmp_path / "study.txt")


def test_a_winner_is_exported_and_predicts_an_array_as_the_command_line_its_file(study, trained, tmp_path):
    bundle = searcher.load_study("s").export("winner", pixel_size_um=0.5)
    assert (bundle.name, bundle.channels, bundle.pixel_size_um) == ("s, trial 0", 3, 0.5)
    assert [each.path for each in exports(study)] == [str(tmp_path / "winner")]
    file = trained / "data" / "images" / "0.png"
    image = np.array(Image.open(file))
    for size_um in (None, 0.5, 0.25):
        options = [] if size_um is None else ["--pixel-size-um", str(size_um)]
        where = ["--to", f"out-{size_um}", "--outputs", "labels"]
        assert main(["predict", "winner", str(file), *where, *options]) == 0
        written = cv2.imread(f"out-{size_um}/0.labels.tif", cv2.IMREAD_UNCHANGED)
        labels, scores, classes = bundle.predict(image, pixel_size_um=size_um)
        assert (labels.dtype, labels.shape, scores.dtype) == (np.int32, (64, 64), np.float32)
        assert np.array_equal(labels, written)
        assert len(scores) == labels.max()
        assert ((scores >= 0) & (scores <= 1)).all()
        assert (classes.dtype, classes.tolist()) == (np.int32, [1] * len(scores))
    grey = image[:, :, 0]
    assert np.array_equal(
        bundle.predict(grey).labels, bundle.predict(np.repeat(grey[:, :, None], 3, axis=2)).labels
    )


def exports(study):
    from searcher.ledger.outcomes import exports

    return exports(study.database, "s")


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.zeros((4, 4, 3)), "float64[4, 4, 3]"),
        (np.zeros((4, 4), bool), "bool[4, 4]"),
        (np.zeros((2, 4, 4, 3), np.uint8), "uint8[2, 4, 4, 3]"),
        (np.zeros((0, 4, 3), np.uint8), "uint8[0, 4, 3]"),
        (np.zeros((4, 4, 4), np.uint8), "8 bit, 4 channels"),
        (np.zeros((4, 4, 3), np.uint16), "16 bit RGB"),
    ],
)
def test_an_array_that_is_no_image_is_refused_in_one_line(trained, tmp_path, image, got):
    bundle = searcher.load_bundle(exported(trained, tmp_path))
    with pytest.raises((UserError, DataError), match=r"^image: ") as error:
        bundle.predict(image)
    assert got in str(error.value)
    assert "\n" not in str(error.value)


def exported(trained, tmp_path):
    to = tmp_path / "bundle"
    assert main(["export", str(folder_of(trained, "plain")), "--to", str(to), "--pixel-size-um", "0.5"]) == 0
    return to


def test_evaluating_gives_the_command_lines_record(trained, tmp_path, cache_dir, capfd):
    bundle, file = exported(trained, tmp_path), tmp_path / "e.json"
    data = trained / "data"
    assert main(["evaluate", str(bundle), "--data", str(data), "--splits", "train", "--json", str(file)]) == 0
    capfd.readouterr()
    evaluation = searcher.evaluate(bundle, data, splits=["train"])
    assert capfd.readouterr() == ("", ""), "nothing is printed"
    theirs, ours = json.loads(file.read_text()), json.loads(json.dumps(evaluation.to_dict()))
    for record in (theirs, ours):
        for split in record["splits"].values():
            split.pop("seconds_per_image", None)
            for image in split["images"]:
                image.pop("seconds", None)
    assert ours == theirs
    again = searcher.evaluate(searcher.load_bundle(bundle), data, splits="train", progress=True)
    assert again.splits["train"].pooled == evaluation.splits["train"].pooled
    assert "predicting train [########################] 4/4" in capfd.readouterr().err
    with pytest.raises(UserError, match=r"^splits nowhere: must be splits of the data set"):
        searcher.evaluate(bundle, data, splits="nowhere")


def test_instance_metrics_of_a_pair_and_of_a_set_by_hand():
    truth = np.array([[1, 1, 0, 2, 2]])
    found = np.array([[3, 3, 0, 0, 0]])
    figures = searcher.metrics.instances(truth, found)
    assert figures == {"ap": 0.5, "ap50": 0.5, "ap75": 0.5, "pq": 2 / 3, "dq": 2 / 3, "sq": 1.0, "aji": 0.5}
    assert searcher.metrics.instances([truth, truth], [found, truth])["aji"] == 6 / 8
    with pytest.raises(searcher.UserError, match="image 0: truth and prediction must have the same shape"):
        searcher.metrics.instances(truth, found.T)


def test_official_metrics_of_a_pair_and_of_a_set_by_hand():
    """Truth: 8 px. Found: 4 of them, and one of 2 px elsewhere. Dice of the pair: 2 * 4 / (8 + 4)."""
    truth, found = np.zeros((8, 8), int), np.zeros((8, 8), int)
    truth[0, :8], found[0, :4], found[6, :2] = 3, 1, 2
    figures = searcher.metrics.official(truth, found)
    assert figures["f1"] == pytest.approx(2 * 0 / 3), "not more than half of the true object is covered"
    found[0, :5] = 1
    figures = searcher.metrics.official([truth, truth], [found, truth])
    assert figures["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 0))
    dice = 2 * 5 / 13
    of_truth = (8 * dice + 8 * 1) / 16
    of_found = (5 * dice + 2 * 0 + 8 * 1) / 15
    assert figures["object_dice"] == pytest.approx((of_truth + of_found) / 2)
    assert figures["pixel_dice"] == pytest.approx(2 * (5 + 8) / (16 + 15))
    mask = (truth > 0).astype(np.uint8)
    mask[4, 4:8] = 1
    assert searcher.metrics.official(mask, mask, relabel=True)["f1"] == 1.0


@pytest.mark.parametrize(
    ("truth", "prediction", "said"),
    [
        (np.zeros((4, 4)), np.zeros((4, 4), int), r"^truth: must be label maps, integer\[H, W\], got float64\[4, 4\]"),
        (np.zeros((4, 4), int), np.zeros((4, 4), bool), r"^prediction: must be label maps"),
        (np.zeros((4, 4), int), np.zeros((4, 5), int), r"^image 0: .*same shape"),
        (np.zeros((4, 4), int) - 1, np.zeros((4, 4), int), r"^image 0: "),
        ([], [], r"^prediction: must have as many label maps as truth, and at least one, got 0 for 0"),
        (np.zeros((2, 4, 4), int), np.zeros((4, 4), int), r"^prediction: must have as many"),
    ],
)  # fmt: skip
def test_what_is_no_label_map_is_refused(truth, prediction, said):
    with pytest.raises(UserError, match=said) as error:
        searcher.metrics.official(truth, prediction)
    assert "\n" not in str(error.value)


TINY = {
    "data.synthetic_images": 8, "data.synthetic_size_px": 64, "augment.crop_px": 64, "model.base_channels": 2,
    "model.depth": 2, "resources.pictures": 0, "data.num_threads": 0,
}  # fmt: skip


def test_a_trial_is_trained_quietly_and_says_where_it_lies(tmp_path, cache_dir, capfd):
    trained = searcher.train("unet-demo", epochs=1, storage=tmp_path / "runs", set=TINY)
    assert capfd.readouterr() == ("", "")
    assert list(trained.epochs) == [1]
    assert trained.checkpoint.is_file()
    assert trained.best_value == trained.epochs[1]["object_dice"]
    assert trained.params["optimizer.name"] == "adamw"
    searcher.train("unet-demo", epochs=1, storage=tmp_path / "runs", set=TINY, progress=True)
    assert "unet-demo [########################] 1/1 epochs, object_dice " in capfd.readouterr().err


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: searcher.launch("unet-dome"), r"^study unet-dome: must be a shipped study .* did you mean unet-demo"),
        (lambda: searcher.launch("unet-demo", trials=0), r"^trials: must be a whole number of at least 1, got 0"),
        (lambda: searcher.launch("unet-demo", epochs=True), r"^epochs: must be a whole number .* got True"),
        (lambda: searcher.launch("unet-demo", set={"model.dept": 3}), r"model\.dept"),
        (lambda: searcher.launch("unet-demo", labels_are="masks"), r"^labels_are: must be one of .* got 'masks'"),
        (lambda: searcher.launch("unet-demo", patient_from="P"), r"^patient_from: must have one group"),
        (lambda: searcher.launch("unet-demo", resample_um=-1), r"^resample_um: must be a number of micrometres"),
        (lambda: searcher.launch("unet-demo", db="x://y/z"), r"^db "),
        (lambda: searcher.launch("unet-demo", storage=__file__), r"^storage .*: must be a folder, got the file"),
        (lambda: searcher.launch("unet-demo", address="ray://h:1"), r"^address ray://h:1: must be the head's"),
        (lambda: searcher.launch("unet-demo", data="nowhere"), r"nowhere"),
        (lambda: searcher.train("unet-demo", storage="s3://b/f"), r"^storage: must be a folder for a single trial"),
        (lambda: searcher.load_study("s", db="none.db"), r"^db .*none\.db: the database must exist"),
        (lambda: searcher.open_dataset("nowhere"), r"nowhere"),
        (lambda: searcher.load_bundle("nowhere"), r"^nowhere: must be a bundle"),
        (lambda: searcher.load_bundle("x", normalisation="none"), r"^normalisation: must be one of bundle, fixed"),
        (lambda: searcher.evaluate([], "nowhere"), r"^networks: must be a bundle or checkpoints, got none"),
    ],
)  # fmt: skip
def test_bad_arguments_are_one_line_in_the_words_of_python(
    tmp_path, cache_dir, monkeypatch, capfd, call, said
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEARCHER_DB", raising=False)
    with pytest.raises((UserError, DataError), match=said) as error:
        call()
    assert not str(error.value).count("\n")
    assert "--" not in str(error.value).replace("searcher launch --detach", "")
    assert capfd.readouterr() == ("", "")
    assert not [*tmp_path.glob("searcher.db*"), *tmp_path.glob("runs")], "nothing is half-written"


def test_every_verb_is_a_function_or_docs_python_says_why_not():
    """`result.trials`, `.best`, `.plot`, `.export` and `bundle.predict_files` belong to what they are about."""
    from searcher.cli.main import _parser

    parser = _parser()
    verbs = next(action for action in parser._actions if getattr(action, "choices", None)).choices
    page = (Path(__file__).resolve().parents[3] / "docs" / "python.md").read_text()
    table = page.partition("## Verbs and functions")[2].partition("\n## ")[0]
    told = {row.split("`")[1].split()[0] for row in table.splitlines() if row.startswith("| `")}
    assert told == set(verbs)
    named = re.findall(r"`searcher\.(\w+)\(", table)
    assert set(named) <= set(searcher.__all__)
    assert {name for name in searcher.__all__ if name.islower()} - {"metrics", "__version__"} <= {*named}


def test_a_databases_studies_their_logs_and_what_can_go(study, tmp_path, capfd):
    assert searcher.list_studies() == ["s"]
    with pytest.raises(
        UserError, match=r"^study s: must have a log, got none at .*launch\.log; it never began"
    ):
        searcher.logs("s")
    with pytest.raises(UserError, match=r"^trial 7: must be a trial of s; see its trials"):
        searcher.logs("s", trial=7)
    (study.folder(0) / "trial.log").write_text("one\ntwo\x1b[31m\nthree\n")
    assert searcher.logs("s", trial=0) == "one\ntwo\\x1b[31m\nthree\n"
    assert searcher.logs("s", trial=0, lines=1) == "three\n"
    with pytest.raises(UserError, match=r"^lines: must be a whole number of at least 1, got 0; leave it out"):
        searcher.logs("s", trial=0, lines=0)

    assert main(["gc", "--dry-run", "--json", "--keep", "1"]) == 0
    told = json.loads(capfd.readouterr().out)
    [freed] = searcher.gc(dry_run=True, keep=1)
    assert [json.loads(json.dumps(freed.to_dict())) | {"dry_run": True}] == told
    assert main(["doctor", "--json"]) in (0, 1)
    told = json.loads(capfd.readouterr().out)
    assert [finding.to_dict() for finding in searcher.doctor()] == told
    with pytest.raises(UserError, match=r"^study s: must be running to be stopped; it was never launched"):
        searcher.stop("s")
    with pytest.raises(UserError, match=r"^timeout_s: must be a number of seconds, 0 or more, got -1;"):
        searcher.stop("s", timeout_s=-1)
    with pytest.raises(UserError, match=r"^write x\.txt: must end in \.toml"):
        searcher.refine("s", write="x.txt")
    assert main(["refine", "s", "--json"]) == 0
    assert searcher.refine("s", write="narrow.toml") == json.loads(capfd.readouterr().out)
    assert 'study = "s"' in Path("narrow.toml").read_text()
    assert capfd.readouterr() == ("", ""), "nothing is printed"


def test_stopping_a_launch_gives_how_it_ended(study, monkeypatch):
    from searcher.api import stopping
    from searcher.ledger.lease import Lease

    monkeypatch.setattr("searcher.ledger.lease.LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(stopping, "_POLL_S", 0.02)
    asked = threading.Event()
    begun = threading.Event()

    def drive() -> None:
        with Lease.acquire(study.database, "s") as lease:
            lease.on_stop(asked.set)
            begun.set()
            asked.wait(60)
            lease.ends_as("interrupted")

    driver = threading.Thread(target=drive)
    driver.start()
    assert begun.wait(60)
    ended = searcher.stop("s", timeout_s=60)
    driver.join()
    assert (ended.study, ended.outcome, ended.num_done, ended.budget) == ("s", "interrupted", 1, 9)


def test_data_sets_are_drawn_inspected_imported_and_planned_as_by_the_command_line(
    tmp_path, cache_dir, capfd
):
    source = searcher.draw_dataset(tmp_path / "glands", images=4, test_images=1, size_px=64, seed=3)
    assert [sample.split for sample in source.samples] == ["train"] * 4 + ["testA"]
    assert main(["data", "inspect", "--data", str(tmp_path / "glands"), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert json.loads(json.dumps(searcher.inspect_dataset(tmp_path / "glands").to_dict())) == told
    report = searcher.import_dataset(tmp_path / "glands", tmp_path / "folder")
    assert (report.num_images, report.left_out) == (5, ())
    assert sorted(path.stem for path in (tmp_path / "folder" / "images").iterdir()) == sorted(
        sample.id for sample in source.samples
    )
    assert main(["plan", "--data", str(tmp_path / "glands"), "--json"]) == 0
    plan = searcher.plan(tmp_path / "glands")
    assert plan.text == json.loads(capfd.readouterr().out)["study"]
    assert capfd.readouterr() == ("", ""), "nothing is printed"
    with pytest.raises(UserError, match=r"^size_px: must be a whole number of at least 1, got 0;"):
        searcher.draw_dataset(tmp_path / "none", size_px=0)
    with pytest.raises(DataError, match=r"glands: must be a new or empty folder"):
        searcher.draw_dataset(tmp_path / "glands")


def test_files_are_predicted_as_by_the_command_line(trained, tmp_path, capfd, caplog):
    bundle = exported(trained, tmp_path)
    capfd.readouterr()
    images = trained / "data" / "images"
    theirs = ("predict", str(bundle), str(images), "--to", str(tmp_path / "theirs"), "--json")
    assert main([*theirs, "--outputs", "labels,csv"]) == 0
    told = json.loads(capfd.readouterr().out)["images"]
    loaded = searcher.load_bundle(bundle)
    found = loaded.predict_files(images, tmp_path / "ours", outputs=["labels", "csv"])
    for each, other in zip(found, told, strict=True):
        assert each.to_dict() | {"seconds": 0} == other | {"seconds": 0}
    assert {path.name for path in (tmp_path / "ours").iterdir()} == {
        path.name for path in (tmp_path / "theirs").iterdir()
    }
    (tmp_path / "broken.png").write_bytes(b"no image")
    [failed] = loaded.predict_files([tmp_path / "broken.png"], tmp_path / "broken", progress=True)
    assert failed.reason in caplog.text
    assert "images [########################] 1/1" in capfd.readouterr().err
    assert (
        loaded.predict_files(images, tmp_path / "ours", outputs=["labels", "csv"], skip_existing=True) == []
    )
    with pytest.raises(
        UserError, match=r"^to .*ours: must hold no outputs of the images yet.* with skip_existing"
    ):
        loaded.predict_files(images, tmp_path / "ours")
    with pytest.raises(
        UserError, match=r"^outputs label: must be of labels, overlay, csv, geojson, got label"
    ):
        loaded.predict_files(images, tmp_path / "ours", outputs="label")
    with pytest.raises(UserError, match=r"^pixel_size_um 5000: must be from"):
        loaded.predict_files(images, tmp_path / "ours", pixel_size_um=5000)
