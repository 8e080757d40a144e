"""`searcher predict`: from a bundle and images to outputs; broken images, interruptions, what is there already."""

import csv
import json
import os
import pkgutil
import shutil
import signal

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from trained_runs import folder_of

from searcher.bundle.load import load_bundle
from searcher.claims import claimed
from searcher.cli.main import main
from searcher.data_pipeline.datasets import SyntheticGlands
from searcher.data_pipeline.normalisation import Normalisation, levels_of

ENDINGS = (".labels.tif", ".overlay.png", ".objects.csv", ".geojson")


@pytest.fixture(scope="module")
def bundle(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict") / "bundle"
    export = ["export", str(folder_of(trained, "plain")), "--to", str(folder), "--pixel-size-um", "0.5"]
    assert main([*export, "--name", "small"]) == 0
    return folder


@pytest.fixture
def images(tmp_path):
    source = SyntheticGlands(num_images=3, size_px=96, seed=5)
    (tmp_path / "images").mkdir()
    for index, name in enumerate(("a.png", "b.jpg", "c.tif")):
        Image.fromarray(source.read(index)[0]).save(tmp_path / "images" / name)
    return tmp_path / "images"


def predict(bundle, *arguments):
    return main(["predict", str(bundle), *map(str, arguments)])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def rows(folder):
    with (folder / "predictions.csv").open(newline="") as file:
        return [row["image"] for row in csv.DictReader(file)]


def test_a_folder_of_images(bundle, images, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert predict(bundle, images, "--to", out) == 0
    assert names(out) == sorted([f"{stem}{end}" for stem in "abc" for end in ENDINGS] + ["predictions.csv"])
    shown = capsys.readouterr().out
    assert f"3 images predicted with small: {out}" in shown
    assert "the pixel size of 3 images is not known: they were taken as they are" in shown
    predictor = load_bundle(bundle).predictor(device=torch.device("cpu"))
    image = np.asarray(Image.open(images / "a.png"))
    labels = tifffile.imread(out / "a.labels.tif")
    np.testing.assert_array_equal(labels, predictor.cut(predictor.see(image)).labels)
    with (out / "predictions.csv").open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["a.png", "b.jpg", "c.tif"]
    assert int(rows["a.png"]["objects"]) == labels.max()
    assert int(rows["a.png"]["area_px"]) == (labels > 0).sum()


def test_a_dark_image_is_brightened_for_a_bundle_from_before_normalisation_alone(
    bundle, images, tmp_path, capsys
):
    """The same image at a quarter of the exposure; at 8 bit, a quarter of the values is left."""
    image = np.asarray(Image.open(images / "a.png"))
    Image.fromarray((255 - image) // 4).save(images / "dark.png")
    assert predict(bundle, images / "dark.png", "--to", tmp_path / "new", "--outputs", "labels") == 0
    assert "small takes images as they are" in capsys.readouterr().err
    old = tmp_path / "bundle"
    shutil.copytree(bundle, old)
    manifest = json.loads((old / "bundle.json").read_text())
    for key in ("normalisation", "channels", "dtype"):
        del manifest[key]
    for member in manifest["members"]:
        for key in ("normalisation", "low_percentile", "high_percentile"):
            member["config"]["data"].pop(key, None)
    (old / "bundle.json").write_text(json.dumps(manifest))
    assert predict(old, images / "dark.png", "--to", tmp_path / "old", "--outputs", "labels") == 0
    assert (
        "dark.png: dark, 99.8% of the pixels are below 64 of 255; brightened, since"
        in capsys.readouterr().err
    )
    brightened = levels_of((255 - image) // 4, Normalisation(brightens_dark=True)).apply((255 - image) // 4)
    predictor = load_bundle(old).predictor(device=torch.device("cpu"))
    expected = predictor.cut(predictor.see(brightened)).labels
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "old" / "dark.labels.tif"), expected)
    as_it_is = ["--to", tmp_path / "fixed", "--outputs", "labels", "--normalisation", "fixed"]
    assert predict(old, images / "dark.png", *as_it_is) == 0
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "fixed" / "dark.labels.tif"),
        tifffile.imread(tmp_path / "new" / "dark.labels.tif"),
    )


