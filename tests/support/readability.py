"""How readable README, docs and docstrings are: sentence length, long sentences, words that the style forbids.

    python tests/support/readability.py            # a table of all areas
    python tests/support/readability.py --long 20  # and the 20 longest sentences
    python tests/support/readability.py --lower    # writes lower ceilings where the text has become better

Code and headings are not counted. A list item and a table cell end a sentence. Fewer than four words are a label, not
a sentence.
"""

import argparse
import ast
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CEILINGS = ROOT / "tests" / "docs" / "readability_ceilings.json"
WORDS = ROOT / "tests" / "docs" / "forbidden_words.txt"

LONG = 25
"""A sentence of more words than this is long."""
_FEWEST_WORDS = 4

_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|et al|vs|approx|No|Fig|cf)\.")
_END = re.compile(r"(?<=[.!?])[\"')\]*_]*\s+(?=[\"'(\[*_]*(?:[A-Z0-9`]|(?:searcher|pydantic|timm|torch)\b))")


class Sentence(NamedTuple):
    """A sentence and where it is."""

    where: str
    text: str

    @property
    def num_words(self) -> int:
        """Number of words; a piece of code is one."""
        return sum(any(c.isalnum() for c in token) for token in self.text.split())


class Figures(NamedTuple):
    """What one area comes to."""

    num_sentences: int
    mean_words: float
    long_percent: float
    findings: int
    """Forbidden words."""

    @property
    def forbidden_percent(self) -> float:
        """Forbidden words in a hundred sentences."""
        return 100 * self.findings / max(1, self.num_sentences)


def forbidden() -> list[tuple[re.Pattern[str], str]]:
    """Return each forbidden expression with what to write."""
    lines = [line for line in WORDS.read_text().splitlines() if line and not line.startswith("#")]
    pairs = [line.split(" -> ") for line in lines]
    return [(re.compile(rf"\b(?:{pattern})\b", re.I), instead) for pattern, instead in pairs]


def findings(sentences: list[Sentence]) -> list[str]:
    """Return one line for each forbidden word: where, the word, what to write, the sentence."""
    rules = forbidden()
    return [
        f"{each.where}: {found.group()!r}; write {instead!r}: {each.text}"
        for each in sentences
        for pattern, instead in rules
        for found in pattern.finditer(each.text)
    ]


def areas(root: Path = ROOT) -> dict[str, list[Sentence]]:
    """Return the sentences of each area: README, docs, decisions, and each package's docstrings."""
    found = {
        "README": _of_pages([root / "README.md"], root),
        "docs": _of_pages(
            sorted(p for p in (root / "docs").rglob("*.md") if p.parent.name != "decisions"), root
        ),
        "decisions": _of_pages(sorted((root / "docs" / "decisions").glob("*.md")), root),
    }
    for name in ("data_pipeline", "models"):
        found[name] = _of_code(sorted((root / name).rglob("*.py")), root)
    for folder in sorted((root / "searcher").iterdir()):
        if folder.is_dir() and not folder.is_symlink() and folder.name != "__pycache__":
            found[f"searcher.{folder.name}"] = _of_code(sorted(folder.rglob("*.py")), root)
    found["searcher"] = _of_code(sorted((root / "searcher").glob("*.py")), root)
    return found


def figures(sentences: list[Sentence]) -> Figures:
    """Return the figures of an area."""
    lengths = [each.num_words for each in sentences]
    num_long = sum(length > LONG for length in lengths)
    return Figures(
        len(lengths),
        sum(lengths) / max(1, len(lengths)),
        100 * num_long / max(1, len(lengths)),
        len(findings(sentences)),
    )


def _of_pages(paths: list[Path], root: Path) -> list[Sentence]:
    found = []
    for path in paths:
        for line, block in _blocks_of_markdown(path.read_text()):
            found += _sentences(block, f"{path.relative_to(root)}:{line}")
    return found


def _of_code(paths: list[Path], root: Path) -> list[Sentence]:
    found = []
    for path in paths:
        for line, text in _docstrings(ast.parse(path.read_text())):
            for block in _blocks_of_docstring(text):
                found += _sentences(block, f"{path.relative_to(root)}:{line}")
    return found


def _docstrings(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
) -> Iterator[tuple[int, str]]:
    """Yield the docstrings of a module, its classes, functions and their attributes, with their lines."""
    for statement in node.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            if isinstance(statement.value.value, str):
                yield statement.lineno, statement.value.value
        elif isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(statement)


