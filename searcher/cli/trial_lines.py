"""The trials of a launch for a terminal of any size: one line each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from searcher.cli.tables import fitting
from searcher.cli.terminal import metric, params_texts, seconds
from searcher.escaping import one_line

__all__ = ["TrialLine", "packed", "trial_lines", "varying"]

_STYLES = {"QUEUED": "dim", "COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red"}
_RUNNING = "cyan"
_ENDED = ("COMPLETE", "PRUNED", "FAIL")
_GAP = 2


@dataclass(frozen=True)
class TrialLine:
    """The content of a trial's line; `taken_s` is the time since the trial started, or that it took, in seconds."""

    number: int
    state: str
    """What a running trial does, such as TRAINING; COMPLETE, PRUNED or FAIL."""
    epoch: int
    num_epochs: int
    value: float | None
    taken_s: float
    params: Mapping[str, object]


def trial_lines(trials: Iterable[TrialLine], *, width: int, height: int) -> list[Text]:
    """Return a header and a line for each trial, of at most `width` columns and `height` lines.

    Running trials come first, then the newest of those that ended. Shown are the parameters in which the trials differ,
    in the order of the study file. Those that do not fit are counted, as `+3`. No text is cut off.

    Args:
        trials: The trials.
        width: Width of the terminal in columns, at least 40.
        height: Height of the terminal in lines, at least 3.
    """
    ordered = sorted(trials, key=lambda trial: (trial.state in _ENDED, -trial.number))
    fit = ordered if len(ordered) < height else ordered[: height - 2]
    head = ["trial", "state", "epoch", "value", "time", "parameters"]
    varied = varying([trial.params for trial in ordered])
    cells = [head, *([*_cells(trial), ""] for trial in fit)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head) - 1)]
    room = width - sum(widths) - _GAP * len(widths)
    lines = [_line(head, widths, "bold")]
    for trial, row in zip(fit, cells[1:], strict=True):
        shown = {key: trial.params[key] for key in varied if key in trial.params}
        row[-1] = fitting(params_texts(shown), room)
        lines.append(_line(row, widths, _STYLES.get(trial.state, _RUNNING)))
    if len(fit) < len(ordered):
        lines.append(Text(f"and {len(ordered) - len(fit)} that ended before", style="dim"))
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return lines


def packed(parts: Sequence[str], *, width: int) -> list[str]:
    """Return texts joined by commas in as few lines as possible; a text is never divided."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 2 < width:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines


def varying(trials: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the names of the parameters in which trials differ, in the study's order; all if they differ in none.

    Args:
        trials: Parameters of each trial.
    """
    keys = dict.fromkeys(key for params in trials for key in params)
    differ = [key for key in keys if len({repr(params.get(key)) for params in trials}) > 1]
    return differ or [*keys]


def _cells(trial: TrialLine) -> list[str]:
    epoch = f"{trial.epoch}/{trial.num_epochs}" if trial.num_epochs else ""
    return [str(trial.number), trial.state, epoch, metric(trial.value), seconds(trial.taken_s)]


def _line(cells: Sequence[str], widths: Sequence[int], style: str) -> Text:
    number, state, *figures, params = (one_line(cell) for cell in cells)
    line = Text(number.rjust(widths[0]) + " " * _GAP)
    line.append(state.ljust(widths[1]), style=style)
    for figure, width in zip(figures, widths[2:], strict=True):
        line.append(" " * _GAP + figure.rjust(width))
    if params:
        line.append(" " * _GAP + params)
    return line
