"""Image files to predict: which are named, which are left to do, and what is written of each."""

import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.api.predictions_table import SUMMARY, PredictionsTable, read_table, row_key
from searcher.claims import claimed
from searcher.exceptions import UserError

if TYPE_CHECKING:
    from searcher.inference.predictor import Predictor
    from searcher.prediction.file_prediction import FailedImage, Options, PredictedImage, Progress

__all__ = [
    "PredictWish",
    "check_class_name",
    "check_glass",
    "check_pixel_size",
    "images_of",
    "images_to_predict",
    "predict_files",
    "wanted_outputs",
]


@dataclass(frozen=True, kw_only=True)
class PredictWish:
    """The user's choice of images, outputs and folder for a prediction."""

    given: Sequence[Path]
    """Files, and folders of them."""
    to: Path
    """Folder of the outputs."""
    outputs: Sequence[str]
    """Of `searcher.prediction.outputs.OUTPUTS`."""
    force: bool = False
    """Whether outputs that are there are replaced."""
    skip_existing: bool = False
    """Whether images are left out whose outputs are there."""


def predict_files(
    wish: PredictWish,
    paths: Sequence[Path],
    predictor: "Predictor",
    options: "Options",
    *,
    begun: Callable[[int], None],
    done: Callable[["PredictedImage | FailedImage"], "PredictedImage | FailedImage"],
    progress: "Progress | None",
    problem: Callable[[str], None],
) -> "list[PredictedImage | FailedImage]":
    """Predict the images whose outputs are missing, update the table of images, and return each image's result.

    Args:
        wish: The user's choices.
        paths: All images of the wish, see `images_of`.
        predictor: The networks.
        options: Settings that are the same for every image.
        begun: Called with the number of images to predict, before the first.
        done: Called with the result of each image; returns what to keep of it.
        progress: Receives the progress within an image; None for nobody.
        problem: Receives a line about problems of the table of images.

    Raises:
        UserError: The folder of outputs cannot be used, or another process writes into it.
    """
    from searcher.prediction.file_prediction import PredictedImage, predict_images

    results: list[PredictedImage | FailedImage] = []
    with _claimed_folder(wish.to):
        todo = images_to_predict(wish, paths)  # nobody else writes there from here on
        with closing(
            PredictionsTable(wish.to / SUMMARY, [each.name for each in todo], options.class_names)
        ) as table:
            if table.moved is not None:
                aside, why = table.moved
                problem(
                    f"{wish.to / SUMMARY}: must be the table of images that searcher predict writes, got {why}; it "
                    f"is kept as {aside.name}, and a new table is begun"
                )
            begun(len(todo))

            def one_is_done(result: "PredictedImage | FailedImage") -> None:
                results.append(done(result))
                if isinstance(result, PredictedImage):
                    table.add(result.name, result.to_dict())

            predict_images(todo, predictor, options, done=one_is_done, progress=progress)
    return results


