"""Figures of the report as SVG with the page's colours, so they are light or dark like the page.

Matplotlib draws in stand-in colours; `to_svg` puts the page's CSS variables in their place. The same data give the same
bytes.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from searcher.report.model import ReportMember, SplitReport
from searcher.report.words import metric_words

__all__ = ["count_scatter", "dice_distribution", "training_curves"]

_INK, _RULE, _PAPER = "#010101", "#020202", "#030303"
_SERIES = ("#040401", "#040402", "#040403", "#040404", "#040405")
_PAGE_COLOURS = {
    _INK: "var(--ink-soft)",
    _RULE: "var(--rule)",
    _PAPER: "var(--paper)",
    **{colour: f"var(--series-{n})" for n, colour in enumerate(_SERIES, start=1)},
}
_MARKERS = ("o", "^", "s", "D", "v")
_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx")
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_SETTINGS: Any = {  # Matplotlib types its keys one by one
    "svg.fonttype": "none",  # text stays text: it can be read aloud, found and copied
    "svg.hashsalt": "searcher",
    "text.parse_math": False,  # a name with two dollar signs is no formula
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.5,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "hatch.linewidth": 0.6,
    "lines.linewidth": 1.6,
}
_SIZE_IN = (4.6, 3.1)


def dice_distribution(split: SplitReport) -> str:
    """Return a histogram of the images' object Dice as SVG, with the strata stacked and the mean as a line."""
    with matplotlib.rc_context(_SETTINGS):
        figure, axes = _new_figure()
        groups = _by_stratum(split)
        values = [[image["object_dice"] for image in images] for images in groups.values()]
        edges = np.linspace(0, 1, 21)
        bottom = np.zeros(len(edges) - 1)
        for number, (name, found) in enumerate(zip(groups, values, strict=True)):
            heights, _ = np.histogram(np.clip(found, 0, 1), bins=edges)
            axes.bar(
                edges[:-1],
                heights,
                width=np.diff(edges),
                bottom=bottom,
                align="edge",
                label=_legend(name, len(found)),
                color=_SERIES[number % len(_SERIES)],
                edgecolor=_PAPER,
                hatch=_HATCHES[number % len(_HATCHES)],
                linewidth=0.8,
            )
            bottom += heights
        mean = split.summary["mean"]["object_dice"]
        axes.axvline(mean, color=_INK, linewidth=1.2, linestyle=(0, (4, 2)), label=f"mean {mean:.3f}")
        lowest = min(min(found) for found in values)
        axes.set_xlim(max(0.0, math.floor(lowest * 10 - 0.5) / 10), 1.0)
        axes.set_xlabel("object Dice of an image")
        axes.set_ylabel("images")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="x", visible=False)
        _legend_above(figure)
        return _to_svg(figure, f"dice-{split.name}")


