"""What a method reached, in the terminal: the tables of `searcher evaluate` and `searcher metrics`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from searcher.cli.tables import FittingTable, table
from searcher.cli.terminal import console, metric

if TYPE_CHECKING:
    from searcher.evaluation.bootstrap import Interval
    from searcher.evaluation.class_metrics import ClassSummary
    from searcher.evaluation.summary import Estimate, Summary

__all__ = ["print_summaries"]

_SHOWN = ("f1", "object_dice", "object_hausdorff", "pixel_dice")
_OF_INSTANCES = {"ap50": "AP50", "ap": "AP", "pq": "PQ", "aji": "AJI"}


def print_summaries(summaries: "Mapping[str, Summary]", *, with_poster: bool) -> None:
    """Print the metrics of each set of images as a table, with remarks on them.

    Args:
        summaries: The summaries by the sets' names. Intervals are shown in brackets.
        with_poster: Whether to show the DTU poster's metrics, which are for GlaS.
    """
    shown_keys = _shown(summaries)
    rows: list[tuple[object, ...]] = []
    for name, of in summaries.items():
        for how, what, values in (("pooled", "pooled", of.pooled), ("mean", "mean over images", of.mean)):
            ends = of.intervals[how]
            rows.append(
                (name, of.num_images, what, *(_with_interval(values[key], ends[key]) for key in shown_keys))
            )
        for stratum, within in of.strata.items():
            shown = [metric(within.pooled[key]) for key in shown_keys]
            rows.append((name, within.num_images, f"{stratum}, pooled", *shown))
        if with_poster and of.poster is not None:
            shown = [metric(of.poster[key]) for key in _SHOWN[:3]]
            rows.append((name, of.num_images, "poster's own metrics", *shown, *[""] * (len(shown_keys) - 3)))
    columns = [
        "images of",
        ">images",
        "figures",
        ">F1",
        ">object Dice",
        ">object Hausdorff, px",
        ">pixel Dice",
        *(f">{key}" for key in shown_keys[len(_SHOWN) :]),
    ]
    console.print(table(columns, rows))
    console.print(_of_instances(summaries))
    for name, of in summaries.items():
        if of.classes is not None:
            console.print(_of_classes(name, of.classes))
            console.print(_confusion(name, of.classes))
    for name, of in summaries.items():
        for line in _remarks(of):
            console.print(f"{name}: {line}", markup=False, soft_wrap=True)


def _of_instances(summaries: "Mapping[str, Summary]") -> "FittingTable":
    """Return the table of the metrics of cells and nuclei."""
    rows: list[tuple[object, ...]] = []
    for name, of in summaries.items():
        for how, what, values in (("pooled", "pooled", of.pooled), ("mean", "mean over images", of.mean)):
            ends = of.intervals[how]
            shown = [_with_interval(values[key], ends[key]) for key in _OF_INSTANCES]
            rows.append((name, of.num_images, what, *shown))
        for stratum, within in of.strata.items():
            shown = [metric(within.pooled[key]) for key in _OF_INSTANCES]
            rows.append((name, within.num_images, f"{stratum}, pooled", *shown))
    return table(
        ["images of", ">images", "figures", *(f">{label}" for label in _OF_INSTANCES.values())], rows
    )


def _of_classes(name: str, of: "ClassSummary") -> "FittingTable":
    """Return the table of the metrics of classes."""

    def shown(key: str) -> str:
        return _with_interval(of.pooled[key], of.intervals[key])

    counts = of.confusion
    rows = [
        (each, int(counts[number].sum()), shown(f"f1/{each}"), shown(f"pq/{each}"), "")
        for number, each in enumerate(of.names)
    ]
    rows.append(("all", int(counts[:-1].sum()), "", shown("mpq"), shown("class_accuracy")))
    columns = [f"class, {name}", ">true objects", ">F1", ">PQ", ">class right"]
    return table(columns, rows)


def _confusion(name: str, of: "ClassSummary") -> "FittingTable":
    """Return the table of true classes (rows) and predicted classes (columns)."""
    labels = [*of.names, "nothing there"]
    rows = [(label, *map(int, of.confusion[number])) for number, label in enumerate(labels)]
    return table([f"is, {name}", *(f">found as {each}" for each in of.names), ">missed"], rows)


def _shown(summaries: "Mapping[str, Summary]") -> tuple[str, ...]:
    """Return the official metrics, and those of plug-ins behind them."""
    found = [
        key
        for of in summaries.values()
        for key in of.pooled
        if key not in _SHOWN and key not in _OF_INSTANCES
    ]
    return (*_SHOWN, *dict.fromkeys(found))


def _remarks(of: "Summary") -> list[str]:
    num_true = sum(image.num_true for image in of.images)
    num_predicted = sum(image.num_predicted for image in of.images)
    counts = ", ".join(
        f"{label} {_of_estimate(of.counts[key])}"
        for key, label in (("ratio", "ratio"), ("mae", "MAE"), ("bias", "bias"), ("r2", "R2"))
    )
    lines = [f"{num_predicted} objects found of {num_true}; counts by image: {counts}"]
    if of.num_touched_by_empty_rule:
        lines.append(
            f"{of.num_touched_by_empty_rule} of {of.num_images} images have no object on one side and "
            "go by our rule: F1 and Dice 0, Hausdorff the diagonal; 1, 1 and 0 where both are empty"
        )
    if of.seconds_per_image is not None:
        lines.append(f"predicting took {of.seconds_per_image['median']:.3g} s per image (median)")
    return lines


def _of_estimate(estimate: "Estimate") -> str:
    return (
        "undefined"
        if estimate.value is None
        else _with_interval(estimate.value, (estimate.low, estimate.high))
    )


def _with_interval(value: float, ends: "Interval") -> str:
    low, high = ends
    return (
        metric(value) if low is None or high is None else f"{metric(value)} [{metric(low)}, {metric(high)}]"
    )