def test_the_pixel_size_is_honoured_and_said(bundle, images, tmp_path, capsys):
    assert predict(bundle, images / "a.png", "--to", tmp_path / "o", "--pixel-size-um", "0.25", "--json") == 0
    [image] = json.loads(capsys.readouterr().out)["images"]
    assert (image["pixel_size_um"], image["scale"]) == (0.25, 0.5)
    assert tifffile.imread(tmp_path / "o" / "a.labels.tif").shape == (96, 96)
    with (tmp_path / "o" / "a.objects.csv").open() as file:
        row = next(csv.DictReader(file))
    assert float(row["area_um2"]) == pytest.approx(int(row["area_px"]) / 16)


def test_broken_images_are_named_and_the_others_done(bundle, images, tmp_path, capsys):
    (images / "bad.png").write_bytes(b"no image")
    (images / "cut.tif").write_bytes((images / "c.tif").read_bytes()[:5000])
    assert predict(bundle, images, "--to", tmp_path / "o", "--outputs", "csv,labels") == 1
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == [str(images / "bad.png"), str(images / "cut.tif")]
    assert lines[2] == "2 of 5 images could not be predicted, see above"
    assert "3 images predicted" in shown.out
    assert len(names(tmp_path / "o")) == 2 * 3 + 1


def test_going_on_and_doing_again(bundle, images, tmp_path, capsys):
    out = tmp_path / "o"
    assert predict(bundle, images / "a.png", "--to", out) == 0
    before = (out / "a.labels.tif").stat().st_mtime_ns
    assert predict(bundle, images, "--to", out) == 2
    assert (
        "got those of a.png; go on with --skip-existing, or replace them with --force"
        in capsys.readouterr().err
    )
    (out / "b.geojson").write_text("only one of the four")
    assert predict(bundle, images, "--to", out, "--skip-existing", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in record["images"]] == ["b.jpg", "c.tif"]
    assert record["skipped"] == 1
    assert (out / "a.labels.tif").stat().st_mtime_ns == before
    assert len((out / "predictions.csv").read_text().splitlines()) == 4, (
        "all three images, whenever they were done"
    )
    assert predict(bundle, images, "--to", out, "--force") == 0
    assert (out / "a.labels.tif").stat().st_mtime_ns != before


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (
            ["images/none.png", "--to", "o"],
            "images/none.png: must be an image or a folder of images, got nothing",
        ),
        (["empty", "--to", "o"], "empty: must hold images, got none directly in it"),
        (
            ["images", "twin/a.bmp", "--to", "o"],
            "twin/a.bmp: images must have different names without extension",
        ),
        (["images", "--to", "images"], "--to images: must not be a folder of images to predict"),
        (["images", "--to", "file"], "--to file: must be a folder, got a file"),
        (
            ["images", "--to", "o", "--outputs", "labels,maps"],
            "--outputs labels,maps: must be of labels, overlay, csv",
        ),
        (["images", "--to", "o", "--pixel-size-um", "0"], "--pixel-size-um: must be"),
        (
            ["images", "--to", "o", "--pixel-size-um", "1e9"],
            "--pixel-size-um 1e+09: must be from 0.001 to 1000",
        ),
        (["images", "--to", "x" * 300], "must be a folder that can be written: File name too long"),
        (["x" * 300, "--to", "o"], "must be an image or a folder of images"),
        (["images", "--to", "file/o"], "--to file/o: must be a folder that can be written: Not a directory"),
        (["images", "--to", "o", "--force", "--skip-existing"], "not allowed with"),
    ],
)
def test_bad_input_is_said_in_one_line_before_anything_is_written(
    bundle, images, tmp_path, monkeypatch, capsys, arguments, what
):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "twin"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "twin" / "a.bmp")
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    try:
        code = predict(bundle, *arguments)
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    error = capsys.readouterr().err
    assert what in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_no_bundle(images, tmp_path, capsys):
    assert predict(images, images / "a.png", "--to", tmp_path / "o") == 2
    assert "must be a bundle" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("where", "num_whole"),
    [
        ("searcher.inference.predictor.Predictor.see_tile", 1),
        ("searcher.prediction.file_prediction.write_overlay", 1),
        ("searcher.prediction.outputs._move", 2),  # all was complete: it comes to its place, but has no row
    ],
)
def test_an_interruption_leaves_whole_files_only_and_can_be_continued(
    bundle, images, tmp_path, monkeypatch, capsys, number, where, num_whole
):
    module, _, name = where.rpartition(".")
    real, calls = pkgutil.resolve_name(where), iter(range(100))

    def interrupted(*args, **kwargs):
        if next(calls) == 1:
            signal.raise_signal(number)
        return real(*args, **kwargs)

    out, before = tmp_path / "o", signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(pkgutil.resolve_name(module), name, interrupted)
        assert predict(bundle, images, "--to", out) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert {each for each in names(out) if each[0] in "abc"} == {
        f"{stem}{end}" for stem in "abc"[:num_whole] for end in ENDINGS
    }
    assert rows(out) == ["a.png"]
    assert not [each for each in names(out) if "partial" in each or "tmp" in each]
    assert signal.getsignal(signal.SIGTERM) is before
    assert predict(bundle, images, "--to", out, "--skip-existing") == 0
    assert "2 images predicted with small, 1 left out" in capsys.readouterr().out
    assert rows(out) == ["a.png", "b.jpg", "c.tif"]
    assert len(names(out)) == 3 * 4 + 1


