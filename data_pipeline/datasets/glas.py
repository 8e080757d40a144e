"""The GlaS contest's release folder (Sirinukunwattana et al. 2016, arXiv 1603.00275)."""

import logging
import re
from pathlib import Path

from searcher.data_pipeline.datasets.folder import PairedFolder, SamplePaths
from searcher.data_pipeline.datasets.samples import SPLITS, Sample
from searcher.data_pipeline.datasets.tables import GRADES_FILE, read_grades
from searcher.data_pipeline.images import images_by_stem, read_header, single_files

__all__ = ["GlasFolder"]

logger = logging.getLogger(__name__)

_IMAGE_NAME = re.compile(rf"({'|'.join(SPLITS)})_(\d+)")
_ANNOTATION_SUFFIX = "_anno"
_NUM_TRAIN = 85
_FIRST_SIZE = (522, 775)  # height, width
_LICENCE = (
    "GlaS challenge data: for research only, not for commercial use; cite Sirinukunwattana et al. 2016 "
    "(arXiv 1603.00275)."
)


class GlasFolder(PairedFolder):
    """A data set in the layout of the GlaS challenge's release; a `SampleSource`.

    The files are `train_1.bmp`, `train_1_anno.bmp`, .., `testA_1.bmp`, .., `Grade.csv`; also png and tif. Groups are
    the patients and strata are the grades in `Grade.csv`. Without that file, every image is its own group.

    Args:
        root: The folder.
        strict: See `PairedFolder`.

    Raises:
        DataError: Every missing, mis-sized or unusable file and every gap in `Grade.csv`, one line each.
    """

    kind = "glas"

    def __init__(self, root: Path, *, strict: bool = True) -> None:
        files, problems = single_files(images_by_stem(root))
        images = {stem: path for stem, path in files.items() if _IMAGE_NAME.fullmatch(stem)}
        self._warn_of_strangers(root, files)
        for stem in sorted(files.keys() - images.keys()):
            if _is_of_release(stem) and stem.removesuffix(_ANNOTATION_SUFFIX) not in images:
                problems.append(
                    f"{files[stem]}: every annotation needs its image, got none; add it or move this away"
                )
        patients, grade_problems = read_grades(root)
        problems += grade_problems
        pairs = []
        for stem in sorted(images, key=_release_order):
            annotation = files.get(stem + _ANNOTATION_SUFFIX)
            if annotation is None:
                problems.append(
                    f"{images[stem]}: every image needs {stem}{_ANNOTATION_SUFFIX}.*, got none; "
                    "add the annotation or move the image away"
                )
            if patients is not None and stem not in patients:
                if not grade_problems:
                    problems.append(
                        f"{root / GRADES_FILE}: every image needs a row, got none for {stem}; "
                        "add it, or remove the file to go without patients"
                    )
            elif annotation is not None:
                group, stratum = (stem, "") if patients is None else patients[stem]
                sample = Sample(stem, stem.partition("_")[0], group, stratum)
                pairs.append(SamplePaths(sample, images[stem], annotation))
        super().__init__(root, pairs, problems, strict=strict)

    @property
    def is_the_release(self) -> bool:
        """Whether the training images are the challenge's own, and not other images in the same layout.

        They are recognised by their number, their names and the size of the first.
        """
        train = {pair.sample.id: pair.image for pair in self._pairs if pair.sample.split == "train"}
        if train.keys() != {f"train_{number}" for number in range(1, _NUM_TRAIN + 1)}:
            return False
        first = read_header(train["train_1"])
        return (first.height, first.width) == _FIRST_SIZE

    @property
    def licence(self) -> str:
        """The licence of the challenge's images; empty for other images in this layout."""
        return _LICENCE if self.is_the_release else ""

    @property
    def pixel_size_um(self) -> float | None:
        """Side of a pixel of the challenge's images in micrometres (20x); None for other images in this layout."""
        return 0.62005 if self.is_the_release else None

    @staticmethod
    def recognises(root: Path) -> bool:
        """Return whether a folder holds an image or annotation named as in the GlaS release."""
        return any(_is_of_release(stem) for stem in images_by_stem(root))

    @staticmethod
    def _warn_of_strangers(root: Path, files: dict[str, Path]) -> None:
        strangers = [path.name for stem, path in files.items() if not _is_of_release(stem)]
        if strangers:
            shown = ", ".join(strangers[:5]) + (", .." if len(strangers) > 5 else "")
            logger.warning(
                "%s: left out %d images with no name of the release: %s", root, len(strangers), shown
            )


def _is_of_release(stem: str) -> bool:
    return _IMAGE_NAME.fullmatch(stem.removesuffix(_ANNOTATION_SUFFIX)) is not None


def _release_order(stem: str) -> tuple[int, int]:
    match = _IMAGE_NAME.fullmatch(stem)
    assert match is not None, stem
    return SPLITS.index(match[1]), int(match[2])
