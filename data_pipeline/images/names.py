"""Which files of a folder are images or label maps, by their names, and which belong together."""

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path

from searcher.data_pipeline.exceptions import DataError

__all__ = [
    "IMAGE_SUFFIXES",
    "LABEL_SUFFIXES",
    "TIFF_SUFFIXES",
    "images_by_stem",
    "images_in",
    "is_data_file",
    "label_maps_in",
    "same_name",
    "single_files",
    "subfolder",
    "unusable_entries",
    "without_marks",
]

PLAIN = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".btf", ".tf2", ".tf8"})
SLIDES_TIFFFILE_READS = frozenset({".svs", ".ndpi", ".scn", ".bif"})
SLIDES = SLIDES_TIFFFILE_READS | {".mrxs", ".vms", ".vmu", ".svslide", ".czi"}
IMAGE_SUFFIXES = PLAIN | TIFF_SUFFIXES | SLIDES
"""What names of image files end in, in lower case."""
LABEL_SUFFIXES = frozenset({".png", ".bmp", ".npy", ".npz"}) | TIFF_SUFFIXES
"""What names of label maps end in, in lower case."""

_LABEL_MARKS = (
    "_anno", "_annotation", "_annotations", "_mask", "_masks", "_cp_masks", "_label", "_labels", "_labelmap",
    "_labelled", "_labeled", "_seg", "_segmentation", "_inst", "_instance", "_instances", "_gt", "_truth",
)  # fmt: skip
"""What programs add to an image's name when they name its label map, longest match first; `.` and `-` do for `_`."""
_OME = ".ome"
"""What OME-TIFF has before its ending, which is no part of an image's name."""
_PREDICTED, _OVERLAY = ".labels", ".overlay"
"""As `searcher predict` names what it writes."""
_ANNOTATION = "_anno"
"""As the GlaS release names its label maps."""


def same_name(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), so that equal names compare equal on all systems.

    macOS decomposes letters with accents, other systems compose them.
    """
    return unicodedata.normalize("NFC", name)


def is_data_file(path: Path, suffixes: Collection[str]) -> bool:
    """Return whether a path is a file that is not hidden and whose name ends in one of the suffixes.

    Capitals in the ending are ignored. Folders, pipes, sockets and devices are no data files.
    """
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()


def subfolder(root: Path, name: str) -> Path | None:
    """Return the folder in `root` with that name, ignoring case; None if there is none.

    Raises:
        DataError: Several folders match, even if one of them matches exactly.
    """
    found = [
        path for path in sorted(root.iterdir()) if path.name.casefold() == name.casefold() and path.is_dir()
    ]
    if len(found) > 1:
        raise DataError(
            f"{root}: must hold one folder {name}, got {', '.join(path.name for path in found)}; keep one of them"
        )
    return found[0] if found else None


def unusable_entries(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[str]:
    """Return a line for each entry with an image's ending that is no file: a folder, a pipe, a broken link."""
    return [
        f"{path}: must be a file, got {what_is(path)}; replace it or move it away"
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and not path.is_file()
    ]


def what_is(path: Path) -> str:
    """Return a phrase such as `a folder` or `a link to nothing` for a path that is no file."""
    if path.is_symlink() and not path.exists():
        return "a link to nothing"
    for what in ("dir", "fifo", "socket", "block_device", "char_device"):
        if getattr(path, f"is_{what}")():
            return {"dir": "a folder", "fifo": "a pipe"}.get(what, f"a {what.replace('_', ' ')}")
    return "something else"


def images_in(folder: Path) -> list[Path]:
    """Return the image files directly in a folder, sorted by name; hidden files are left out."""
    return [path for path in sorted(folder.iterdir()) if is_data_file(path, IMAGE_SUFFIXES)]


