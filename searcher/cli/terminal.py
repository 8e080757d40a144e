"""Lines, JSON and progress bars: all that is printed goes through here."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import IO, Any, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from searcher.cli.streams import output
from searcher.escaping import one_line
from searcher.json_text import json_text
from searcher.report.words import key_leaf

__all__ = [
    "console",
    "metric",
    "params_text",
    "params_texts",
    "print_json",
    "progress_bar",
    "progress_bars",
    "seconds",
]


class _Console(Console):
    """Takes no text for markup, an emoji's name or a terminal's commands. A text is one line with any content."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print like `rich.console.Console.print`; in a file, no line is cut off."""
        options.setdefault("crop", self.is_terminal)
        super().print(*(one_line(each) if isinstance(each, str) else each for each in objects), **options)


console = _Console(
    file=cast(IO[str], output),
    highlight=False,
    markup=False,
    emoji=False,
    width=None if sys.stdout is not None and sys.stdout.isatty() else 160,
)
"""Where everything is printed. A pipe or a file gets lines of 160 columns."""


def print_json(value: Any) -> None:
    """Print plain values as JSON; NaN and infinity become null."""
    output.write(json_text(value))


def metric(value: float | None) -> str:
    """Return a metric's value as text with four digits; empty for None."""
    if value is None:
        return ""
    if value and abs(value) < 1e-3:
        return f"{value:.2e}"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.1f}"


def tuning_text(tuned: Mapping[str, Any]) -> str:
    """Return a line that describes tuned post-processing: the changed settings, and the metric before and after.

    The argument is the result of `Tuned.to_dict`.
    """
    from searcher.models.settings import PostprocessSettings

    default = PostprocessSettings().model_dump()
    changed = {key: value for key, value in tuned["postprocess"].items() if value != default.get(key)}
    settings = ", ".join(f"{key}={value}" for key, value in changed.items()) or "the defaults"
    return (
        f"post-processing tuned on {tuned['num_images']} validation images: {tuned['metric']} "
        f"{metric(tuned['value_before'])} -> {metric(tuned['value'])} with {settings}"
        f"{', mean of 8 views' if tuned['tta'] else ''}"
    )


def seconds(value: float | None) -> str:
    """Return a duration as h:mm:ss; empty for None."""
    return "" if value is None else str(timedelta(seconds=round(value)))


def params_text(params: Mapping[str, object]) -> str:
    """Return parameters as a text such as `optimizer=adamw lr=0.001`.

    A key is shown by its last part, or by the part before if the last is `name`.
    """
    return " ".join(params_texts(params))


def params_texts(params: Mapping[str, object]) -> list[str]:
    """Return a text such as `lr=0.001` for each parameter; see `params_text`."""
    return [
        f"{key_leaf(key)}={f'{value:.3g}' if isinstance(value, float) else value}"
        for key, value in params.items()
    ]


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Context manager that shows a progress bar; it yields a function to call with (done, total)."""
    with progress_bars(title) as (advance,):
        yield lambda done, total: advance(None, done, total)


@contextmanager
def progress_bars(*titles: str) -> Iterator[Sequence[Callable[[str | None, int, int], None]]]:
    """Context manager that shows several progress bars.

    It yields a function for each, to call with (new title or None, done, total).
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    shown = Console(stderr=True)
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as progress:
        tasks = [progress.add_task(one_line(title), total=None) for title in titles]

        def advance(task: TaskID, title: str | None, done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)
            if title is not None:
                progress.update(task, description=one_line(title))

        yield [partial(advance, task) for task in tasks]
