"""16 bit images of two channels from a folder to objects, by the command line, at any exposure."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from searcher.cli.main import main
from searcher.training.checkpoints import load_checkpoint

SIZE = 96
SHARE = 0.01
"""Part of the pixels whose label may differ between two exposures: values are whole numbers, so levels are rounded."""


def nuclei(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return uint16[2, H, W], dim nuclei in the first channel and a haze in the second, and their label map."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    labels = np.zeros((SIZE, SIZE), np.uint16)
    image = rng.normal(900, 60, (2, SIZE, SIZE))
    for number, place in enumerate(rng.permutation(16)[:7], start=1):
        centre = np.array(divmod(int(place), 4)) * 24 + 12 + rng.uniform(-3, 3, 2)
        inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < rng.uniform(36, 81)
        labels[inside] = number
        image[0][inside] += rng.uniform(5000, 9000)
        image[1][inside] += 500
    return image.clip(0, 65535).astype(np.uint16), labels


def write(path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(path, image, photometric="minisblack", metadata={"axes": "CYX"})


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, a training of one epoch on it, and its bundle."""
    root = tmp_path_factory.mktemp("channels")
    for name in ("data/images", "data/labels", "new", "quarter"):
        (root / name).mkdir(parents=True)
    for number in range(6):
        image, labels = nuclei(number)
        write(root / "data" / "images" / f"P{number}_a.tif", image)
        Image.fromarray(labels).save(root / "data" / "labels" / f"P{number}_a.png")
    image, _ = nuclei(99)
    write(root / "new" / "a.tif", image)
    write(root / "quarter" / "a.tif", image // 4)
    (root / "tiny.toml").write_text(
        '[study]\nname = "tiny"\nobjective = "pixel_dice"\n'
        "[data]\nsamples_per_epoch = 64\nnum_threads = 1\n[augment]\ncrop_px = 48\n"
        '[model]\nname = "unet"\nbase_channels = 8\ndepth = 2\nnorm = "group"\n'
        '[optimizer]\nname = "adamw"\nlr = 0.01\n[train]\nepochs = 2\nbatch_size = 4\n'
    )
    return root


def test_from_a_folder_to_objects_at_two_exposures(
    at_work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEARCHER_CACHE", str(at_work / "cache"))
    data, runs = str(at_work / "data"), str(at_work / "runs")
    assert main(["data", "inspect", "--data", data, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["channels"], report["dtype"]) == (["channel 1", "channel 2"], "uint16")
    assert main(["train", "--study", str(at_work / "tiny.toml"), "--data", data, "--storage", runs]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "normalisation is percentile 1 to 99.8, since images have 16 bit; 2 channels" in said
    [run] = (at_work / "runs" / "tiny").glob("train-*")
    checkpoint, _ = load_checkpoint(run / "best.pt")
    assert checkpoint.config["data"]["normalisation"] == "percentile"
    assert (checkpoint.config["model"]["channels"], checkpoint.dtype) == (2, "uint16")
    bundle = str(at_work / "bundle")
    assert main(["export", str(run), "--to", bundle]) == 0
    maps = {}
    for folder in ("new", "quarter"):
        out = at_work / f"{folder}-out"
        assert main(["predict", bundle, str(at_work / folder), "--to", str(out), "--outputs", "labels"]) == 0
        maps[folder] = tifffile.imread(out / "a.labels.tif")
    truth = nuclei(99)[1]
    overlap = ((maps["new"] > 0) & (truth > 0)).sum() / ((maps["new"] > 0) | (truth > 0)).sum()
    assert overlap > 0.5, "a network that finds nothing would be equal at every exposure"
    assert (maps["new"] != maps["quarter"]).mean() <= SHARE
