"""The one reader of image and label files. All callers get the same pixels, or the same refusal.

The first bytes of a file decide its format, not its name. Only slides are recognised by their names.

Images:

| files | taken | refused |
|---|---|---|
| png | grey and RGB of 2 to 16 bit, palettes | 1 bit, animations |
| jpg | grey, RGB, YCbCr | CMYK, several images |
| bmp | 8 to 32 bit, palettes | 1 bit |
| tif | 2 to 16 bit: grey, RGB, palettes, channels; YCbCr in JPEG | 1 bit, signed, 32 bit, float, CMYK, CIELAB |
| tif, OME-TIFF | tiles, strips, pyramids, planar, either byte order | several images, stacks, planes in other files |
| svs, ndpi, mrxs and others | 8 bit RGB, the part within OpenSlide's bounds | what OpenSlide cannot open |

Transparency is dropped. Less than 8 bit becomes 8 bit (white is 255); 9 to 16 bit stay as they are, in uint16. Where 0
is white, grey is inverted. An orientation, of TIFF or EXIF, is not followed: pixels are where the file has them.

Label maps in png, bmp, tif, npy and npz:

| taken | refused |
|---|---|
| stored integers of 1 to 64 bits, also where 0 is shown white; white is 1 in fax compression | numbers below -1 |
| floating point | numbers with fractions |
| a palette's indices, grey saved as RGB | colours, transparency |
| one page, one channel, a pyramid's full size | several pages or channels, Python objects |

    read_header, read_image             an image's size and kind; its pixels, as the file has them
    kind_of, read_data_image            the same as data sets have it: 8 bit grey is RGB, 16 bit colour is refused
    open_raster                         an image of any size, window by window
    read_label_header, read_labels      the same for label maps
    images_in, label_maps_in            which files of a folder are which

Is independent of data sets.
"""

from searcher.data_pipeline.images.labels import LabelHeader, read_label_header, read_labels, read_wide_labels
from searcher.data_pipeline.images.names import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    TIFF_SUFFIXES,
    images_by_stem,
    images_in,
    is_data_file,
    label_maps_in,
    same_name,
    single_files,
    subfolder,
    unusable_entries,
    without_marks,
)
from searcher.data_pipeline.images.pixel_kind import PixelKind, as_data, check_alike, kind_of
from searcher.data_pipeline.images.raster import ArrayRaster, Colour, ImageHeader, Pixels, Raster
from searcher.data_pipeline.images.reading import (
    as_rgb,
    open_raster,
    read_data_image,
    read_header,
    read_image,
    read_rgb,
    require_rgb,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "LABEL_SUFFIXES",
    "TIFF_SUFFIXES",
    "ArrayRaster",
    "Colour",
    "ImageHeader",
    "LabelHeader",
    "PixelKind",
    "Pixels",
    "Raster",
    "as_data",
    "as_rgb",
    "check_alike",
    "images_by_stem",
    "images_in",
    "is_data_file",
    "kind_of",
    "label_maps_in",
    "open_raster",
    "read_data_image",
    "read_header",
    "read_image",
    "read_label_header",
    "read_labels",
    "read_rgb",
    "read_wide_labels",
    "require_rgb",
    "same_name",
    "single_files",
    "subfolder",
    "unusable_entries",
    "without_marks",
]
