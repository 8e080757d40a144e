"""Pictures of a study as a page to explore. Plotly is inside the page, so that it opens without a network."""

from collections.abc import Callable
from html import escape
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from searcher.escaping import one_line
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
from searcher.report.templates import templates
from searcher.report.words import capital, key_leaf, metric_words

__all__ = ["study_page"]


def study_page(picture: StudyPicture) -> str:
    """Return a web page with all pictures of a study; pointing at a trial shows its number."""
    panels = [
        (title, absence, None if absence else Markup(_div(_TRACED[title](picture), f"panel-{number}")))
        for number, (title, absence) in enumerate(picture.panels.items(), start=1)
    ]
    page = templates().get_template("study.html.jinja")
    return page.render(picture=picture, panels=panels, plotly=Markup(get_plotlyjs()))


def _trace_history(picture: StudyPicture) -> go.Figure:
    figure = _figure("trial", picture.objective)
    for trials, label, symbol in (
        (picture.pruned, "PRUNED, last value", "circle-open"),
        (picture.complete, "COMPLETE", "circle"),
    ):
        if trials:
            figure.add_scatter(
                x=[each.number for each in trials],
                y=[each.value for each in trials],
                mode="markers",
                name=label,
                marker={
                    "symbol": symbol,
                    "size": 9,
                    "color": COMPLETE_COLOUR if symbol == "circle" else PRUNED_COLOUR,
                },
                text=[_about(each) for each in trials],
                hovertemplate="%{text}<extra></extra>",
            )
    best = running_best(picture)
    if best:
        figure.add_scatter(
            x=[number for number, _ in best],
            y=[value for _, value in best],
            mode="lines",
            name="best so far",
            line={"shape": "hv", "color": BEST_COLOUR, "width": 2},
            hoverinfo="skip",
        )
    return figure


def _trace_importances(picture: StudyPicture) -> go.Figure:
    figure = _figure("share (PED-ANOVA, best quarter)", "")
    shares = sorted(picture.importances.items(), key=lambda item: item[1])
    figure.add_bar(
        x=[share for _, share in shares],
        y=[_text(name) for name, _ in shares],
        orientation="h",
        marker={"color": COMPLETE_COLOUR},
        text=[f"{share:.2f}" for _, share in shares],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )
    figure.update_layout(yaxis={"automargin": True, "showgrid": False}, showlegend=False)
    return figure


def _trace_parallel(picture: StudyPicture) -> go.Figure:
    lines = parallel_axes(picture)
    figure = _figure("", "")
    places = list(range(len(lines.axes)))
    for trial in lines.trials:
        line: dict[str, Any] = {"width": 1.2, "color": PRUNED_COLOUR}
        if trial.state == "COMPLETE":
            line = {"width": 1.6, "color": colour_of(lines.goodness[trial.number])}
        if trial.number == picture.best:
            line = {"width": 3.5, "color": BEST_COLOUR}
        figure.add_scatter(
            x=places,
            y=[axis.positions[trial.number] for axis in lines.axes],
            mode="lines",
            line=line,
            opacity=0.4 if trial.state == "PRUNED" else 0.9,
            text=[_about(trial)] * len(places),
            hovertemplate="%{text}<extra></extra>",
        )
    for place, axis in zip(places, lines.axes, strict=True):
        figure.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, line={"color": "#888888", "width": 1})
        for height, label in axis.ticks:
            figure.add_annotation(
                x=place,
                y=height,
                text=_text(label),
                showarrow=False,
                xanchor="left",
                xshift=4,
                font={"size": 11},
            )
        figure.add_annotation(  # not the axis's own labels: Plotly leaves out those that would be cut
            x=place,
            y=ABSENT - 0.06,
            text=_text(key_leaf(axis.name)),
            showarrow=False,
            textangle=-25,
            xanchor="right",
            yanchor="top",
            xshift=8,
        )
    figure.update_layout(
        showlegend=False,
        hovermode="closest",
        margin={"r": 70, "b": 80},
        xaxis={"visible": False, "range": [-0.3, len(places) - 0.7]},
        yaxis={"visible": False, "range": [ABSENT - 0.06, 1.08]},
    )
    return figure


