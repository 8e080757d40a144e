"""What figures and tables call things."""

__all__ = ["capital", "key_leaf", "metric_words"]

_NAMES = {
    "aji": "AJI",
    "ap": "AP",
    "ap50": "AP50",
    "dice": "Dice",
    "f1": "F1",
    "hausdorff": "Hausdorff",
    "pq": "PQ",
}


def metric_words(name: str) -> str:
    """Return a metric's name in words: `object_dice` is object Dice."""
    return " ".join(_NAMES.get(part, part) for part in name.split("_"))


def capital(text: str) -> str:
    """Return a text with a capital at its beginning, the rest as it is."""
    return text[:1].upper() + text[1:]


def key_leaf(key: str) -> str:
    """Return the last part of a dotted key, or its table where that is `name`."""
    table, _, leaf = key.rpartition(".")
    return table if leaf == "name" and table else leaf
