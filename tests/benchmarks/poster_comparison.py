"""The poster's 50 broad trials beside those of a study of ours, by the poster's own yardstick.

    searcher launch --study unet-broad --data GLAS
    searcher trials --study unet-broad --json > ours.json
    python tests/benchmarks/poster_comparison.py ours.json

Prints a Markdown table. The yardstick is the validation binary cross-entropy in nats per pixel at each trial's best
epoch; ln 2 = 0.6931 is what a network has that says one half everywhere. Trials of ours that were trained without
cross-entropy have none and are counted apart.
"""

import argparse
import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

POSTER = Path(__file__).parents[2] / "docs" / "poster_unet_trials.csv"
CHANCE = 0.6931


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trials", type=Path, help="what `searcher trials --json` printed")
    ours = json.loads(parser.parse_args().trials.read_text())
    with POSTER.open(newline="") as file:
        poster = [(float(row["val_bce"]), int(row["epochs"])) for row in csv.DictReader(file)]
    done = [trial for trial in ours if trial["state"] in ("COMPLETE", "PRUNED")]
    measured = [(value, len(trial["epochs"])) for trial in done if (value := _lowest(trial)) is not None]
    print("| | the poster's broad search | ours |\n|---|---:|---:|")
    for name, of_poster, of_ours in zip(_ROWS, _figures(poster), _figures(measured), strict=True):
        print(f"| {name} | {of_poster} | {of_ours} |")
    print(f"\n{len(done) - len(measured)} of our {len(done)} trials were trained without cross-entropy.")
    values = [trial["value"] for trial in done if trial["state"] == "COMPLETE"]
    if values:
        print(f"Our best trial has a value of {max(values):.3f}.")


_ROWS = (
    "trials",
    "epochs in all",
    "lowest cross-entropy",
    "median",
    "highest",
    f"trials below {CHANCE - 0.01:.3f}, clearly better than saying nothing",
)


def _figures(trials: Sequence[tuple[float, int]]) -> list[str]:
    values = [value for value, _ in trials]
    return [
        str(len(trials)),
        str(sum(epochs for _, epochs in trials)),
        f"{min(values):.4f}",
        f"{statistics.median(values):.4f}",
        f"{max(values):.4f}",
        str(sum(value < CHANCE - 0.01 for value in values)),
    ]


def _lowest(trial: Mapping[str, Any]) -> float | None:
    """Return a trial's lowest validation cross-entropy, None if it was trained without."""
    terms = str(trial["params"].get("model.loss", "bce")).split("+")
    if "bce" not in terms:
        return None
    key = "loss_bce" if len(terms) > 1 else "loss"
    values = [metrics[key] for metrics in trial["epochs"].values() if metrics.get(key) is not None]
    return min(values, default=None)


if __name__ == "__main__":
    main()
