"""What correcting the least certain images brings, on synthetic glands: review, correct, import, train on, measure.

    python tests/benchmarks/review_round_trip.py --seeds 0 1 2

A network is trained on a few images. The images of another laboratory are darker and redder. `searcher review` ranks
them. The first ones are corrected: in their region the objects are the true ones. `searcher data import` takes them
back, `searcher plan --from` plans, and the network is trained on with both. A seed takes a minute of one core. Printed:
pixel Dice, object F1 and object Dice on further images of the other laboratory, before and after.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image

import searcher
from searcher.cli.main import main as command
from searcher.data_pipeline.datasets import SyntheticGlands
from searcher.study.objectives import OFFICIAL

SIZE_PX, NUM_FIRST, NUM_NEW, NUM_TEST, NUM_CORRECTED = 160, 6, 10, 8, 6
METRICS = ("pixel_dice", "object_f1", "object_dice")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6, help="of each of the two trainings")
    args = parser.parse_args()
    gains: dict[str, list[float]] = {name: [] for name in METRICS}
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            before, after = round_trip(Path(folder), seed, args.epochs)
        for name in METRICS:
            gains[name].append(after[name] - before[name])
            print(f"seed {seed}: {name} {before[name]:.3f} before, {after[name]:.3f} after")
    for name, values in gains.items():
        print(f"mean gain of {name}: {fmean(values):+.3f}")


def round_trip(root: Path, seed: int, epochs: int) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Return the metrics on the test images before and after the correction."""
    glands = SyntheticGlands(
        num_images=NUM_FIRST + NUM_NEW, size_px=SIZE_PX, seed=seed, num_test_images=NUM_TEST
    )
    write(glands, range(NUM_FIRST), root / "first", is_other=False)
    write(glands, range(NUM_FIRST, NUM_FIRST + NUM_NEW), root / "new", is_other=True)
    write(glands, range(NUM_FIRST + NUM_NEW, NUM_FIRST + NUM_NEW + NUM_TEST), root / "test", is_other=True)
    settings = {"data.val_fraction": 0.34, "data.samples_per_epoch": 96, "study.name": "first"}
    run = searcher.train("unet-demo", data=root / "first", storage=root / "runs", epochs=epochs, set=settings)
    bundle = export(run.run_dir, root / "bundle")
    ranked = searcher.review(bundle, root / "new" / "images", root / "review", top=NUM_CORRECTED)
    for each in ranked[:NUM_CORRECTED]:
        labels = np.array(Image.open(root / "new" / "labels" / each.path.name), np.int32)
        correct(root / "review" / "geojson" / each.geojson, labels)
    searcher.import_dataset(root / "review", root / "corrected")
    for kind in ("images", "labels"):  # with the first images, so that nothing is forgotten
        (root / "both" / kind).mkdir(parents=True)
        for source in ("first", "corrected"):
            for path in (root / source / kind).iterdir():
                shutil.copy(path, root / "both" / kind / f"{source}-{path.name}")
    plan = searcher.plan(root / "both", from_bundle=bundle, name="more")
    (root / "more.toml").write_text(plan.text)
    changes = {"data.samples_per_epoch": 96, "optimizer.lr": 1e-3}
    more = searcher.train(
        root / "more.toml", data=root / "both", storage=root / "runs", epochs=epochs, set=changes
    )
    better = export(more.run_dir, root / "better")
    return measured(bundle, root / "test"), measured(better, root / "test")


def write(glands: SyntheticGlands, indices: range, folder: Path, *, is_other: bool) -> None:
    """Write images with label maps; those of the other laboratory are darker and redder."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number, index in enumerate(indices):
        image, labels = glands.read(index)
        if is_other:
            image = (image * np.array([0.85, 0.55, 0.6])).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        Image.fromarray(labels.astype(np.uint16)).save(folder / "labels" / f"{number}.png")


def correct(file: Path, labels: NDArray[np.int32]) -> None:
    """Put the true objects in the place of those that were found."""
    region = json.loads(file.read_text())["features"][0]
    drawn = []
    for value in np.unique(labels[labels > 0]):
        pixels = [shapely.box(x, y, x + 1, y + 1) for y, x in np.argwhere(labels == value)]
        geometry = json.loads(shapely.to_geojson(shapely.union_all(pixels)))
        drawn.append({"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation"}})
    file.write_text(json.dumps({"type": "FeatureCollection", "features": [region, *drawn]}))


def export(run: Path, to: Path) -> Path:
    """Return a bundle of a trial."""
    assert command(["export", str(run), "--to", str(to)]) == 0
    return to


def measured(bundle: Path, data: Path) -> dict[str, float]:
    """Return the metrics of a bundle on all images of a data set."""
    figures = searcher.evaluate(bundle, data, splits="train").splits["train"].pooled
    return {name: float(figures[OFFICIAL[name]]) for name in METRICS}


if __name__ == "__main__":
    main()
