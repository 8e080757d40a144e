"""Image and annotation files: cheap checks of their headers, and decoding.

Pillow reads both: it opens a file without decoding it, and leaves the indices of a palette image, which are
the labels, as they are (OpenCV would turn them into colours).
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_pipeline.exceptions import DataError

__all__ = [
    "MAX_LABELS",
    "decode_image",
    "decode_label_map",
    "decode_labels",
    "grey_channel",
    "images_by_stem",
    "pair_problems",
    "single_files",
]

MAX_LABELS = 65535
"""Most instances that one image may have."""

_EXTENSIONS = {".bmp", ".png", ".tif", ".tiff"}
_IMAGE_MODES = {"RGB", "RGBA", "L", "P"}
_LABEL_MODES = {"L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N"}


def images_by_stem(folder: Path, more: Collection[str] = ()) -> dict[str, list[Path]]:
    """Return the image files directly in `folder` by name without extension; hidden files are left out.

    Args:
        folder: Where to look.
        more: Extensions that count as well, such as `.npy`.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if (
            path.suffix.lower() in _EXTENSIONS.union(more)
            and not path.name.startswith(".")
            and path.is_file()
        ):
            found[path.stem].append(path)
    return dict(found)


def single_files(found: dict[str, list[Path]]) -> tuple[dict[str, Path], list[str]]:
    """Return one file per stem, and a line for every stem that several files claim."""
    problems = [
        f"{paths[0].parent}: {stem} must be one file, got {', '.join(p.name for p in paths)}; keep one of them"
        for stem, paths in found.items()
        if len(paths) > 1
    ]
    return {stem: paths[0] for stem, paths in found.items()}, problems


def pair_problems(image: Path, annotation: Path) -> list[str]:
    """Return what the headers of an image and its annotation tell is wrong, one line each; decodes nothing."""
    problems: list[str] = []
    sizes: list[tuple[int, int]] = []
    for path, check in ((image, _check_image_mode), (annotation, _check_label_mode)):
        try:
            with _open(path) as opened:
                check(path, opened)
                sizes.append(opened.size)
        except DataError as error:
            problems.extend(error.problems)
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        (width, height), (anno_width, anno_height) = sizes
        problems.append(
            f"{annotation}: an annotation must have its image's size {width}x{height}, "
            f"got {anno_width}x{anno_height}; export it again at the image's own resolution"
        )
    return problems


def decode_image(path: Path, content: bytes | None = None) -> NDArray[np.uint8]:
    """Return the image as uint8[H, W, 3], RGB. Grey becomes three equal channels; transparency is dropped.

    Args:
        path: The file.
        content: Its bytes, for who has read them already; None reads them.

    Raises:
        DataError: The file does not decode, or is not 8 bit grey or colour.
    """
    with _open(path, content) as opened:
        _check_image_mode(path, opened)
        return np.ascontiguousarray(_decoded(path, opened, "RGB"), dtype=np.uint8)


def decode_labels(path: Path, content: bytes | None = None) -> NDArray[np.int32]:
    """Return the annotation as int32[H, W]: 0 background, other values as they are in the file.

    Args:
        path: The file.
        content: Its bytes, for who has read them already; None reads them.

    Raises:
        DataError: The file does not decode, is no single-channel label map of 8 to 32 bits, has a label
            that does not fit, or more than `MAX_LABELS` different ones.
    """
    with _open(path, content) as opened:
        _check_label_mode(path, opened)
        labels = _decoded_labels(path, opened)
    if labels.max() > MAX_LABELS:
        num_labels = np.unique(labels).size - 1
        if num_labels > MAX_LABELS:
            raise DataError(
                f"{path}: an image may have {MAX_LABELS} instances, got {num_labels}; cut it into smaller ones"
            )
    return labels


def decode_label_map(path: Path) -> NDArray[np.int32]:
    """Return a label map that any program wrote as int32[H, W]: 0 background, other values as they are in the file.

    Unlike an annotation of a data set it may have any number of labels, and be a colour picture, as some programs
    write no other, if it is grey: red, green and blue equal everywhere, and no transparency.

    Raises:
        DataError: The file does not decode, or is no integer label map of 8 to 32 bits.
    """
    with _open(path) as opened:
        if opened.mode in ("RGB", "RGBA"):
            grey = grey_channel(_decoded(path, opened, None))
            if grey is not None:
                return grey.astype(np.int32)
        _check_label_mode(path, opened, "a label map")
        return _decoded_labels(path, opened)


def grey_channel(pixels: NDArray[Any]) -> NDArray[Any] | None:
    """Return [H, W], the channel of a grey picture in colour; None if the colours differ or it is not opaque.

    Args:
        pixels: integer[H, W, 3 or 4].
    """
    grey: NDArray[Any] = pixels[..., 0]
    if (pixels[..., 1:3] != grey[..., None]).any() or (pixels[..., 3:] != np.iinfo(pixels.dtype).max).any():
        return None
    return grey


@contextmanager
def _open(path: Path, content: bytes | None = None) -> Iterator[Image.Image]:
    """Open the header; whatever goes wrong with a file, here or while it is open, is a DataError naming it."""
    try:
        with Image.open(path if content is None else BytesIO(content)) as opened:
            yield opened
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: the image is too large to be decoded whole ({error}); cut it up") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file must exist, got nothing; restore it") from error
    except PermissionError as error:
        raise DataError(
            f"{path}: the file must be readable, got permission denied; change its mode"
        ) from error
    except Exception as error:  # Pillow's plugins raise nearly anything (SyntaxError, struct.error, ...) here
        raise DataError(
            f"{path}: the file must decode as an image, got {_one_line(error)}; replace the file"
        ) from error


def _decoded_labels(path: Path, opened: Image.Image) -> NDArray[np.int32]:
    labels = _decoded(path, opened, None).astype(np.int32)
    if labels.min() < 0:
        # Pillow reads unsigned 32-bit values as signed ones, so this is also what a label above 2^31 gives.
        raise DataError(
            f"{path}: labels must lie in 0..{np.iinfo(np.int32).max}, got {labels.min()} (read as signed "
            f"32 bit); number the instances from 1"
        )
    return labels


def _decoded(path: Path, opened: Image.Image, mode: str | None) -> NDArray[np.generic]:
    frames = getattr(opened, "n_frames", 1)
    if frames != 1:
        raise DataError(f"{path}: a file must hold one image, got {frames} pages; save them as single files")
    return np.asarray(opened.convert(mode) if mode and opened.mode != mode else opened)


def _check_image_mode(path: Path, opened: Image.Image) -> None:
    if opened.mode not in _IMAGE_MODES:
        raise DataError(
            f"{path}: an image must be 8 bit colour or grey, got mode {opened.mode}; convert it to 8 bit RGB"
        )


def _check_label_mode(path: Path, opened: Image.Image, what: str = "an annotation") -> None:
    if opened.mode in _LABEL_MODES:
        return
    got = {"F": "floating point", "1": "1 bit"}.get(opened.mode, f"{len(opened.getbands())} channels")
    raise DataError(
        f"{path}: {what} must be a single-channel integer label map of 8 to 32 bits, got {got} "
        f"(mode {opened.mode}); save it as a 16 bit PNG with one number per instance"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
