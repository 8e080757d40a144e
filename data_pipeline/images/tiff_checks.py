"""What is looked at in a TIFF file before tifffile may plan anything by it.

A hostile header is easy to write: sizes of 2^31, pages that follow themselves, tiles of no size, or OME-XML that names
any file of the machine. Each is held against what the file has: its length, its tables of tiles, its number of pages.
"""

import struct
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

import tifffile

from searcher.data_pipeline.exceptions import DataError

__all__ = ["check_ome", "check_pages", "check_segments", "jpeg_size"]

_MAX_PAGES = 10_000
_MAX_TAGS = 4096
_CLASSIC_BYTES = 1 << 32
_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_FREE_BYTES = 1 << 28
_MAX_RATIO = 20_000
"""Bytes that one byte of a file may stand for in an image of more than `_FREE_BYTES`."""
_MAX_STEPS = 65_536
_NUM_SHOWN = 80


def check_pages(path: Path) -> None:
    """Check the chain of a TIFF file's pages, without reading the pages.

    Raises:
        ValueError: A page lies outside the file or follows itself, or a tag is longer than the file.
        DataError: There are too many pages.
    """
    num_bytes = path.stat().st_size
    with path.open("rb") as file:
        order = "<" if file.read(2) == b"II" else ">"
        is_big = struct.unpack(f"{order}H", _exactly(file, 2))[0] == 43
        if not is_big and (num_bytes >= _CLASSIC_BYTES or path.suffix.lower() == ".ndpi"):
            return  # Hamamatsu's own way to pages beyond 4 GiB, which only tifffile knows
        if is_big:
            _exactly(file, 4)
        word, width, count, head = ("Q", 8, "Q", 8) if is_big else ("I", 4, "H", 2)
        (offset,) = struct.unpack(f"{order}{word}", _exactly(file, width))
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise ValueError("a page that follows itself")
            if len(seen) >= _MAX_PAGES:
                raise DataError(
                    f"{path}: must have at most {_MAX_PAGES} pages, got more; save one image a file"
                )
            seen.add(offset)
            file.seek(offset)
            (num_tags,) = struct.unpack(f"{order}{count}", _exactly(file, head))
            if num_tags > _MAX_TAGS:
                raise ValueError(f"{num_tags} tags in one page")
            entry = f"{order}HH{word}{width}s"
            tags = _exactly(file, num_tags * struct.calcsize(entry))
            for _, kind, number, _ in struct.iter_unpack(entry, tags):
                if number * _TYPE_BYTES.get(kind, 1) > num_bytes:
                    raise ValueError("a tag that is longer than the file")
            (offset,) = struct.unpack(f"{order}{word}", _exactly(file, width))


def check_segments(path: Path, page: Any, key: Any, num_planes: int) -> None:
    """Check that a page's size agrees with its table of tiles or strips, and with the file's length.

    Args:
        path: The file.
        page: The page that has the table.
        key: The page that states how pixels are encoded.
        num_planes: Number of channels that are stored one after the other, each with tiles or strips of its own.

    Raises:
        ValueError: They do not agree.
    """
    height, width = int(key.imagelength), int(key.imagewidth)
    if min(height, width) < 1:
        raise ValueError(f"an image of {width}x{height} px")
    if int(getattr(key, "imagedepth", 1) or 1) != 1:
        raise ValueError("a volume")
    rows, columns = (
        (int(key.tilelength), int(key.tilewidth))
        if key.is_tiled
        else (min(int(key.rowsperstrip), height), width)
    )
    if min(rows, columns) < 1:
        raise ValueError(f"tiles or strips of {columns}x{rows} px")
    num_there, num_bytes = len(page.dataoffsets), path.stat().st_size
    num_needed = -(-height // rows) * -(-width // columns) * num_planes
    is_raw = int(key.compression) == 1
    if num_there < num_needed and not (is_raw and num_there == 1 and not key.is_tiled):
        raise ValueError(
            f"a header of {width}x{height} px, which are {num_needed} tiles or strips, and {num_there} of them"
        )
    needed_bytes = height * -(-width * int(key.samplesperpixel) * int(key.bitspersample) // 8)
    is_sparse = not all(page.databytecounts)
    if is_raw and not is_sparse and needed_bytes > num_bytes:
        raise ValueError(f"a header of {width}x{height} px, and a file of {num_bytes} bytes: it ends early")
    if needed_bytes > max(_FREE_BYTES, _MAX_RATIO * num_bytes):
        raise ValueError(f"a header of {width}x{height} px, and a file of {num_bytes} bytes")


def check_ome(path: Path, tiff: tifffile.TiffFile) -> None:
    """Check that OME-XML agrees with the file's pages, and does not refer to other files, which are never opened.

    Raises:
        ValueError: The OME-XML counts more planes than there are pages, or defines entities.
        DataError: Planes are in other files.
    """
    xml = tiff.ome_metadata
    if xml is None:
        return
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise ValueError("OME-XML with a document type, which is not read")
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return  # tifffile goes by the pages then
    _check_files(path, root)
    num_pages = len(tiff.pages)
    for element in root.iter():
        name = element.tag.rpartition("}")[2]
        if name == "Pixels":
            _check_planes(path, element, num_pages)
        elif name == "TiffData":
            for key in ("IFD", "NumPlanes", "PlaneCount"):
                if int(element.get(key, 0)) > num_pages:
                    raise ValueError(f"OME-XML with {key} {element.get(key)}, and {num_pages} pages")
        elif name.startswith("Along") and "Start" in element.attrib:
            start, end, step = (float(element.get(key, 1)) for key in ("Start", "End", "Step"))
            if not step or not abs((end - start) / step) <= _MAX_STEPS:
                raise ValueError("OME-XML with an axis of too many steps")


def _check_files(path: Path, root: ElementTree.Element) -> None:
    own = root.get("UUID")
    for element in root.iter():
        name = element.tag.rpartition("}")[2]
        if name == "BinaryOnly":
            raise _in_other_files(path, element.get("MetadataFile", ""))
        if name == "UUID":
            file = element.get("FileName", "")
            if own is None and file.lower() == path.name.lower():
                own = element.text
            elif element.text != own or own is None:
                raise _in_other_files(path, file)


def _in_other_files(path: Path, name: str) -> DataError:
    return DataError(
        f"{path}: an OME-TIFF must hold all of its planes, got one that names another file, {name[:_NUM_SHOWN]!a}; "
        "save it as one file"
    )


def _check_planes(path: Path, pixels: ElementTree.Element, num_pages: int) -> None:
    sizes = [int(pixels.get(f"Size{axis}", 1)) for axis in "CZT"]
    samples = next(
        (int(each.get("SamplesPerPixel", 1)) for each in pixels if each.tag.endswith("Channel")), 1
    )
    if min(*sizes, samples) < 1 or samples > sizes[0]:
        raise ValueError(f"OME-XML with sizes {sizes} and {samples} samples per pixel")
    num_planes = sizes[0] // samples * sizes[1] * sizes[2]
    if num_planes > num_pages:
        raise DataError(f"{path}: all planes must be there, got {num_pages} of {num_planes}; export it again")


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return the height and width in the header of a JPEG stream; None if it has none."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        at += 2 + length
    return None


def _exactly(file: IO[bytes], num_bytes: int) -> bytes:
    data = file.read(num_bytes)
    if len(data) < num_bytes:
        raise ValueError("the file ends early")
    return data
