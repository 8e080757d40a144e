"""Image files of any size as rasters.

| files | read by | memory |
|---|---|---|
| png, jpg, bmp | Pillow, whole, up to 64 million pixels | 7 bytes for each pixel |
| larger ones | in bands, once, into a scratch file (`searcher.prediction.bands`) | a band |
| tif, OME-TIFF, tiled, pyramidal or in strips | tifffile (`searcher.prediction.tiff`) | its tiles' cache |
| svs, ndpi, mrxs and others | OpenSlide; svs, ndpi, scn and bif by tifffile where that is missing | a window |

Pixels are taken as they are stored, as in training: an orientation in EXIF is not followed, so that coordinates are
those of the file. Transparency is dropped, grey becomes three equal channels. A pixel size comes from OME-XML, a
slide's own metadata or a TIFF's resolution; what png, jpg and bmp say is about printing.
"""

from pathlib import Path

from data_pipeline.datasets.files import decode_image
from searcher.exceptions import UserError
from searcher.prediction.bands import decode_into_scratch, opened_at_any_size
from searcher.prediction.raster import ArrayRaster, Raster, decoding

__all__ = ["EXTENSIONS", "images_in", "open_image"]

_PLAIN = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
_TIFF = frozenset({".tif", ".tiff", ".btf", ".tf2", ".tf8"})
_SLIDES_TIFFFILE_READS = frozenset({".svs", ".ndpi", ".scn", ".bif"})
_SLIDES = _SLIDES_TIFFFILE_READS | {".mrxs", ".vms", ".vmu", ".svslide", ".czi"}
EXTENSIONS = _PLAIN | _TIFF | _SLIDES
"""What names of image files end in, in lower case."""
_IN_MEMORY_PX = 1 << 26


def images_in(folder: Path) -> list[Path]:
    """Return the image files directly in a folder, by name; hidden files are left out."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    ]


def open_image(path: Path, scratch_folder: Path) -> Raster:
    """Open an image; its pixels are read later, window by window.

    Args:
        path: The file; its name tells how it is read.
        scratch_folder: Where there is room for a large image that can only be decoded as a whole.

    Raises:
        UserError: The file does not decode, or is no 8 bit image in grey or colour.
        OSError: No room for it.
    """
    suffix = path.suffix.lower()
    if suffix not in EXTENSIONS:
        known = ", ".join(sorted(each.removeprefix(".") for each in EXTENSIONS))
        raise UserError(f"{path}: must be an image with one of the endings {known}; convert it")
    if not path.is_file():
        raise UserError(f"{path}: the file must exist, got nothing; check the path")
    if suffix in _SLIDES:
        from searcher.prediction.slides import open_slide

        slide = open_slide(path)
        if slide is not None:
            return slide
        if suffix not in _SLIDES_TIFFFILE_READS:
            raise UserError(
                f"{path}: OpenSlide must be installed to read {suffix.removeprefix('.')} slides; "
                "pip install 'gland-searcher[slides]'"
            )
    if suffix not in _PLAIN:
        from searcher.prediction.tiff import open_tiff

        return open_tiff(path, scratch_folder, in_memory_px=_IN_MEMORY_PX)
    return _open_plain(path, scratch_folder)


def _open_plain(path: Path, scratch_folder: Path) -> Raster:
    with decoding(path):
        if _num_pixels(path) <= _IN_MEMORY_PX:
            return ArrayRaster(decode_image(path))
        return decode_into_scratch(path, scratch_folder)


def _num_pixels(path: Path) -> int:
    """Return an image's pixels by its header; 0 if it has none that can be read: decoding says why."""
    try:
        with opened_at_any_size(path) as opened:
            return opened.width * opened.height
    except Exception:  # Pillow's plugins raise nearly anything here
        return 0
