"""Pictures of a study as one PNG."""

import io
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from searcher.report.study import (
    ABSENT,
    BEST_COLOUR,
    COMPLETE_COLOUR,
    OTHER_COLOUR,
    PRUNED_COLOUR,
    StudyPicture,
    TriedTrial,
    colour_of,
    parallel_axes,
    running_best,
)
from searcher.report.words import key_leaf, metric_words

__all__ = ["study_png"]

_DPI = 110
_PANEL_IN = (7.2, 4.6)
_SETTINGS: Any = {  # Matplotlib types its keys one by one
    "text.parse_math": False,  # a name with two dollar signs is no formula
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "figure.facecolor": "white",
}


def study_png(picture: StudyPicture) -> bytes:
    """Return all pictures of a study as one PNG."""
    panels = picture.panels
    with matplotlib.rc_context(_SETTINGS):
        rows = (len(panels) + 1) // 2
        figure = Figure(figsize=(2 * _PANEL_IN[0], rows * _PANEL_IN[1] + 0.5), layout="constrained")
        figure.suptitle(picture.title, fontsize=14, fontweight="bold", x=0.01, ha="left", wrap=True)
        for number, (title, absence) in enumerate(panels.items(), start=1):
            axes = figure.add_subplot(rows, 2, number)
            axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
            if absence is None:
                _DRAWN[title](axes, picture)
            else:
                axes.set_axis_off()
                axes.text(0.0, 0.9, absence, transform=axes.transAxes, va="top", wrap=True, color="#444444")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
        return buffer.getvalue()


def _draw_history(axes: Axes, picture: StudyPicture) -> None:
    for trials, label, face in (
        (picture.complete, "COMPLETE", COMPLETE_COLOUR),
        (picture.pruned, "PRUNED, last value", "none"),
    ):
        edge = COMPLETE_COLOUR if face != "none" else PRUNED_COLOUR
        if trials:
            axes.plot(
                [each.number for each in trials],
                [each.value for each in trials],  # type: ignore[arg-type]  # neither list has one without
                linestyle="none",
                marker="o",
                markersize=6,
                markerfacecolor=face,
                markeredgecolor=edge,
                label=label,
                zorder=3,
            )
    best = running_best(picture)
    if best:
        axes.step(
            *zip(*best, strict=True), where="post", color=BEST_COLOUR, linewidth=1.6, label="best so far"
        )
    _whole_numbers(axes)
    axes.set(xlabel="trial", ylabel=picture.objective)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, fontsize=8.5, borderaxespad=0.3)


def _draw_importances(axes: Axes, picture: StudyPicture) -> None:
    shares = sorted(picture.importances.items(), key=lambda item: item[1])
    bars = axes.barh(
        [name for name, _ in shares], [share for _, share in shares], color=COMPLETE_COLOUR, height=0.65
    )
    axes.bar_label(bars, fmt="%.2f", padding=4)
    axes.set(
        xlim=(0, max(0.05, *(share for _, share in shares)) * 1.15), xlabel="share (PED-ANOVA, best quarter)"
    )
    axes.grid(axis="y", visible=False)


def _draw_parallel(axes: Axes, picture: StudyPicture) -> None:
    lines = parallel_axes(picture)
    places = range(len(lines.axes))
    for trial in lines.trials:
        heights = [axis.positions[trial.number] for axis in lines.axes]
        if trial.state == "PRUNED":
            style: dict[str, Any] = {"color": PRUNED_COLOUR, "alpha": 0.35, "linewidth": 0.9}
        elif trial.number == picture.best:
            style = {"color": BEST_COLOUR, "linewidth": 2.6, "zorder": 4}
        else:
            style = {
                "color": colour_of(lines.goodness[trial.number]),
                "alpha": 0.8,
                "linewidth": 1.3,
                "zorder": 3,
            }
        axes.plot(places, heights, **style)
    for place, axis in zip(places, lines.axes, strict=True):
        axes.axvline(place, color="#888888", linewidth=0.8, zorder=2)
        for height, label in axis.ticks:
            axes.annotate(
                label,
                (place, height),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=7.5,
                va="center",
                zorder=5,
                bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
            )
    axes.set_xticks(list(places), [key_leaf(axis.name) for axis in lines.axes], rotation=20, ha="right")
    axes.set(xlim=(-0.15, len(lines.axes) - 0.55), ylim=(ABSENT - 0.05, 1.06))
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)


def _draw_curves(axes: Axes, picture: StudyPicture) -> None:
    for trial in picture.trials:
        if trial.curve and trial.number != picture.best:
            alpha = 0.35 if trial.state != "COMPLETE" else 0.85
            colour = PRUNED_COLOUR if trial.state != "COMPLETE" else OTHER_COLOUR
            _draw_curve(axes, trial, color=colour, alpha=alpha, linewidth=1.2)
    for trial in picture.trials:
        if trial.curve and trial.number == picture.best:
            _draw_curve(
                axes, trial, color=BEST_COLOUR, linewidth=2.4, label=f"trial {trial.number}, the best"
            )
    for label, colour in (("COMPLETE", OTHER_COLOUR), ("PRUNED or unfinished", PRUNED_COLOUR)):
        axes.plot([], [], color=colour, label=label)
    _whole_numbers(axes)
    axes.set(xlabel="epoch", ylabel=picture.objective)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, fontsize=8.5, borderaxespad=0.3)


def _draw_curve(axes: Axes, trial: TriedTrial, **style: Any) -> None:
    marker = "o" if len(trial.curve) == 1 else ""
    axes.plot(list(trial.curve), list(trial.curve.values()), marker=marker, markersize=4, **style)


def _draw_front(axes: Axes, picture: StudyPicture) -> None:
    for trials, label, colour, line in (
        (picture.complete, "COMPLETE", COMPLETE_COLOUR, "none"),
        (picture.front, "no other is better in all", BEST_COLOUR, "-"),
    ):
        points = [each.values for each in trials if len(each.values) > 1]
        first, second = [point[0] for point in points], [point[1] for point in points]
        axes.plot(first, second, linestyle=line, marker="o", color=colour, label=label)
    axes.set(xlabel=metric_words(picture.objectives[0]), ylabel=metric_words(picture.objectives[1]))
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, fontsize=8.5, borderaxespad=0.3)


def _whole_numbers(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


_DRAWN: dict[str, Callable[[Axes, StudyPicture], None]] = {
    "Optimisation history": _draw_history,
    "Parameter importances": _draw_importances,
    "Parallel coordinates": _draw_parallel,
    "Learning curves": _draw_curves,
    "Compromises between the objectives": _draw_front,
}