def test_rows_are_written_as_images_are_done(bundle, images, tmp_path, monkeypatch, capsys):
    """What SIGKILL would leave: the rows before the image that is being predicted."""
    out = tmp_path / "o"
    monkeypatch.setattr("searcher.api.predictions_table._WRITTEN_EVERY_S", 0.0)
    real, seen = pkgutil.resolve_name("searcher.prediction.file_prediction.predict_image"), []

    def watched(path, *args):
        seen.append(rows(out) if (out / "predictions.csv").exists() else None)
        return real(path, *args)

    monkeypatch.setattr("searcher.prediction.file_prediction.predict_image", watched)
    assert predict(bundle, images, "--to", out) == 0
    assert seen == [None, ["a.png"], ["a.png", "b.jpg"]]
    seen.clear()
    assert predict(bundle, images / "b.jpg", images / "a.png", "--to", out, "--force") == 0
    assert seen == [["c.tif"], ["b.jpg", "c.tif"]], "rows of outputs that are being replaced are gone"
    capsys.readouterr()


def test_whole_outputs_without_a_row_are_predicted_again(bundle, images, tmp_path, capsys):
    out = tmp_path / "o"
    assert predict(bundle, images / "a.png", "--to", out) == 0
    shown = capsys.readouterr().out
    assert f"1 image predicted with small: {out}" in shown
    assert "the pixel size of 1 image is not known: it was taken as it is" in shown
    (out / "predictions.csv").unlink()
    assert predict(bundle, images / "a.png", "--to", out, "--skip-existing") == 0
    assert rows(out) == ["a.png"]
    assert predict(bundle, images / "a.png", "--to", out, "--skip-existing") == 0
    assert "0 images predicted with small, 1 left out" in capsys.readouterr().out


