"""The store: a dataset decoded once into flat files that every process maps.

    building     makes a store of a data set, or finds the one that is there
    mapped       a store that is open
    normalised   the same images as 0..255
    index        what lies where in the flat files, with a digest of each image
    classes      which class each object has, where the data set says so
    integrity    compares the flat files with these digests, once a boot
    leftovers    what is no store: half-built, incomplete, or damaged

`CACHE/<fingerprint>/pixels.bin` holds all images one after the other (uint8 or uint16), `labels.bin` all label maps
(little-endian uint16, int32 where a label needs it), `index.json` what lies where. A process that maps them pays no
private memory for the pixels; the page cache is shared by all processes of the machine.

A store is either whole or not there: it is written under another name, synced, and renamed into place while a
lock is held. The index is written last. It has its own digest, the size of the other two files, and the SHA-256 of
every image and label map as decoded.
"""

from searcher.data_pipeline.store.building import prepare_store
from searcher.data_pipeline.store.classes import ClassTable, find_classes
from searcher.data_pipeline.store.leftovers import (
    Leftover,
    find_leftovers,
    find_unverifiable,
    remove_leftover,
)
from searcher.data_pipeline.store.mapped import Store
from searcher.data_pipeline.store.normalised import normalised

__all__ = [
    "ClassTable",
    "Leftover",
    "Store",
    "find_classes",
    "find_leftovers",
    "find_unverifiable",
    "normalised",
    "prepare_store",
    "remove_leftover",
]
