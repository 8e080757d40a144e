"""Text from outside: what a terminal obeys, what breaks lines, what a spreadsheet computes."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searcher.escaping import csv_cell, csv_text, harmless, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("größe 中 👩‍🔬\n", "größe 中 👩\\u200d🔬\n"),
        ("\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        ("a\r\nb\rc\n", "a\nb\\rc\n"),
        ("\x9b31m\x7f\x00", "\\x9b31m\\x7f\\x00"),
        ("abc\u202efdp.exe\u2028\ufeff", "abc\\u202efdp.exe\\u2028\\ufeff"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text, shown):
    assert harmless(text) == shown


def test_one_line_has_no_second_one():
    assert one_line("a\nb\r\nc\td\x1b[31m") == "a\\nb\\nc\\td\\x1b[31m"


@given(st.text())
def test_any_text_comes_out_as_one_line_of_utf_8(text):
    assert len(one_line(text).splitlines()) <= 1
    one_line(text).encode()  # no surrogate is left


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_a_spreadsheet_takes_no_cell_for_a_formula(begin):
    assert csv_cell(f"{begin}cmd()") == f"'{begin}cmd()"
    assert csv_cell("plain=1") == "plain=1"


@given(st.text(alphabet="'=+-@\t\r\n,;\"ab") | st.text())
def test_a_cell_gives_its_text_back_from_a_file(text):
    file = io.StringIO(newline="")
    csv.writer(file).writerow([csv_cell(text), "x"])
    [row] = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert csv_text(row[0]) == text