def test_names_that_file_systems_allow(bundle, images, tmp_path, capsys):
    """254 bytes leave no room for endings; 243 do, if little. Old archives have names that are no UTF-8."""
    content = (images / "a.png").read_bytes()
    kept = ["=1+1.png", "x" * 239 + ".png", "M\udcfcller.png", "two\nlines.png", "u\u0308.png", "[red].png"]
    for name in (*kept, "y" * 250 + ".png"):
        (images / name).write_bytes(content)
    out = tmp_path / "o"
    assert predict(bundle, images, "--to", out) == 1
    shown = capsys.readouterr().err
    assert "outputs must be files of the same name" in shown
    assert "got File name too long; give it a shorter name" in shown
    assert "1 of 10 images could not be predicted" in shown
    assert {f"{name.removesuffix('.png')}.labels.tif" for name in kept} <= {*names(out)}
    written = rows(out)
    assert {"'=1+1.png", "M\\udcfcller.png", "two\nlines.png"} <= {*written}
    assert predict(bundle, images, "--to", out, "--skip-existing", "--json") == 1
    again = json.loads(capsys.readouterr().out)
    assert (again["images"], again["skipped"]) == ([], 9)
    assert rows(out) == written


def test_one_process_at_a_time_in_a_folder_and_a_killed_ones_claim_is_none(bundle, images, tmp_path, capsys):
    out = tmp_path / "o"
    out.mkdir()
    with claimed(out, "here"):
        assert predict(bundle, images, "--to", out) == 2
        assert f"--to {out}: must be written by one process at a time, got" in capsys.readouterr().err
        assert names(out) == [".in-use"]
    (out / ".in-use").write_text(f"{os.getpid()} here")
    assert predict(bundle, images / "a.png", "--to", out) == 0
    assert ".in-use" not in names(out)


def test_a_table_that_is_none_is_kept_aside_and_said(bundle, images, tmp_path, capsys):
    out = tmp_path / "o"
    out.mkdir()
    (out / "predictions.csv").write_text("my notes")
    assert predict(bundle, images / "a.png", "--to", out) == 0
    said = capsys.readouterr().err
    assert "it is kept as predictions.csv.kept-1, and a new table is begun" in said
    assert (out / "predictions.csv.kept-1").read_text() == "my notes"
    assert rows(out) == ["a.png"]


def test_an_image_that_an_output_would_replace(bundle, images, tmp_path, capsys):
    labels = images / "a.labels.tif"
    labels.write_bytes((images / "c.tif").read_bytes())
    for how in ("--force", "--skip-existing"):
        assert predict(bundle, images / "a.png", labels, "--to", images, how) == 2
        assert "got a.labels.tif, which a.png would; choose another folder" in capsys.readouterr().err
    assert labels.read_bytes() == (images / "c.tif").read_bytes()


def test_what_was_predicted_is_measured_as_evaluate_does(bundle, trained, tmp_path, cache_dir, capsys):
    data, out = trained / "data", tmp_path / "out"
    assert (
        main(
            ["evaluate", str(bundle), "--data", str(data), "--splits", "train", "--json", str(tmp_path / "e")]
        )
        == 0
    )
    assert predict(bundle, data / "images", "--to", out) == 0
    measure = [
        "metrics",
        "--truth",
        str(data / "labels"),
        "--prediction",
        str(out),
        "--json",
        str(tmp_path / "m"),
    ]
    assert main(measure) == 0
    evaluated = json.loads((tmp_path / "e").read_text())["splits"]["train"]
    measured = json.loads((tmp_path / "m").read_text())
    for key in ("pooled", "mean", "counts"):
        assert measured[key] == evaluated[key]
    capsys.readouterr()


def test_an_unforeseen_error_of_an_image_leaves_its_traceback_in_a_report(
    bundle, images, tmp_path, monkeypatch, capsys
):
    from searcher.prediction import file_prediction as prediction

    def fails(path, *_):
        raise ZeroDivisionError(f"in {path.name}")

    monkeypatch.setattr(prediction, "predict_image", fails)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert predict(bundle, images, "--to", tmp_path / "o") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    [report] = tmp_path.glob("searcher-error-*.txt")  # one for all errors of a kind
    assert [str(report) in line for line in lines] == [True, False, False, False]
    assert "in fails" in report.read_text()
