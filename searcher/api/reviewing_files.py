"""Files for a person to correct, of the least certain images first."""

import csv
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searcher.api.predicting_files import check_class_name, check_pixel_size, images_of
from searcher.exceptions import UserError

if TYPE_CHECKING:
    from searcher.bundle.load import Bundle
    from searcher.inference.predictor import Predictor
    from searcher.prediction.file_prediction import FailedImage
    from searcher.prediction.review import ReviewedImage, Voice

__all__ = ["IMAGES", "OBJECTS", "ReviewWish", "check_wish", "review_images", "to_dict"]

IMAGES, OBJECTS = "review.csv", "review-objects.csv"
"""The tables of images and of objects, the least certain first."""
LEAST_REGION_PX = 64


@dataclass(frozen=True, kw_only=True)
class ReviewWish:
    """The user's choice of images, folder and settings for a review."""

    given: Sequence[Path]
    """Images, and folders of them."""
    to: Path
    """A new folder."""
    top: int | None = None
    """How many images are to be corrected; None for all."""
    region_px: int = 1024
    """Side of the region to correct in an image."""
    pixel_size_um: float | None = None
    """Side of a pixel of the images; None as their files say."""
    class_name: str | None = None
    """Class of the objects; None as the bundle says."""


def check_wish(wish: ReviewWish) -> list[Path]:
    """Return the image files of a review, after checking the user's choices; networks are not loaded yet.

    Raises:
        UserError: A choice is invalid, or the images or the folder cannot be used.
    """
    check_pixel_size(wish.pixel_size_um)
    if wish.region_px < LEAST_REGION_PX:
        raise UserError(
            f"--region-px {wish.region_px}: must be at least {LEAST_REGION_PX}, got {wish.region_px}; give the side of "
            "the region to correct in pixels"
        )
    if wish.top is not None and wish.top < 1:
        raise UserError(f"--top {wish.top}: must be at least 1, got {wish.top}; leave it out for all images")
    if os.path.lexists(wish.to) and not (wish.to.is_dir() and not any(wish.to.iterdir())):
        raise UserError(
            f"--to {wish.to}: must be a new folder, since corrections are not to be lost, got one that is there; "
            "choose another path"
        )
    return images_of(wish.given)


def review_images(
    wish: ReviewWish,
    paths: Sequence[Path],
    bundle: "Bundle",
    *,
    done: "Callable[[ReviewedImage | FailedImage], None]",
) -> "list[ReviewedImage]":
    """Write the files to correct, and return the images, the least certain first.

    The folder holds `images/`, `geojson/`, and the tables `IMAGES` and `OBJECTS`. It appears only when everything is
    written.

    Args:
        wish: The user's choices.
        paths: The image files of the wish.
        bundle: The bundle with the networks.
        done: Called with the result of each image.

    Raises:
        UserError: No image can be used, or the folder cannot be written.
    """
    from searcher.prediction.file_prediction import FailedImage, guarded
    from searcher.prediction.review import ReviewedImage, ReviewOptions, review_image

    check_class_name("--class-name", wish.class_name, bundle.class_names)
    predictor, voices = _voices(bundle)
    reviewed: list[ReviewedImage] = []
    try:
        wish.to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=wish.to.parent, prefix=f".{wish.to.name}.") as folder:
            work = Path(folder) / "work"
            for name in ("images", "geojson"):
                (work / name).mkdir(parents=True)
            options = ReviewOptions(
                folder=work / "geojson",
                trained_um=bundle.pixel_size_um,
                pixel_size_um=wish.pixel_size_um,
                class_name=wish.class_name or bundle.class_name,
                class_names=bundle.class_names,
                region_px=wish.region_px,
            )
            for path in paths:
                work_on = partial(review_image, path, predictor, voices, options)
                result: ReviewedImage | FailedImage = guarded(path, wish.to, work_on)
                if isinstance(result, ReviewedImage):
                    reviewed.append(result)
                done(result)
            if not reviewed:
                raise UserError(
                    f"--to {wish.to}: no image could be predicted, got none of {len(paths)}; see above"
                )
            ranked = sorted(reviewed, key=lambda each: (-each.disagreement, each.path.name))
            _finish(work, ranked, wish.top)
            work.replace(wish.to)
    except OSError as error:
        raise UserError(
            f"--to {wish.to}: must be a folder that can be written: {error.strerror or error}; choose another path"
        ) from error
    return ranked


def _voices(bundle: "Bundle") -> "tuple[Predictor, list[Voice]]":
    """Return what predicts as the bundle says, and the predictions that are compared: networks, or mirrored views."""
    from searcher.api.networks import normalise_as_wished
    from searcher.inference.precision import default_device
    from searcher.inference.trained import predictor_of
    from searcher.prediction.review import Voice

    device = default_device()
    models = bundle.models(device)
    alone = [
        predictor_of([network], [model], device=device, tta=False)
        for network, model in zip(bundle.networks, models, strict=True)
    ]
    together = predictor_of(bundle.networks, models, device=device, tta=bundle.manifest.tta)
    for each in (together, *alone):
        each.postprocess = bundle.manifest.postprocess
        normalise_as_wished(each, "bundle", [member.facts.config for member in bundle.members])
    if len(alone) > 1:
        return together, [Voice(each) for each in alone]
    flips = ((False, False), (True, False), (False, True), (True, True))
    return together, [Voice(alone[0], rows, columns) for rows, columns in flips]


def _finish(work: Path, ranked: "Sequence[ReviewedImage]", top: int | None) -> None:
    """Put the images next to their GeoJSON files, leave out those that nobody is to correct, and write the tables."""
    for number, each in enumerate(ranked):
        if top is not None and number >= top:
            (work / "geojson" / each.geojson).unlink()
        else:
            _place(each.path, work / "images" / each.path.name)
    _write_table(work / IMAGES, [to_dict(each, rank) for rank, each in enumerate(ranked, start=1)])
    objects = [found for each in ranked for found in each.objects]
    objects.sort(key=lambda each: (-each.disagreement, each.image, each.label))
    _write_table(
        work / OBJECTS,
        [{"rank": rank, **vars(each)} for rank, each in enumerate(objects, start=1)],
        ("rank", "image", "id", "label", "disagreement", "score", "x", "y"),
    )


def _place(source: Path, target: Path) -> None:
    """Put an image there: the same file under another name where the disk knows how, otherwise a copy."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def to_dict(image: "ReviewedImage", rank: int) -> dict[str, Any]:
    """Return an image's row of `review.csv`, as plain values.

    Args:
        image: The image.
        rank: Its place in the order of review, 1 for the least certain image.
    """
    region = image.region
    return {
        "rank": rank,
        "image": image.path.name,
        "disagreement": round(image.disagreement, 6),
        "objects": len(image.objects),
        "missed": round(image.missed, 6),
        "region_x": region.x,
        "region_y": region.y,
        "region_width": region.width,
        "region_height": region.height,
    }


def _write_table(path: Path, rows: Sequence[dict[str, Any]], names: Sequence[str] = ()) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*names] or [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
