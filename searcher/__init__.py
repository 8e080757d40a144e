"""Hyperparameter search for segmenting glands and cells in clinical images."""

from searcher._version import __version__

__all__ = ["__version__"]
