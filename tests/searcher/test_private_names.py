"""Names that another library does not document are used in one module per library, with a test for each name."""

import ast
from pathlib import Path

import pytest
from torch import nn

import searcher
from searcher.training.freezing import RUNNING_NORMS

ROOT = Path(searcher.__file__).parent
ALLOWED = {
    "orchestration/ray_internals.py",
    "ledger/optuna_internals.py",
    "training/torch_internals.py",
}
FILES = sorted(
    path
    for part in (ROOT, *ROOT.glob("*/"))
    for path in part.resolve().rglob("*.py")
    if "tests" not in path.parts
)
PRIVATE_PARTS = {"ray.core.generated", "ray.experimental.internal_kv"}
"""Undocumented without a name that says so."""
OPTUNAS = {
    "_trial_id",
    "_study_id",
    "_storage",
    "_backend",
    "_private",
    "_live_actors_to_ray_actors_resources",
}


def private_names(source: str) -> list[str]:
    """Return the private names of other libraries that a module's text uses."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module=str(module), names=names, level=0):
                parts = [*module.split("."), *(each.name for each in names)]
            case ast.Import(names=names):
                parts = [part for each in names for part in each.name.split(".")]
                module = names[0].name
            case ast.Attribute(value=ast.Name(id="self"), attr=_):
                continue
            case ast.Attribute(attr=name) if name in OPTUNAS:
                found.append(name)
                continue
            case _:
                continue
        if parts[0] not in ("searcher", "__future__") and (
            any(part.startswith("_") for part in parts) or module in PRIVATE_PARTS
        ):
            found.append(".".join(parts))
    return found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from ray._private import services", ["ray._private.services"]),
        ("from torch.nn.modules.batchnorm import _NormBase", ["torch.nn.modules.batchnorm._NormBase"]),
        ("import ray.experimental.internal_kv", ["ray.experimental.internal_kv"]),
        ("x = trial._trial_id", ["_trial_id"]),
        ("from searcher._version import __version__\nx = self._storage", []),
    ],
)
def test_what_counts_as_private(source, expected):
    assert private_names(source) == expected


def test_private_names_are_in_one_module_per_library():
    known = {(ROOT / name).resolve() for name in ALLOWED}
    used = {str(path): private_names(path.read_text()) for path in FILES if path not in known}
    assert {path: names for path, names in used.items() if names} == {}


def test_every_norm_of_torch_with_running_statistics_is_known():
    """Lazy ones become one of these when they first see data."""
    norms = {
        each
        for each in vars(nn).values()
        if isinstance(each, type) and hasattr(each, "track_running_stats") | ("Norm" in each.__name__)
        if "track_running_stats" in getattr(each, "__constants__", ()) and "Lazy" not in each.__name__
    }
    assert norms == set(RUNNING_NORMS)
