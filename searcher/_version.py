"""Version of the distribution gland-searcher."""

__version__ = "0.1.0"
