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
    """Return a metric's name in words, such as "object Dice" for `object_dice`."""
    return " ".join(_NAMES.get(part, part) for part in name.split("_"))


def capital(text: str) -> str:
    """Return a text with its first letter as capital."""
    return text[:1].upper() + text[1:]


def key_leaf(key: str) -> str:
    """Return the last part of a dotted key; if that is `name`, the part before it."""
    table, _, leaf = key.rpartition(".")
    return table if leaf == "name" and table else leaf
