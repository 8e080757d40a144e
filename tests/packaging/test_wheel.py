"""The wheel, installed in a fresh environment outside the repository, brings one package, with all its files."""

import json
import sqlite3
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from installed import refused, run

ROOT = Path(__file__).resolve().parents[2]
LINKED = ("models", "data_pipeline", "studies")
EXAMPLE = ROOT / "examples" / "attention_unet"

pytestmark = pytest.mark.packaging


def test_the_wheel_is_one_package_with_every_source_file_and_nothing_else(wheel):
    tracked = run("git", "ls-files", "searcher", *LINKED, cwd=ROOT).split()
    inside = {f"searcher/{name}" if name.startswith(LINKED) else name for name in tracked}
    with zipfile.ZipFile(wheel) as archive:
        packed = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert sorted(packed) == sorted(inside - {f"searcher/{name}" for name in LINKED})


def test_the_installed_command_runs_the_installed_package(environment, tmp_path):
    for package in ("searcher", *(f"searcher.{name}" for name in LINKED)):
        place = run(environment / "python", "-c", f"import {package} as p; print(p.__file__)", cwd=tmp_path)
        assert Path(place.strip()).is_relative_to(environment.parent / "lib"), place
    assert "unet-demo" in run(environment / "searcher", "studies", cwd=tmp_path)
    assert "valid" in run(environment / "searcher", "validate", "unet-broad", cwd=tmp_path)


def test_a_script_beside_packages_of_the_same_names_imports_ours(environment, foreign_packages):
    script = foreign_packages / "script.py"
    script.write_text(
        "import searcher.study.catalog, searcher.data_pipeline, searcher.models.registry\n"
        "from searcher.models.settings import PostprocessSettings, UNetSettings\n"
        "model = searcher.models.registry.build_model(UNetSettings(base_channels=2), PostprocessSettings())\n"
        "print(type(model).__name__)\n"
    )
    assert run(environment / "python", script, cwd=foreign_packages).strip() == "UNet"


@pytest.fixture(scope="module")
def with_example(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment with the example of a plug-in installed beside the wheel, and a study of it that was launched."""
    folder = tmp_path_factory.mktemp("example")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, EXAMPLE, cwd=folder)
    [built] = folder.glob("attention_unet-*.whl")
    run(environment / "python", "-m", "pip", "install", "--quiet", "--no-deps", built, cwd=folder)
    (folder / "study.toml").write_text((EXAMPLE / "study.toml").read_text())
    (folder / "archives").mkdir()
    rng = np.random.default_rng(0)
    masks = np.zeros((8, 64, 64), np.uint16)
    masks[:, 8:30, 10:34], masks[:, 40:56, 36:60] = 1, 2
    images = rng.integers(0, 60, (*masks.shape, 3)) + np.where(masks > 0, 90, 190)[..., None]
    patients = np.array([f"p{number // 2}" for number in range(8)])
    np.savez(
        folder / "archives" / "train.npz", images=images.astype(np.uint8), masks=masks, patients=patients
    )
    launch = ("launch", "--study", "study.toml", "--data", "archives", "--db", "study.db")
    run(environment / "searcher", *launch, cwd=folder)
    return folder


def test_an_installed_plugin_is_listed_searched_exported_and_predicts(environment, with_example):
    searcher, db = environment / "searcher", ("--db", "study.db")
    listed = json.loads(run(searcher, "plugins", "--json", cwd=with_example))
    theirs = {(each["key"], each["name"]) for each in listed if each["origin"] == "attention-unet 1.0"}
    assert theirs == {
        ("model.name", "attention_unet"),
        ("model.loss", "tversky"),
        ("data layout", "archives"),
        ("search.sampler", "latin_hypercube"),
    }
    trials = json.loads(run(searcher, "trials", "--study", "attention-demo", *db, "--json", cwd=with_example))
    assert [trial["state"] for trial in trials] == ["COMPLETE", "COMPLETE"], trials
    alphas = [trial["params"]["model.options.tversky.alpha"] for trial in trials]
    assert {"model.gate_fraction", "model.loss", "model.options.tversky.alpha"} == {*trials[0]["params"]}
    assert sorted(alpha >= 0.3 for alpha in alphas) == [False, True], "one in each half of 0.1 to 0.5"
    study_of = sqlite3.connect(with_example / "study.db")
    [(source,)] = study_of.execute("select data_source from searcher_studies")
    study_of.close()
    assert source == str(with_example / "archives")

    run(searcher, "export", "--study", "attention-demo", *db, "--to", "bundle", cwd=with_example)
    manifest = json.loads((with_example / "bundle" / "bundle.json").read_text())
    [needed] = manifest["plugins"]
    assert (needed["name"], needed["version"]) == ("attention-unet", "1.0")
    assert {"model.name=attention_unet"} < {*needed["parts"]}
    assert manifest["members"][0]["config"]["model"]["options"]["tversky"]["alpha"] in alphas
    assert manifest["data"]["name"] == "archives"
    run(searcher, "data", "draw", "--to", "drawn", cwd=with_example)
    image = str(min((with_example / "drawn").rglob("*.png")))
    run(searcher, "predict", "bundle", image, "--to", "predicted", cwd=with_example)
    assert any((with_example / "predicted").iterdir())


def test_without_its_plugin_a_bundle_is_one_line(environment, with_example):
    searcher = environment / "searcher"
    export = ("export", "--study", "attention-demo", "--db", "study.db", "--to", "alone")
    run(searcher, *export, cwd=with_example)
    run(searcher, "data", "draw", "--to", "others", "--images", 2, "--test-images", 1, cwd=with_example)
    image = min((with_example / "others").rglob("*.png"))
    uninstall = ("-m", "pip", "uninstall", "--quiet", "--yes", "attention-unet")
    run(environment / "python", *uninstall, cwd=with_example)
    line = refused(searcher, "predict", "alone", image, "--to", "none", cwd=with_example)
    assert line.startswith("alone: must have its plug-in attention-unet 1.0, got none that knows model.")
    assert line.endswith("; install it, or give --plugin FILE")
