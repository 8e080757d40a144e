"""The report of an evaluation as one self-contained page: no script, no request, pictures and figures inside."""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from searcher.evaluation.glas.contest import ENTRIES, NUM_IMAGES, POSTER, SINCE, ContestEntry, Ranked, ranked
from searcher.report import figures
from searcher.report.composite import composite
from searcher.report.model import EvaluationReport, Example, SplitReport
from searcher.report.overlays import PREDICTION_COLOUR, TRUTH_COLOUR, Colour, outlines, truth_width_px
from searcher.report.templates import templates
from searcher.report.words import capital, metric_words
from searcher.study.spec import flat

__all__ = ["render"]

_SPLIT_TITLES = {"testA": "test A", "testB": "test B", "train": "the training images"}
_METRICS = (
    ("f1", "F1", "detection"),
    ("object_dice", "object Dice", "segmentation"),
    ("object_hausdorff", "object Hausdorff", "shape, px"),
)
_OF_INSTANCES = (
    ("ap50", "AP50", "IoU above 0.5"),
    ("ap", "AP", "IoU 0.5 to 0.95"),
    ("pq", "PQ", "panoptic quality"),
    ("aji", "AJI", "aggregated Jaccard"),
)
_MOST_PX, _LEAST_PX = 900, 600
"""The longer side of an example's picture. Larger images shrink to the first value, smaller ones grow to about the
second, so outlines are equally fine."""
_LINE_PX = 3
_JPEG_QUALITY = 85
_STEPS = {
    "refine": "decided what was searched next",
    "rerank": "were trained again on fresh folds or seeds",
    "finetune": "gave the weights to go on from",
}
"""What a study gave to the one after it."""
_DIGITS = {"object_hausdorff": 1, "mae": 2, "r2": 2}
"""Digits after the point; of other figures three."""
_DASH = "–"
_MINUS = "−"


def render(report: EvaluationReport) -> str:
    """Return the report page of an evaluation as HTML."""
    environment = templates()
    environment.filters.update(
        capital=capital,
        figure=_figure,
        interval=_interval,
        metric=_metric,
        plain=_plain,
        signed=_signed,
        words=metric_words,
    )
    members = list(report.members)
    return environment.get_template("report.html.jinja").render(
        report=report,
        splits=[_SplitView.of(split) for split in report.splits],
        metrics=_metrics(report),
        contest_metrics=_METRICS,
        contest=_contest(report),
        poster=_poster_rows(report),
        training={name: Markup(svg) for name, svg in figures.training_curves(members).items()},
        searched=_table_of([member.params for member in members]),
        configuration=_table_of([flat(member.config) for member in members]),
        settings=flat(report.settings),
        steps=_STEPS,
        colours={"truth": _css(TRUTH_COLOUR), "prediction": _css(PREDICTION_COLOUR)},
    )


@dataclass(frozen=True, kw_only=True)
class _SplitView:
    """A split with its pictures."""

    name: str
    title: str
    summary: Mapping[str, Any]
    examples: "Sequence[_ExampleView]"
    dice: Markup
    counts: Markup

    @classmethod
    def of(cls, split: SplitReport) -> "_SplitView":
        by_id = {image["id"]: image for image in split.summary["images"]}
        return cls(
            name=split.name,
            title=_title(split.name),
            summary=split.summary,
            examples=[_ExampleView.of(each, by_id[each.id]) for each in split.examples],
            dice=Markup(figures.dice_distribution(split)),
            counts=Markup(figures.count_scatter(split)),
        )

    @property
    def has_strata(self) -> bool:
        return bool(self.summary.get("strata"))

    @property
    def is_timed(self) -> bool:
        return self.summary.get("seconds_per_image") is not None


@dataclass(frozen=True, kw_only=True)
class _ExampleView:
    """An example as pictures that lie over each other: the tissue, the true outlines, the predicted ones."""

    id: str
    reason: str
    row: Mapping[str, Any]
    width_px: int
    height_px: int
    tissue: str
    truth: str
    prediction: str

    @classmethod
    def of(cls, example: Example, row: Mapping[str, Any]) -> "_ExampleView":
        image = _fitted(composite(example.image))
        truth, prediction = (
            _layer(_fitted(labels), colour, width_px)
            for labels, colour, width_px in (
                (example.truth, TRUTH_COLOUR, truth_width_px(_LINE_PX)),
                (example.prediction, PREDICTION_COLOUR, _LINE_PX),
            )
        )
        return cls(
            id=example.id,
            reason=example.reason,
            row=row,
            width_px=image.shape[1],
            height_px=image.shape[0],
            tissue=_jpeg(image),
            truth=truth,
            prediction=prediction,
        )


# ---- the contest -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Contest:
    """The contest's table."""

    rows: Sequence[Ranked]
    since: Sequence[ContestEntry]
    ours: ContestEntry | None
    """Our row, None where nothing was measured on the contest's images."""
    missing: Sequence[str]
    """Test sets that were not measured."""