@contextmanager
def _claimed_folder(folder: Path) -> Iterator[None]:
    """Create the folder of outputs, and keep other processes out of it while the body runs.

    Processes of a job array get a folder each: two in one would decide about the same images and the same table.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(claimed(folder, f"--to {folder}"))
        except OSError as error:
            raise UserError(
                f"--to {folder}: must be a folder that can be written: {error.strerror or error}; choose another path"
            ) from error
        yield


def check_class_name(option: str, class_name: str | None, class_names: Sequence[str]) -> None:
    """Raise an error if one class is given for all objects, but the networks predict the class of each object.

    Args:
        option: Name of the option, for the message.
        class_name: The class that the user gave; None if not given.
        class_names: Names of the classes that the networks distinguish; empty if they learned none.

    Raises:
        UserError: A class is given, and the networks learned classes.
    """
    if class_name is not None and class_names:
        raise UserError(
            f"{option} {class_name}: must be for a bundle without classes, got one that tells "
            f"{', '.join(class_names)} apart; leave it out"
        )


def check_glass(predictor: "Predictor", *, skips: bool) -> None:
    """Raise an error if the user wants to skip glass, but the networks are not for bright-field images.

    Args:
        predictor: The networks.
        skips: Whether the user wants to skip glass.

    Raises:
        UserError: The networks are for images of another kind.
    """
    if skips and not predictor.kind.is_colour:
        raise UserError(
            "--skip-glass: must be for a bundle of colour images in bright field, got one of other images; leave it out"
        )


def check_pixel_size(pixel_size_um: float | None) -> None:
    """Raise an error if the side of a pixel is implausible; None is valid.

    Raises:
        UserError: The size is outside `PIXEL_SIZES_UM`.
    """
    from searcher.prediction.file_prediction import PIXEL_SIZES_UM

    least, most = PIXEL_SIZES_UM
    if pixel_size_um is not None and not least <= pixel_size_um <= most:
        raise UserError(
            f"--pixel-size-um {pixel_size_um:g}: must be from {least:g} to {most:g} micrometres, got "
            f"{pixel_size_um:g}; give the side of a pixel in micrometres"
        )


def wanted_outputs(text: str) -> list[str]:
    """Return the kinds of outputs in a text such as `labels,csv`.

    Raises:
        UserError: There is no output of that name.
    """
    from searcher.prediction.outputs import OUTPUTS

    wanted = list(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [name for name in wanted if name not in OUTPUTS]
    if unknown:
        raise UserError(
            f"--outputs {text}: must be of {', '.join(OUTPUTS)}, got {unknown[0] or 'an empty name'}"
        )
    return wanted


def images_of(given: Sequence[Path]) -> list[Path]:
    """Return the image files that the user named, including those in named folders, in the order given.

    Raises:
        UserError: A file does not exist, a folder cannot be read or has no image, or two images have the same output
            names.
    """
    paths: list[Path] = []
    for path in given:
        try:
            paths += _images_at(path)
        except OSError as error:
            raise UserError(
                f"{path}: must be an image or a folder of images that can be read: {error.strerror or error}; change "
                "its mode, or name another one"
            ) from error
    by_name: dict[str, Path] = {}
    for path in paths:
        other = by_name.setdefault(unicodedata.normalize("NFC", path.stem).casefold(), path)
        if other is not path:
            raise UserError(
                f"{path}: images must have different names without extension, since outputs are called after them, "
                f"got {other} too; rename one, or predict it into another folder"
            )
    return paths


def _images_at(path: Path) -> list[Path]:
    from searcher.prediction.images import images_in

    if path.is_dir():
        found = images_in(path)
        if not found:
            raise UserError(f"{path}: must hold images, got none directly in it; name another folder")
        return found
    if not path.is_file():
        raise UserError(f"{path}: must be an image or a folder of images, got nothing; check the path")
    return [path]


def images_to_predict(wish: PredictWish, paths: Sequence[Path]) -> list[Path]:
    """Return the images that are still to be predicted.

    Args:
        wish: The user's choices.
        paths: All images of the wish.

    Raises:
        UserError: The folder cannot hold outputs, has outputs that the user neither replaces nor keeps, or has images
            that outputs would replace.
    """
    from searcher.prediction.outputs import output_paths

    folder = wish.to
    try:
        _check_folder(folder, wish.given)
        written = {path: list(output_paths(folder, path.stem, wish.outputs).values()) for path in paths}
        _check_inputs_stay(folder, written)
    except OSError as error:
        raise UserError(
            f"--to {folder}: must be a folder that can be written: {error.strerror or error}; choose another path"
        ) from error
    if wish.force:
        return list(paths)
    are_there = {path: [os.path.lexists(output) for output in written[path]] for path in paths}
    if wish.skip_existing:
        rows = read_table(folder / SUMMARY).rows
        return [path for path in paths if row_key(path.name) not in rows or not all(are_there[path])]
    partly = [path for path in paths if any(are_there[path])]
    if partly:
        raise UserError(
            f"--to {folder}: must hold no outputs of the images yet, got those of {partly[0].name}"
            f"{f' and {len(partly) - 1} more' if len(partly) > 1 else ''}; go on with --skip-existing, or replace "
            "them with --force"
        )
    return list(paths)


def _check_folder(folder: Path, given: Sequence[Path]) -> None:
    if os.path.lexists(folder) and not folder.is_dir():
        raise UserError(f"--to {folder}: must be a folder, got a file; choose another path")
    if folder.resolve() in {path.resolve() for path in given if path.is_dir()}:
        raise UserError(
            f"--to {folder}: must not be a folder of images to predict: outputs would be taken for images next time; "
            "choose another folder"
        )


def _check_inputs_stay(folder: Path, written: dict[Path, list[Path]]) -> None:
    resolved, images = folder.resolve(), {path.resolve() for path in written}
    for path, outputs in written.items():
        for output in outputs:
            if resolved / output.name in images:
                raise UserError(
                    f"--to {folder}: must not have images to predict that outputs replace, got {output.name}, which "
                    f"{path.name} would; choose another folder"
                )
