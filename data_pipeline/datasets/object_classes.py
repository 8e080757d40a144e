"""`objects.csv` next to the images: the class of single objects, as `searcher data import` writes it.

Three columns, each needed: `image`, the image's name as in `samples.csv`; `label`, the object's number in the label
map; `class`, a name. Objects without a row, or with an empty class, have none.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from searcher.data_pipeline.datasets.tables import read_table
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import same_name

__all__ = ["OBJECTS_FILE", "check_labels", "read_object_classes"]

OBJECTS_FILE = "objects.csv"
_COLUMNS = ("image", "label", "class")
_SHOWN = 5


def read_object_classes(root: Path, ids: Collection[str]) -> tuple[dict[str, dict[int, str]], list[str]]:
    """Return the classes in `objects.csv` as {image: {label: class}}, and the problems of the file, one line each.

    Without the file, both are empty.

    Args:
        root: Folder that may hold `objects.csv`.
        ids: Names of the images in the data set.
    """
    path = root / OBJECTS_FILE
    if not path.exists():
        return {}, []
    try:
        header, rows = read_table(path)
    except DataError as error:
        return {}, list(error.problems)
    if any(header.count(column) != 1 for column in _COLUMNS):
        got = ", ".join(header) or "nothing"
        return {}, [
            f"{path}: the head must have {', '.join(_COLUMNS)}, each once, got {got}; correct its first line"
        ]
    by_name = {same_name(each): each for each in ids}
    found: dict[str, dict[int, str]] = {}
    problems: list[str] = []
    for line, row in rows:
        cells = dict(zip(header, [*row, *[""] * len(header)], strict=False))
        problem = _add(cells, by_name, found)
        if problem is not None:
            problems.append(f"{path}: line {line}: {problem}; correct or remove the row")
    if len(problems) > _SHOWN:
        problems[_SHOWN:] = [f"{path}: {len(problems) - _SHOWN} more rows are wrong; correct or remove them"]
    return found, problems


def _add(cells: dict[str, str], by_name: dict[str, str], found: dict[str, dict[int, str]]) -> str | None:
    """Take in a row; return what is wrong with it, None where nothing is."""
    name = by_name.get(cells["image"]) or by_name.get(Path(cells["image"]).stem)
    if name is None:
        return f"image must be an image's name, got {cells['image'] or 'an empty cell'}"
    text = cells["label"]
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) > 0):
        return f"label must be a whole number of at least 1, got {text[:20] or 'an empty cell'}"
    classes = found.setdefault(name, {})
    if int(text) in classes:
        return f"an object must have one row, got a second one for label {text} of {name}"
    classes[int(text)] = cells["class"]
    return None


def check_labels(root: Path, name: str, classes: dict[int, str], labels: NDArray[np.int32]) -> None:
    """Check that every row of `objects.csv` for an image names an object of the image's label map.

    Args:
        root: The data set's folder, for messages.
        name: Name of the image.
        classes: Class of each object, by its label.
        labels: int32[H, W], the label map.

    Raises:
        DataError: A row names an object that the label map does not have.
    """
    missing = sorted(classes.keys() - set(np.unique(labels).tolist())) if classes else []
    if missing:
        more = f", .. ({len(missing)} of them)" if len(missing) > _SHOWN else ""
        raise DataError(
            f"{root / OBJECTS_FILE}: every label must be in its image's label map, got "
            f"{', '.join(map(str, missing[:_SHOWN]))}{more} for {name}; correct or remove the row"
        )
