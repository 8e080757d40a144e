"""`searcher.review`: images that a person is to correct, the least certain first."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.api.arguments import PathLike
from searcher.api.progress import ProgressLine
from searcher.api.reviewing_files import ReviewWish, check_wish, review_images
from searcher.api.words import in_python

if TYPE_CHECKING:
    from searcher.prediction.file_prediction import FailedImage
    from searcher.prediction.review import ReviewedImage

__all__ = ["review"]

logger = logging.getLogger(__name__)


@in_python
def review(
    bundle: PathLike,
    images: PathLike | Sequence[PathLike],
    to: PathLike,
    *,
    top: int | None = None,
    region_px: int = 1024,
    pixel_size_um: float | None = None,
    class_name: str | None = None,
    progress: bool = False,
) -> "list[ReviewedImage]":
    """Rank images and their objects by how much networks disagree, and write files to correct in QuPath.

    The same as `searcher review`. The networks of a bundle are compared with their mean. If there is only one, four
    mirrored views of the image are compared.

    Args:
        bundle: Folder of the bundle.
        images: Files or folders of files, as for `predict_files`.
        to: New folder with `images/`, `geojson/`, `review.csv` and `review-objects.csv`. After correction,
            `searcher.import_dataset` imports it.
        top: Number of images to write for correction; None for all.
        region_px: Side of the region to correct, in pixels; smaller images are corrected whole.
        pixel_size_um: Side of a pixel of the images in micrometres; None to use the size that each file states.
        class_name: Class of the objects; None for that of the bundle.
        progress: Whether to show a progress bar on standard error.

    Returns:
        The images, the least certain first. An image that cannot be used is logged and left out.

    Raises:
        UserError: The bundle, the images or the folder cannot be used.
    """
    from searcher.bundle.load import load_bundle
    from searcher.prediction.file_prediction import FailedImage

    given = [images] if isinstance(images, str | os.PathLike) else images
    wish = ReviewWish(
        given=[Path(each) for each in given],
        to=Path(to),
        top=top,
        region_px=region_px,
        pixel_size_um=pixel_size_um,
        class_name=class_name,
    )
    paths, num_done = check_wish(wish), 0
    line = ProgressLine(progress)

    def done(result: "ReviewedImage | FailedImage") -> None:
        nonlocal num_done
        num_done += 1
        line.show("images", num_done, len(paths))
        if isinstance(result, FailedImage):
            logger.warning("%s", result.reason, exc_info=result.unforeseen)

    try:
        return review_images(wish, paths, load_bundle(Path(bundle)), done=done)
    finally:
        line.end()