def images_by_stem(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> dict[str, list[Path]]:
    """Return the image files directly in a folder by their name without ending; hidden files are left out.

    Names that differ only in their Unicode form are the same.
    """
    return _by_stem(path for path in sorted(folder.iterdir()) if is_data_file(path, suffixes))


def single_files(found: dict[str, list[Path]]) -> tuple[dict[str, Path], list[str]]:
    """Return one file for each stem, and a line for each stem with several files.

    Args:
        found: The files by their name without ending (stem), as `images_by_stem` returns.
    """
    problems = [
        f"{paths[0].parent}: {stem} must be one file, got {', '.join(p.name for p in paths)}; keep one of them"
        for stem, paths in found.items()
        if len(paths) > 1
    ]
    return {stem: paths[0] for stem, paths in found.items()}, problems


def label_maps_in(folder: Path, images: Collection[str] | None = None) -> dict[str, list[Path]]:
    """Return the label maps directly in a folder, by the name of the image to which each belongs.

    `x_mask.png`, `x.labels.tif` and `x_anno.bmp` belong to image `x`. A file `x.png` next to one of the last two is the
    image, and is left out. So are the overlays of `searcher predict`.

    Args:
        folder: The folder.
        images: Names of the images, if they are known. A file with the name of an image is its label map, with or
            without such an ending.
    """
    files = images_by_stem(folder, LABEL_SUFFIXES)
    known = {same_name(name) for name in images or ()}
    folded = {name.casefold(): name for name in known}
    name_of = {stem: stem if stem in known else _unmarked(stem, known) for stem in files}
    for stem, name in name_of.items():  # Windows does not tell capitals apart, and programs there change them
        if known and name not in known and folded.get(name.casefold(), name) not in files:
            name_of[stem] = folded.get(name.casefold(), name)
    _join_ome(name_of, known)
    predicted = {name for stem, name in name_of.items() if stem == name + _PREDICTED}
    pictures = predicted | {name + _OVERLAY for name in predicted}
    pictures |= {name for stem, name in name_of.items() if stem == name + _ANNOTATION}
    by_name: dict[str, list[Path]] = defaultdict(list)
    for stem, paths in files.items():
        claiming = [path for path in paths if stem not in pictures or path.suffix.lower() in {".npy", ".npz"}]
        if claiming:
            by_name[name_of[stem]] += claiming
    return dict(by_name)


def _join_ome(name_of: dict[str, str], known: Collection[str]) -> None:
    """Let label maps be of images whose names differ from theirs by `.ome` alone, where no other one is of them.

    Args:
        name_of: The image's name by that of the label map; changed in place.
        known: Names of the images.
    """
    taken, bare = set(name_of.values()), defaultdict(list)
    for name in known:
        bare[_without_ome(name)].append(name)
    for stem, name in name_of.items():
        found = bare.get(_unmarked(_without_ome(stem), bare), []) if name not in known else []
        if len(found) == 1 and found[0] not in taken:
            name_of[stem] = found[0]


def _without_ome(stem: str) -> str:
    return stem[: -len(_OME)] if stem.lower().endswith(_OME) else stem


def without_marks(stem: str) -> str:
    """Return a label map's name without parts such as `_mask`; another name is returned unchanged."""
    return _unmarked(stem, ())


def _unmarked(stem: str, known: Collection[str]) -> str:
    """Return a label map's name without what says that it is one; of known images' names, one that it leads to."""
    shorter = stem
    folded = {name.casefold() for name in known}
    while (cut := _without_mark(shorter)) != shorter:
        shorter = cut
        if shorter.casefold() in folded:
            return shorter
    return stem if known else shorter


def _without_mark(stem: str) -> str:
    folded = stem.lower()
    for mark in sorted(_LABEL_MARKS, key=len, reverse=True):
        for joint in "_.-":
            if folded.endswith(joint + mark[1:]) and len(stem) > len(mark):
                return stem[: -len(mark)]
    return stem


def _by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        found[same_name(path.stem)].append(path)
    return dict(found)
