"""What `searcher predict` is to work on: the images that are named, those left to do, and what is written of them."""

import argparse
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from searcher.cli.predictions_table import SUMMARY, read_table, row_key
from searcher.exceptions import UserError

__all__ = ["images_of", "images_to_predict", "wanted_outputs"]


def wanted_outputs(text: str) -> list[str]:
    """Return the outputs that are wanted.

    Raises:
        UserError: There is no such output.
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
    """Return the images that are named, those of folders included, in the order given.

    Raises:
        UserError: One does not exist, a folder cannot be read or has none, or two have outputs of the same name.
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


def images_to_predict(args: argparse.Namespace, paths: Sequence[Path], outputs: Sequence[str]) -> list[Path]:
    """Return the images that are to be predicted.

    Args:
        args: The command line.
        paths: All images that it names.
        outputs: What is to be written of each.

    Raises:
        UserError: The folder of outputs cannot be that, has outputs that nobody said what to do with, or images that
            outputs would replace.
    """
    from searcher.prediction.outputs import output_paths

    folder: Path = args.to
    try:
        _check_folder(folder, args.images)
        written = {path: list(output_paths(folder, path.stem, outputs).values()) for path in paths}
        _check_inputs_stay(folder, written)
    except OSError as error:
        raise UserError(
            f"--to {folder}: must be a folder that can be written: {error.strerror or error}; choose another path"
        ) from error
    if args.force:
        return list(paths)
    are_there = {path: [os.path.lexists(output) for output in written[path]] for path in paths}
    if args.skip_existing:
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
