"""Text from outside, made safe for where it is shown: terminals and logs, cells of CSV files.

Names of files, studies and parameters, reasons and descriptions come from people, file systems and databases. Pages
escape theirs in `searcher.report.templates`; terminals, logs and CSV files take theirs from here.
"""

import re
import unicodedata

__all__ = ["csv_cell", "csv_text", "harmless", "one_line"]

_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that steer a terminal, reorder text or break lines."""
_FORMULA = "[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
"""What a cell begins with that a spreadsheet computes; the last four are the full-width forms of the first four."""
_IS_FORMULA = re.compile(f"'*{_FORMULA}")
_IS_QUOTED_FORMULA = re.compile(f"'+{_FORMULA}")


def harmless(text: str) -> str:
    r"""Return a text in which control characters are written out, such as `\x1b` for Escape, for terminals and logs.

    Line feeds and tabs stay; a carriage return before a line feed is dropped.
    """
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in _OBEYED
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def one_line(text: str) -> str:
    """Return a text in one line, with control characters, line feeds and tabs written out."""
    return harmless(text).replace("\n", "\\n").replace("\t", "\\t")


def csv_cell(text: str) -> str:
    """Return a text as a CSV cell that no spreadsheet takes for a formula; `csv_text` reverses it.

    A text that begins like a formula (`=`, `+`, `-`, `@`, a tab, a line break) gets an apostrophe in front.
    """
    return f"'{text}" if _IS_FORMULA.match(text) else text


def csv_text(cell: str) -> str:
    """Return the text from which `csv_cell` made a cell."""
    return cell[1:] if _IS_QUOTED_FORMULA.match(cell) else cell