def _trace_curves(picture: StudyPicture) -> go.Figure:
    figure = _figure("epoch", picture.objective)
    order = sorted(picture.trials, key=lambda each: (each.number == picture.best, each.state == "COMPLETE"))
    named: set[str] = set()
    for trial in order:
        if not trial.curve:
            continue
        name, colour, width = "PRUNED or unfinished", PRUNED_COLOUR, 1.4
        if trial.state == "COMPLETE":
            name, colour, width = "COMPLETE", OTHER_COLOUR, 1.8
        if trial.number == picture.best:
            name, colour, width = f"trial {trial.number}, the best", BEST_COLOUR, 3.5
        figure.add_scatter(
            x=list(trial.curve),
            y=list(trial.curve.values()),
            mode="lines" if len(trial.curve) > 1 else "markers",
            line={"color": colour, "width": width},
            marker={"color": colour, "size": 6},
            opacity=0.45 if colour == PRUNED_COLOUR else 1.0,
            name=name,
            legendgroup=name,
            showlegend=name not in named,
            text=[_about(trial)] * len(trial.curve),
            hovertemplate="epoch %{x}: %{y:.4g}<br>%{text}<extra></extra>",
        )
        named.add(name)
    return figure


def _trace_front(picture: StudyPicture) -> go.Figure:
    figure = _figure(metric_words(picture.objectives[0]), metric_words(picture.objectives[1]))
    for trials, name, mode, colour in (
        (picture.complete, "COMPLETE", "markers", COMPLETE_COLOUR),
        (picture.front, "no other is better in all", "lines+markers", BEST_COLOUR),
    ):
        shown = [each for each in trials if len(each.values) > 1]
        figure.add_scatter(
            x=[each.values[0] for each in shown],
            y=[each.values[1] for each in shown],
            mode=mode,
            name=name,
            marker={"color": colour, "size": 9},
            text=[_about(each) for each in shown],
            hovertemplate="%{text}<extra></extra>",
        )
    return figure


def _figure(x: str, y: str) -> go.Figure:
    transparent = "rgba(0,0,0,0)"
    return go.Figure(
        layout={
            "template": "plotly_white",
            "paper_bgcolor": transparent,
            "plot_bgcolor": transparent,
            "font": {"family": "system-ui, sans-serif", "size": 13},
            "margin": {"l": 60, "r": 20, "t": 10, "b": 50},
            "height": 420,
            "xaxis": {"title": {"text": _text(capital(x))}},
            "yaxis": {"title": {"text": _text(capital(y))}},
            "legend": {"orientation": "h", "y": 1.08, "x": 0},
        }
    )


def _div(figure: go.Figure, name: str) -> str:
    return str(
        to_html(
            figure,
            full_html=False,
            include_plotlyjs=False,
            div_id=name,
            config={"responsive": True, "displayModeBar": False},
        )
    )


def _about(trial: TriedTrial) -> str:
    """Return what the mouse says of a trial. Plotly reads a little HTML, so names are escaped."""
    value = "" if trial.value is None else f", {trial.value:.4g}"
    params = [f"{_text(name)} = {_text(_short(value))}" for name, value in trial.params.items()]
    return "<br>".join([f"<b>trial {trial.number}</b> {trial.state}{value}", *params])


def _text(text: str) -> str:
    """Return a text for Plotly, which reads a little HTML."""
    return escape(one_line(text))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_TRACED: dict[str, Callable[[StudyPicture], go.Figure]] = {
    "Optimisation history": _trace_history,
    "Parameter importances": _trace_importances,
    "Parallel coordinates": _trace_parallel,
    "Learning curves": _trace_curves,
    "Compromises between the objectives": _trace_front,
}
