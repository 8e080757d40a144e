"""One folder for each image with a mask for each object, as the 2018 Data Science Bowl comes."""

from pathlib import Path

import numpy as np

from searcher.data_pipeline.datasets.annotations.annotation import Annotation
from searcher.data_pipeline.datasets.annotations.painting import paint
from searcher.data_pipeline.datasets.annotations.shapes import MAX_SHAPES, Shape, mask_shape
from searcher.data_pipeline.datasets.layouts.folder_scan import FoundFile, samples_of, scan
from searcher.data_pipeline.datasets.layouts.layout_source import Entry, LayoutSource
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.images import IMAGE_SUFFIXES, read_data_image, read_labels
from searcher.data_pipeline.pixel_arrays import Pixels

__all__ = ["open_object_masks"]


def open_object_masks(root: Path, *, strict: bool) -> LayoutSource | None:
    """Return the data set in a folder of `NAME/images/NAME.png` and `NAME/masks/*.png`; None for another layout.

    Raises:
        DataError: An image has no masks or the reverse, or files are unusable (`strict` only).
    """
    if not any(_is_case(folder) for folder in _folders(root)):
        return None
    masks: dict[Path, list[Path]] = {}
    images: dict[Path, list[FoundFile]] = {}
    for file in scan(root, IMAGE_SUFFIXES):
        case = file.path.parent.parent
        if file.path.parent.name.lower() == "masks":
            masks.setdefault(case, []).append(file.path)
        elif file.path.parent.name.lower() == "images":
            images.setdefault(case, []).append(file)
    problems = [
        f"{case}: must hold images/ with one image and masks/ with its objects, got {len(images.get(case, []))} images "
        f"and {len(masks.get(case, []))} masks; complete it or move it away"
        for case in sorted(images.keys() | masks.keys())
        if len(images.get(case, [])) != 1 or not masks.get(case)
    ]
    cases = sorted(case for case in images if len(images[case]) == 1 and masks.get(case))
    found = [_named_after(images[case][0], case) for case in cases]
    entries = []
    for sample, image, case in zip(samples_of(found), found, cases, strict=True):

        def read(image: Path = image.path, case: Path = case) -> tuple[Pixels, Annotation]:
            return _read(image, case, masks[case])

        entries.append(Entry(sample, (image.path, *masks[case]), read))
    return LayoutSource(root, "object masks", entries, problems, strict=strict)


def _folders(root: Path) -> list[Path]:
    """Return the folders in `root` and in its folders for splits."""
    children = [
        child for child in sorted(root.iterdir()) if child.is_dir() and not child.name.startswith(".")
    ]
    if any(_is_case(child) for child in children):
        return children
    return [inner for child in children for inner in sorted(child.iterdir()) if inner.is_dir()]


def _is_case(folder: Path) -> bool:
    if not ((folder / "images").is_dir() and (folder / "masks").is_dir()):
        return False
    images = [path for path in (folder / "images").iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    masks = {path.stem for path in (folder / "masks").iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    return len(images) == 1 and bool(masks) and masks != {images[0].stem}


def _named_after(image: FoundFile, case: Path) -> FoundFile:
    """Return the image under its folder's name."""
    assert image.parts[-1:], case
    return FoundFile(
        image.path, image.split, image.parts[:-1], image.parts[-1], image.is_label, image.is_image
    )


def _read(path: Path, case: Path, masks: list[Path]) -> tuple[Pixels, Annotation]:
    image = read_data_image(path)
    height, width = image.shape[:2]
    if len(masks) > MAX_SHAPES:
        raise DataError(f"{case}: an image may have {MAX_SHAPES} objects, got {len(masks)}; cut it up")
    shapes: list[Shape] = []
    for mask in masks:
        pixels = read_labels(mask)
        if pixels.shape != (height, width):
            raise DataError(
                f"{mask}: a mask must have its image's size {width}x{height}, got {pixels.shape[1]}x{pixels.shape[0]}; "
                "export it again"
            )
        values = np.unique(pixels)
        if len(values[values > 0]) > 1:
            raise DataError(
                f"{mask}: a mask must hold one object, 0 and one other value, got {len(values)} values; "
                "save each object as a mask of its own"
            )
        shapes.append(mask_shape(mask.name, "", pixels > 0))
    return image, paint(shapes, height, width, str(case / "masks"))
