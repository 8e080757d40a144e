"""Every layout, written by its own library, gives back the label maps that it was made from."""

from functools import partial
from pathlib import Path

import lab_formats as lab
import numpy as np
import pytest

from searcher.data_pipeline import open_dataset
from searcher.data_pipeline.datasets import SampleSource
from searcher.data_pipeline.datasets.layouts.layout_source import LayoutSource

WITH_HOLES = {
    "qupath": lab.qupath,
    "coco run lengths": partial(lab.coco, compressed=False),
    "coco compressed": partial(lab.coco, compressed=True),
    "imagescope": lab.imagescope,
    "matlab": lab.matlab,
    "stardist": lab.stardist,
    "cellpose": lab.cellpose,
    "object masks": lab.object_masks,
    "nnunet": lab.nnunet,
    "pannuke": lab.pannuke,
    "conic": lab.conic,
    "ome-zarr 0.4": lab.ome_zarr,
    "ome-zarr 0.5": partial(lab.ome_zarr, zarr_format=3),
}
WITHOUT_HOLES = {
    "coco polygons": lab.coco,
    "labelme": lab.labelme,
    "cvat": lab.cvat,
    "label studio": lab.label_studio,
    "fiji": lab.fiji,
}
CLASSES = {
    "qupath": "Gland", "coco run lengths": "Gland", "coco polygons": "Gland", "imagescope": "Gland", "labelme": "Gland",
    "cvat": "Gland", "label studio": "Gland", "matlab": "3", "nnunet": "gland", "conic": "epithelial",
}  # fmt: skip


@pytest.mark.parametrize("name", WITH_HOLES | WITHOUT_HOLES)
def test_same_label_maps(tmp_path: Path, name: str) -> None:
    maps = {"a_1": lab.truth(), "b_2": lab.truth(5)}
    if name in WITHOUT_HOLES:
        maps = {key: lab.without_hole(labels) for key, labels in maps.items()}
    (WITH_HOLES | WITHOUT_HOLES)[name](tmp_path, maps)

    source = open_dataset(tmp_path)

    assert isinstance(source, LayoutSource)
    assert isinstance(source, SampleSource)
    assert [sample.split for sample in source.samples] == ["train", "train"]
    if name not in ("pannuke", "conic"):
        assert [sample.id for sample in source.samples] == ["a_1", "b_2"]
    for index, labels in enumerate(maps.values()):
        image, found = source.read_annotated(index)
        assert found.labels.dtype == np.int32
        assert np.array_equal(found.labels, labels)
        assert np.array_equal(image, lab.picture(labels))
        if name in CLASSES:
            assert found.classes == dict.fromkeys(range(1, 5), CLASSES[name])


def test_what_else_the_formats_say(tmp_path: Path) -> None:
    for name in ("pannuke", "conic", "imagescope", "ome_zarr"):
        getattr(lab, name)(tmp_path / name, {"slide_1": lab.truth()})
    pannuke, conic = open_dataset(tmp_path / "pannuke"), open_dataset(tmp_path / "conic")
    assert pannuke.samples[0].stratum == "Colon"
    assert isinstance(pannuke, LayoutSource)
    assert pannuke.read_annotated(0)[1].classes == {
        1: "neoplastic", 2: "neoplastic", 3: "epithelial", 4: "epithelial"
    }  # fmt: skip
    assert (conic.samples[0].id, conic.samples[0].group) == ("slide_1-0001", "slide_1")
    assert open_dataset(tmp_path / "imagescope").pixel_size_um == 0.252
    assert open_dataset(tmp_path / "ome_zarr").pixel_size_um == 0.5


@pytest.mark.parametrize("name", ["qupath", "coco run lengths", "pannuke", "ome-zarr 0.4"])
def test_fingerprint_is_of_the_content_and_not_of_the_place(tmp_path: Path, name: str) -> None:
    WITH_HOLES[name](tmp_path / "here", {"a": lab.truth()})
    WITH_HOLES[name](tmp_path / "there", {"a": lab.truth()})
    WITH_HOLES[name](tmp_path / "other", {"a": lab.truth(1)})
    here, there, other = (
        open_dataset(tmp_path / place).fingerprint() for place in ("here", "there", "other")
    )
    assert here == there != other
