"""Every public function with three or more parameters says what each of them is."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OTHERS = ("argparse.", "optuna.", "ray.")
"""Libraries whose own documentation describes the parameters of what derives from them."""
_MANY = 3

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Yield the public functions and methods with their qualified names."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from functions(node.body, f"{node.name}.")
        elif isinstance(node, Function) and (not node.name.startswith("_") or node.name == "__call__"):
            yield prefix + node.name, node


def parameters(function: Function) -> list[str]:
    """Return the parameters but `self`, `cls` and those that are not used."""
    args = function.args
    names = [each.arg for each in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
    names += [each.arg for each in (args.vararg, args.kwarg) if each is not None]
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def without_args(sources: dict[str, str]) -> list[str]:
    """Return where a public function with many parameters describes none, nor names one that does."""
    trees = {path: ast.parse(text) for path, text in sources.items()}
    described = set()
    for tree in trees.values():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and any(
                "Args:" in (ast.get_docstring(each) or "") for each in (node, *_methods(node))
            ):
                described.add(node.name)
        described |= {n for n, node in functions(tree.body) if "Args:" in (ast.get_docstring(node) or "")}
    return [
        f"{path}:{node.lineno}: {name}"
        for path, tree in trees.items()
        for name, node in functions(tree.body)
        if len(parameters(node)) >= _MANY and not _is_described(ast.get_docstring(node) or "", described)
    ]


def _methods(node: ast.ClassDef) -> list[Function]:
    return [each for each in node.body if isinstance(each, Function)]


def _is_described(docstring: str, described: set[str]) -> bool:
    named = re.findall(r"\b[Ss]ee\s+`([\w.]+)`", docstring)
    return "Args:" in docstring or any(name in described or name.startswith(OTHERS) for name in named)


def test_every_public_function_with_many_parameters_describes_them():
    """What follows an interface may name it instead: see `StudyListener.epoch_done`."""
    paths = [path for part in ("searcher", "models", "data_pipeline") for path in (ROOT / part).rglob("*.py")]
    sources = {
        str(path.relative_to(ROOT)): path.read_text() for path in paths if "migrations" not in path.parts
    }
    assert without_args(sources) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f(a, b, c):\n    '''Return it.'''", ["m.py:1: f"]),
        ("def f(a, b):\n    '''Return it.'''", []),
        ("def f(a, _b, _c):\n    '''Return it.'''", []),
        ("def _f(a, b, c):\n    '''Return it.'''", []),
        ("def f(a, *b, **c):\n    '''Return it.'''", ["m.py:1: f"]),
        ("def f(a, b, c):\n    '''Return it.\n\n    Args:\n        a: One.\n    '''", []),
        ("class A:\n    def f(self, a, b, c):\n        '''Return it; see `B.f`.'''", ["m.py:2: A.f"]),
        ("class A:\n    def f(self, a, b, c):\n        '''See `optuna.B.f`.'''", []),
        (
            "class B:\n    def f(self, a, b, c):\n        '''Do.\n\n        Args:\n            a: One.\n        '''\n"
            "class A:\n    def f(self, a, b, c):\n        '''Return it; see `B.f`.'''",
            [],
        ),
    ],
)
def test_what_counts_as_described(source, found):
    assert without_args({"m.py": source}) == found
