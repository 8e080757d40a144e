"""Version of the distribution gland-searcher."""

__version__ = "0.2.0"
