"""Tables at any width: names and numbers stay whole."""

import io

import pytest

from searcher.cli.tables import Parts, fitting, table
from searcher.cli.terminal import _Console

STUDIES = [
    ("unet-instances-folds", "12/25", 7, 4, 1, "object_f1+object_dice", "0.8123 (trial 11)"),
    ("unet-instances", "8/20", 8, 0, 0, "object_f1+object_dice", "0.7990 (trial 3)"),
]
HEADS = ["study", ">done", ">complete", ">pruned", ">fail", "objective", "best"]
FIRST_TO_GO = ["objective", "fail", "pruned", "complete"]


def printed(shown: object, width: int, *, is_terminal: bool = True) -> list[str]:
    file = io.StringIO()
    _Console(file=file, width=width, force_terminal=is_terminal, color_system=None).print(shown)
    return file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (120, ""),
        (100, "left out in 100 columns: objective"),
        (80, "left out in 80 columns: objective"),
        (60, "left out in 60 columns: complete, pruned, fail, objective"),
    ],
)
def test_columns_go_in_their_order_and_nothing_is_cut(width, left_out):
    lines = printed(table(HEADS, STUDIES, first_to_go=FIRST_TO_GO), width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "…" not in text
    for whole in ("unet-instances-folds ", "unet-instances ", "12/25", "0.8123 (trial 11)"):
        assert whole in text
    assert [line for line in lines if line.startswith("left out")] == ([left_out] if left_out else [])


def test_what_no_table_holds_becomes_a_block_for_each_row():
    lines = printed(table(HEADS, STUDIES), 44)
    assert lines[1:8] == [
        "study      unet-instances-folds",
        "done       12/25",
        "complete   7",
        "pruned     4",
        "fail       1",
        "objective  object_f1+object_dice",
        "best       0.8123 (trial 11)",
    ]


def test_a_file_gets_every_column_and_every_part_however_narrow():
    params = [f"parameter_{number}=0.123" for number in range(14)]
    lines = printed(table(["study", "parameters"], [("s", Parts(params))]), 60, is_terminal=False)
    assert [part for part in params if part not in " ".join(lines)] == []
    [head, *_] = [
        line.split() for line in printed(table(HEADS, STUDIES), 60, is_terminal=False) if line.strip()
    ]
    assert head == [head.lstrip(">") for head in HEADS]


def test_a_terminal_gets_the_parts_that_fit_and_the_number_of_the_others():
    params = ["lr=0.001", "depth=4", "norm=batch", "preset=standard"]
    lines = printed(table([">trial", "parameters", "~why"], [(7, Parts(params), "epochs")]), 45)
    assert [line.split() for line in lines if "lr" in line] == [["7", "lr=0.001", "depth=4", "+2", "epochs"]]


@pytest.mark.parametrize(
    ("room", "text"),
    [
        (30, "lr=0.001 depth=4 norm=batch"),
        (26, "lr=0.001 depth=4 +1"),
        (12, "lr=0.001 +2"),
        (2, "+3"),
        (1, ""),
    ],
)
def test_parts_stay_whole(room, text):
    assert fitting(["lr=0.001", "depth=4", "norm=batch"], room) == text
