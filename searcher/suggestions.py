"""What somebody probably meant by a name that is not known."""

import difflib
from collections.abc import Collection, Iterable

__all__ = ["nearest", "suggestion"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to `name`; None if none is similar."""
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return close[0] if close else None


def suggestion(name: str, known: Collection[str]) -> str:
    """Return the remedy for an unknown name, as text: the most similar known name, or all of them."""
    names = sorted(known)
    meant = nearest(name, names)
    if meant:
        return f"did you mean {meant}?"
    tables = sorted({candidate.partition(".")[0] for candidate in names}) if len(names) > 20 else names
    return f"known: {', '.join(tables)}"