def _blocks_of_docstring(text: str) -> Iterator[str]:
    """Yield paragraphs, list items and the entries of Args; what is indented like code is none."""
    block: list[str] = []
    for line in [*text.strip().splitlines(), ""]:
        bare = line.strip()
        starts_anew = re.match(r"[-*] |\w+(?:, \w+)*: |(?:Args|Returns|Raises|Yields|Attributes):$", bare)
        if (not bare or starts_anew) and block:
            yield " ".join(block)
            block = []
        if bare and not re.fullmatch(r"\w+:|[|`].*|.* {3,}.*", bare):
            block.append(re.sub(r"^[-*] |^[a-z_*]\w*(?:, \w+)*: ", "", bare))


def _blocks_of_markdown(text: str) -> Iterator[tuple[int, str]]:
    """Yield paragraphs, list items and table cells with their lines; no code, headings or pictures."""
    text = re.sub(r"^```.*?^```\s*?$", lambda m: "\n" * m.group().count("\n"), text, flags=re.M | re.S)
    text = re.sub(r"<!--.*?-->", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
    block: list[str] = []
    first, is_after_blank = 1, True
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        is_code = line.startswith("    ") and is_after_blank and not block
        is_new = re.match(r"\s*(?:[-*+] |\d+\. )", line)
        is_other = not line.strip() or is_code or re.match(r"#|\||!\[|<|!!! |\?\?\? |---", line.strip())
        if block and (is_other or is_new):
            yield first, " ".join(block)
            block = []
        if line.startswith("|") and not re.fullmatch(r"[|:\- ]+", line):
            yield from ((number, cell) for cell in re.split(r"(?<!\\)\|", line.strip("| ")))
        elif not is_other:
            first = first if block else number
            block.append(re.sub(r"^\s*(?:[-*+] |\d+\. )", "", line).strip())
        is_after_blank = not line.strip() or is_code


def _sentences(block: str, where: str) -> Iterator[Sentence]:
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", block)  # a link's text
    plain = re.sub(r"`+[^`]+`+", "`code`", plain)
    plain = re.sub(r"https?://\S+", "address", plain)
    plain = _ABBREVIATION.sub(lambda m: m.group(1), plain)
    for text in _END.split(plain):
        sentence = Sentence(where, text.strip())
        if sentence.num_words >= _FEWEST_WORDS:
            yield sentence


def _table(found: dict[str, list[Sentence]]) -> Iterator[str]:
    yield f"{'area':24}{'sentences':>10}{'mean words':>12}{f'above {LONG}':>10}{'forbidden words':>17}"
    for name, sentences in [*found.items(), ("all", [each for area in found.values() for each in area])]:
        each = figures(sentences)
        long = f"{each.long_percent:.1f}%"
        yield f"{name:24}{each.num_sentences:10}{each.mean_words:12.1f}{long:>10}{each.findings:17}"


def _lower(found: dict[str, list[Sentence]]) -> None:
    """Write the present state as ceilings, for long sentences with a point or two sentences more; raise none."""
    before = json.loads(CEILINGS.read_text()) if CEILINGS.exists() else {}
    ceilings = {}
    for name, sentences in found.items():
        now = figures(sentences)
        room = max(1, 200 / max(1, now.num_sentences))
        old = before.get(name, {"long_percent": 100, "forbidden_percent": 100})
        ceilings[name] = {
            "long_percent": min(old["long_percent"], math.ceil(now.long_percent + room)),
            "forbidden_percent": min(old["forbidden_percent"], math.ceil(now.forbidden_percent)),
        }
    CEILINGS.write_text(json.dumps(ceilings, indent=2) + "\n")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--long", type=int, default=0, metavar="N", help="print the N longest sentences too")
    parser.add_argument("--findings", action="store_true", help="print every forbidden word")
    parser.add_argument("--area", default="", help="this area alone")
    parser.add_argument("--lower", action="store_true", help="lower the ceilings to the present state")
    args = parser.parse_args()
    found = {name: each for name, each in areas().items() if args.area in ("", name)}
    print("\n".join(_table(found)))
    sentences = [each for area in found.values() for each in area]
    for each in sorted(sentences, key=lambda s: -s.num_words)[: args.long]:
        print(f"{each.num_words:4} {each.where}: {each.text}")
    if args.findings:
        print("\n".join(findings(sentences)))
    if args.lower and not args.area:
        _lower(found)


if __name__ == "__main__":
    main()
