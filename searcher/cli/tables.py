"""Tables that fit the terminal: no name and no number is ever cut."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from searcher.escaping import one_line

__all__ = ["FittingTable", "Parts", "fitting", "table"]

_GAP = 3
"""Columns between two cells, as `box.SIMPLE_HEAD` draws them without its edges."""
_EDGES = 2
_LEAST_TEXT = 24
"""Columns that parts, or a text which may wrap, have at least, if they need as many."""


@dataclass(frozen=True)
class Parts:
    """A table cell of several texts, such as `lr=0.001`; a terminal shows those that fit, and counts the others."""

    texts: Sequence[str]

    def __str__(self) -> str:
        return " ".join(self.texts)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    first_to_go: Sequence[str] = (),
) -> "FittingTable":
    """Return a plain table that adapts to the width at which it is printed.

    If it is too wide for the terminal, the columns in `first_to_go` are left out one by one. If that is not enough,
    each row becomes a block of lines, `label  value`.

    Args:
        columns: The headers. `>` before a header means numbers, aligned to the right. `~` means text that may take
            several lines. All other cells stay in one line.
        rows: The cells of each row, as texts. A `rich.text.Text` keeps its style, and `Parts` fill the room that is
            left.
        title: A line above the table; None for none.
        first_to_go: Headers, without their marks, of columns that a reader can do without.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    shown_title = None if title is None else Text(one_line(title))
    return FittingTable([_Column.of(each) for each in columns], cells, shown_title, first_to_go)


def fitting(texts: Sequence[str], room: int) -> str:
    """Return as many whole texts as fit in a line, with the number of the others, such as `+3`.

    Args:
        texts: Texts such as `lr=0.001`.
        room: Width of the line, in columns.
    """
    for count in range(len(texts), 0, -1):
        rest = f" +{len(texts) - count}" if count < len(texts) else ""
        text = " ".join(texts[:count]) + rest
        if cell_len(text) <= room:
            return text
    return f"+{len(texts)}" if texts and room >= len(f"+{len(texts)}") else ""


@dataclass(frozen=True)
class _Column:
    head: str
    is_number: bool
    wraps: bool

    @classmethod
    def of(cls, marked: str) -> "_Column":
        return cls(one_line(marked.lstrip(">~")), marked.startswith(">"), marked.startswith("~"))


class FittingTable:
    """The table that `table` returns; it chooses its form when it is printed, because only then the width is known."""

    def __init__(
        self,
        columns: Sequence[_Column],
        rows: Sequence[Sequence[Text | Parts]],
        title: Text | None,
        first_to_go: Sequence[str],
    ) -> None:
        self._columns = columns
        self._rows = rows
        self._title = title
        self._first_to_go = first_to_go

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        kept = [*range(len(self._columns))]
        width = options.max_width if console.is_terminal else max(options.max_width, self._least_width(kept))
        leaving = [index for head in self._first_to_go for index in kept if self._columns[index].head == head]
        while leaving and self._least_width(kept) > width:
            kept.remove(leaving.pop(0))
        if self._least_width(kept) > width:
            yield from self._blocks()
            return
        room = width - self._least_width([index for index in kept if not self._has_parts(index)]) - _GAP
        drawn = Table(box=box.SIMPLE_HEAD, title=self._title, title_justify="left", pad_edge=False)
        for index in kept:
            column = self._columns[index]
            may_wrap = column.wraps or (self._has_parts(index) and not console.is_terminal)
            drawn.add_column(
                Text(column.head), justify="right" if column.is_number else "left", no_wrap=not may_wrap
            )
        for row in self._rows:
            drawn.add_row(*(_drawn(row[index], room if console.is_terminal else None) for index in kept))
        yield from console.render(drawn, options.update(width=width))
        if len(kept) < len(self._columns):
            left_out = [column.head for index, column in enumerate(self._columns) if index not in kept]
            yield Text(f"left out in {width} columns: {', '.join(left_out)}")

    def _blocks(self) -> RenderResult:
        """Yield each row as lines of a label and a value."""
        if self._title is not None:
            yield self._title
        labels = max((cell_len(column.head) for column in self._columns), default=0)
        for row in self._rows:
            yield Text()
            for column, cell in zip(self._columns, row, strict=True):
                text = _drawn(cell, None)
                if text.plain:
                    line = Text(column.head.ljust(labels) + "  ", style="bold")
                    line.append_text(Text(text.plain, style=text.style or "not bold"))
                    yield line

    def _least_width(self, kept: Sequence[int]) -> int:
        return sum(map(self._least, kept)) + _GAP * max(0, len(kept) - 1) + _EDGES

    def _least(self, index: int) -> int:
        """Return the columns that a column of the table needs, however little room there is."""
        head = cell_len(self._columns[index].head)
        widest = max((cell_len(str(row[index])) for row in self._rows), default=0)
        gives_way = self._columns[index].wraps or self._has_parts(index)
        return max(head, min(widest, _LEAST_TEXT) if gives_way else widest)

    def _has_parts(self, index: int) -> bool:
        return any(isinstance(row[index], Parts) for row in self._rows)


def _drawn(cell: Text | Parts, room: int | None) -> Text:
    """Return what is printed; `room` is that of parts, None where they may take several lines."""
    if isinstance(cell, Parts):
        return Text(str(cell) if room is None else fitting(cell.texts, room))
    return cell


def _cell(value: object) -> Text | Parts:
    if isinstance(value, Parts):
        return Parts([one_line(text) for text in value.texts])
    if isinstance(value, Text):
        return Text(one_line(value.plain), style=value.style)
    return Text("" if value is None else one_line(str(value)))