def count_scatter(split: SplitReport) -> str:
    """Return a scatter plot of the predicted against the true number of objects in each image, as SVG."""
    with matplotlib.rc_context(_SETTINGS):
        figure, axes = _new_figure()
        images = split.summary["images"]
        most = max(1, *(max(image["num_true"], image["num_predicted"]) for image in images))
        upto = most * 1.06 + 0.5
        axes.plot([0, upto], [0, upto], color=_INK, linewidth=1, linestyle=(0, (4, 2)), label="as many")
        for number, (name, found) in enumerate(_by_stratum(split).items()):
            axes.plot(
                [image["num_true"] for image in found],
                [image["num_predicted"] for image in found],
                linestyle="none",
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=5.5,
                alpha=0.75,
                color=_SERIES[number % len(_SERIES)],
                markeredgecolor=_PAPER,
                markeredgewidth=0.6,
                label=_legend(name, len(found)),
            )
        axes.set(
            xlim=(0, upto), ylim=(0, upto), xlabel="true objects in an image", ylabel="predicted objects"
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        _legend_above(figure)
        return _to_svg(figure, f"counts-{split.name}")


def training_curves(members: Sequence[ReportMember]) -> dict[str, str]:
    """Return curves of the loss and of the objective over the epochs as SVG, by name.

    Args:
        members: The networks; those without a history are not drawn. Without any history, the result is empty.
    """
    drawn = [(number, member) for number, member in enumerate(members) if member.history]
    if not drawn:
        return {}
    curves = {}
    objective = drawn[0][1].objective
    kinds = {"loss": ("train_loss", "loss"), objective: (objective,)}
    for name, metrics in kinds.items():
        if not any(_points(member, metric) for _, member in drawn for metric in metrics):
            continue
        with matplotlib.rc_context(_SETTINGS):
            figure, axes = _new_figure()
            for number, member in drawn:
                _draw_member(axes, member, number, metrics, alone=len(members) == 1)
            axes.set_xlabel("epoch")
            axes.set_ylabel(metric_words(name))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            _legend_above(figure)
            curves[name] = _to_svg(figure, f"training-{name}")
    return curves


def _draw_member(
    axes: Axes, member: ReportMember, number: int, metrics: Sequence[str], *, alone: bool
) -> None:
    whose = "" if alone else f"network {number + 1}, "
    for metric in metrics:
        points = _points(member, metric)
        if points is None:
            continue
        epochs, values = points
        colour = number if not alone else metrics.index(metric)
        axes.plot(
            epochs,
            values,
            color=_SERIES[colour % len(_SERIES)],
            linestyle="-" if metric != "train_loss" else "--",
            marker="o" if len(epochs) < 2 else "",
            markersize=4,
            label=f"{whose}{'training' if metric == 'train_loss' else 'validation'}",
        )
        if metric == member.objective and member.epoch in epochs:
            at = epochs.index(member.epoch)
            axes.plot(
                [member.epoch],
                [values[at]],
                color=_SERIES[colour % len(_SERIES)],
                markeredgecolor=_PAPER,
                linestyle="none",
                marker="o",
                markersize=8,
                label="epoch used" if alone else "_",
            )


def _points(member: ReportMember, metric: str) -> tuple[tuple[int, ...], tuple[float, ...]] | None:
    """Return epochs and finite values of a metric, None if there are none."""
    found = {
        epoch: value
        for epoch, of in sorted(member.history.items())
        if math.isfinite(value := of.get(metric, math.nan))
    }
    return (tuple(found), tuple(found.values())) if found else None


def _by_stratum(split: SplitReport) -> dict[str, list[Mapping[str, Any]]]:
    """Return the images of each stratum, in the order of the names, those of an unknown one last."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    images = split.summary["images"]
    for image in sorted(images, key=lambda image: (not image["stratum"], image["stratum"])):
        groups.setdefault(image["stratum"], []).append(image)
    return groups


def _legend(stratum: str, count: int) -> str:
    return f"{stratum or 'images'} ({count})"


def _legend_above(figure: Figure) -> None:
    """Name what is drawn, above the axes, where nothing is drawn."""
    [axes] = figure.axes
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, borderaxespad=0.2, columnspacing=1.4)


def _new_figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE_IN, layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    return figure, axes


def _to_svg(figure: Figure, prefix: str) -> str:
    """Return the drawing as an element to stand in a page.

    Args:
        figure: Drawn in the stand-in colours.
        prefix: Of all its ids, so that those of several drawings do not meet in one page.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    prefix = re.sub(r"[^\w-]", "-", prefix)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(
        r'(?<=: )#0[1-4]0[1-4]0[1-5]\b|(?<==")#0[1-4]0[1-4]0[1-5]\b',
        lambda found: _PAGE_COLOURS[found[0]],
        svg,
    )
    svg = re.sub(r"font-family: [^;\"]*; ", "", svg)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, count=1, flags=re.DOTALL)
    size = re.compile(r'(<svg[^>]*?) (?:width|height)="[^"]*"')
    return size.sub(r"\1", size.sub(r"\1", svg, 1), 1)