def _metrics(report: EvaluationReport) -> list[tuple[str, str, str]]:
    """Return key, name and meaning of what is shown: the contest's metrics, those of nuclei, and those of plug-ins."""
    measured = {key for split in report.splits for key in split.summary["pooled"]}
    ours = [*_METRICS, *(each for each in _OF_INSTANCES if each[0] in measured)]
    known = {key for key, _, _ in ours} | {"pixel_dice"}
    more = dict.fromkeys(
        key for split in report.splits for key in split.summary["pooled"] if key not in known
    )
    return [*ours, *((key, key, "of a plug-in") for key in more)]


def _contest(report: EvaluationReport) -> _Contest:
    pairs: dict[str, tuple[float | None, float | None]] = {}
    measured = {split.name: split.summary["pooled"] for split in report.splits if _is_contests(report, split)}
    for key, _, _ in _METRICS:
        a, b = (measured[name][key] if name in measured else None for name in NUM_IMAGES)
        pairs[key] = (a, b)
    ours = ContestEntry(report.method, pairs["f1"], pairs["object_dice"], pairs["object_hausdorff"], "ours")
    return _Contest(
        rows=ranked([*ENTRIES, ours] if measured else ENTRIES),
        since=SINCE,
        ours=ours if measured else None,
        missing=[_title(name) for name in NUM_IMAGES if name not in measured],
    )


def _is_contests(report: EvaluationReport, split: SplitReport) -> bool:
    return report.data.is_glas and NUM_IMAGES.get(split.name) == split.summary["num_images"]


def _poster_rows(report: EvaluationReport) -> list[dict[str, Any]]:
    """Return official and poster metrics of our splits, and below the contest's those of the poster's networks."""
    rows = []
    for split in report.splits:
        poster = split.summary.get("poster")
        if poster is None:
            continue
        title = _title(split.name)
        official = split.summary["pooled"]
        rows.append(
            {"method": report.method, "on": title, "official": official, "poster": poster, "ours": True}
        )
        if not _is_contests(report, split):
            continue
        at = list(NUM_IMAGES).index(split.name)
        for entry in POSTER:
            theirs = {key: getattr(entry, key)[at] for key, _, _ in _METRICS}
            rows.append(
                {"method": entry.method, "on": title, "official": {}, "poster": theirs, "ours": False}
            )
    return rows


# ---- parameters and lineage --------------------------------------------------------------------------------


def _table_of(columns: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return a row for each key that any column has, with the columns' values."""
    keys = dict.fromkeys(key for column in columns for key in column)
    return [(key, [_plain(column[key]) if key in column else _DASH for column in columns]) for key in keys]


# ---- words -------------------------------------------------------------------------------------------------


def _title(split: str) -> str:
    return _SPLIT_TITLES.get(split, split)


def _metric(value: float | None, name: str = "") -> str:
    """Return a figure as a table prints it: distances to a tenth of a pixel, most others to three digits."""
    if value is None or not math.isfinite(value):
        return _DASH
    text = f"{value:.{_DIGITS.get(name, 3)}f}"
    return text.replace("-", _MINUS)


def _signed(value: float | None) -> str:
    return _DASH if value is None else f"{value:+.2f}".replace("-", _MINUS)


def _interval(ends: Sequence[float | None], name: str = "") -> str:
    low, high = ends
    return "no interval" if low is None or high is None else f"{_metric(low, name)} to {_metric(high, name)}"


def _plain(value: Any) -> str:
    """Return a value as a study file has it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    return _DASH if value is None else json.dumps(value, default=str)


def _figure(svg: Markup, label: str) -> Markup:
    """Return an SVG that is read aloud as `label`."""
    return Markup('<svg role="img" aria-label="{}"{}').format(label, Markup(svg.removeprefix("<svg")))


# ---- pictures ----------------------------------------------------------------------------------------------


def _fitted(array: NDArray[Any]) -> NDArray[Any]:
    """Return an image, or a label map by nearest neighbours, in the size that it is shown in."""
    longest = max(array.shape[:2])
    scale = min(1.0, _MOST_PX / longest) if longest > _LEAST_PX else float(round(_LEAST_PX / longest))
    if scale == 1:
        return array
    height, width = (max(1, round(side * scale)) for side in array.shape[:2])
    if array.ndim == 2:  # OpenCV resizes no int32; float64 has every label exactly
        labels = cv2.resize(array.astype(np.float64), (width, height), interpolation=cv2.INTER_NEAREST)
        return np.asarray(labels, array.dtype)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(array, (width, height), interpolation=how))


def _jpeg(image: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return _data_url("image/jpeg", buffer.getvalue())


def _layer(labels: NDArray[np.int32], colour: Colour, width_px: int) -> str:
    """Return outlines on a transparent ground: a PNG of a palette of three colours, a few kilobytes."""
    rgba = outlines(labels, colour, width_px=width_px)
    pixels, index = np.unique(rgba.view(np.uint32), return_inverse=True)
    colours = pixels.view(np.uint8).reshape(-1, 4)
    picture = Image.fromarray(index.reshape(labels.shape).astype(np.uint8), "P")
    picture.putpalette(colours[:, :3].tobytes(), "RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True, transparency=colours[:, 3].tobytes())
    return _data_url("image/png", buffer.getvalue())


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _css(colour: Colour) -> str:
    return f"rgb({', '.join(map(str, colour))})"
