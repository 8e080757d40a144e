"""Writers of the layouts that labs bring, by each format's own library: known label maps in, a folder out."""

import base64
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import roifile
import scipy.io
import shapely
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

Labels = NDArray[np.int32]
HEIGHT, WIDTH = 40, 56


def truth(number: int = 0) -> Labels:
    """Return a label map: a square, a ring with a hole, an L, and one object at the image's edge."""
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    labels[3:9, 4 + number : 12 + number] = 1
    labels[12:24, 6:20] = 2
    labels[16:20, 10:14] = 0
    labels[26:36, 24:28], labels[32:36, 24:40] = 3, 3
    labels[30:40, 48:56] = 4
    return labels


def picture(labels: Labels) -> NDArray[np.uint8]:
    """Return an image that tells its own place: red is x, green is y, blue the label."""
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]]
    return np.stack([x, y, labels * 20], axis=-1).astype(np.uint8)


def write_image(path: Path, labels: Labels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(labels)).save(path)


def region_of(mask: NDArray[np.bool_]) -> shapely.Geometry:
    """Return the union of a mask's pixels, by shapely: an outline that is not from the code under test."""
    return shapely.union_all(
        [shapely.box(x, y, x + 1, y + 1) for y, x in zip(*np.nonzero(mask), strict=True)]
    )


def regions(labels: Labels) -> list[shapely.Geometry]:
    return [region_of(labels == number) for number in range(1, labels.max() + 1)]


def ring_of(region: shapely.Geometry) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in region.exterior.coords[:-1]]


def without_hole(labels: Labels) -> Labels:
    """Return a label map for formats that know no holes."""
    filled = labels.copy()
    filled[16:20, 10:14] = 2
    return filled


def qupath(root: Path, maps: dict[str, Labels]) -> None:
    for name, labels in maps.items():
        write_image(root / "images" / f"{name}.png", labels)
        features = [
            {
                "type": "Feature",
                "geometry": json.loads(shapely.to_geojson(region)),
                "properties": {"objectType": "annotation", "classification": {"name": "Gland"}},
            }
            for region in regions(labels)
        ]
        (root / "labels").mkdir(exist_ok=True)
        text = json.dumps({"type": "FeatureCollection", "features": features})
        (root / "labels" / f"{name}.geojson").write_text(text)


def coco(root: Path, maps: dict[str, Labels], *, compressed: bool | None = None) -> None:
    """Write polygons, run lengths as numbers, or as pycocotools compresses them."""
    images, annotations = [], []
    for image_id, (name, labels) in enumerate(maps.items(), start=1):
        write_image(root / "images" / f"{name}.png", labels)
        images.append({"id": image_id, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT})
        for number in range(1, labels.max() + 1):
            mask = np.asfortranarray(labels == number, np.uint8)
            packed = coco_mask.encode(mask)
            if compressed is None:
                drawn: object = [np.array(ring_of(region_of(mask > 0))).ravel().tolist()]
            elif compressed:
                drawn = {"size": packed["size"], "counts": packed["counts"].decode()}
            else:
                flat = mask.ravel(order="F")
                edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [flat[-1] ^ 1]])))
                drawn = {"size": [HEIGHT, WIDTH], "counts": np.diff(np.concatenate([[0], edges])).tolist()}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 7,
                    "iscrowd": 0,
                    "segmentation": drawn,
                }
            )
    document = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "Gland"}]}
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_default.json").write_text(json.dumps(document))


def labelme(root: Path, maps: dict[str, Labels]) -> None:
    """Write a picture and its JSON side by side: polygons, and one object as a mask."""
    for name, labels in maps.items():
        write_image(root / f"{name}.png", labels)
        shapes: list[dict[str, object]] = [
            {"label": "Gland", "points": ring_of(region), "shape_type": "polygon", "group_id": None}
            for region in regions(labels)
        ]
        buffer = io.BytesIO()
        Image.fromarray(np.full((10, 8), 255, np.uint8)).save(buffer, "PNG")
        shapes[3] |= {
            "shape_type": "mask",
            "points": [[48, 30], [55, 39]],
            "mask": base64.b64encode(buffer.getvalue()).decode(),
        }
        document = {
            "version": "5.4.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": f"{name}.png",
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
        }
        (root / f"{name}.json").write_text(json.dumps(document))


def cvat(root: Path, maps: dict[str, Labels]) -> None:
    """Write polygons, a box and a mask with run lengths."""
    images = []
    for index, (name, labels) in enumerate(maps.items()):
        write_image(root / "images" / f"{name}.png", labels)
        points = [";".join(f"{x:.2f},{y:.2f}" for x, y in ring_of(region)) for region in regions(labels)]
        left, top, right, bottom = shapely.bounds(regions(labels)[0])
        window = (labels == 4)[28:40, 46:56]
        runs = [
            len(list(run)) for run in np.split(window.ravel(), np.flatnonzero(np.diff(window.ravel())) + 1)
        ]
        images.append(
            f'<image id="{index}" name="{name}.png" width="{WIDTH}" height="{HEIGHT}">'
            f'<box label="Gland" xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}" z_order="0"/>'
            f'<polygon label="Gland" points="{points[1]}" z_order="0"/>'
            f'<polygon label="Gland" points="{points[2]}" z_order="0"/>'
            f'<mask label="Gland" rle="{", ".join(map(str, runs))}" left="46" top="28" width="10" height="12"/>'
            "</image>"
        )
    text = f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{"".join(images)}</annotations>'
    (root / "annotations.xml").write_text(text)


def label_studio(root: Path, maps: dict[str, Labels]) -> None:
    tasks = []
    for name, labels in maps.items():
        write_image(root / "images" / f"{name}.png", labels)
        results = [
            {
                "type": "polygonlabels",
                "original_width": WIDTH,
                "original_height": HEIGHT,
                "value": {
                    "points": [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in ring_of(region)],
                    "polygonlabels": ["Gland"],
                },
            }
            for region in regions(labels)
        ]
        tasks.append(
            {
                "id": len(tasks) + 1,
                "data": {"image": f"/data/upload/1/0a1b2c3d-{name}.png"},
                "annotations": [{"was_cancelled": False, "result": results}],
            }
        )
    (root / "project-1.json").write_text(json.dumps(tasks))


def fiji(root: Path, maps: dict[str, Labels]) -> None:
    for name, labels in maps.items():
        write_image(root / "images" / f"{name}.tif", labels)
        (root / "rois").mkdir(exist_ok=True)
        with zipfile.ZipFile(root / "rois" / f"{name}.zip", "w") as archive:
            for number, region in enumerate(regions(labels), start=1):
                roi = roifile.ImagejRoi.frompoints(np.array(ring_of(region), np.int32))
                archive.writestr(f"{number:04d}.roi", roi.tobytes())


def imagescope(root: Path, maps: dict[str, Labels]) -> None:
    for name, labels in maps.items():
        write_image(root / "Tissue Images" / f"{name}.tif", labels)
        parts = []
        for number, region in enumerate(regions(labels), start=1):
            for inner, ring in [("0", region.exterior), *(("1", hole) for hole in region.interiors)]:
                vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in ring.coords[:-1])
                parts.append(
                    f'<Region Id="{number}" Type="0" NegativeROA="{inner}"><Vertices>{vertices}</Vertices></Region>'
                )
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{name}.xml").write_text(
            f'<Annotations MicronsPerPixel="0.252"><Annotation Id="1" Name={quoteattr("Gland")}><Regions>'
            f"{''.join(parts)}</Regions></Annotation></Annotations>"
        )


def matlab(root: Path, maps: dict[str, Labels]) -> None:
    """Write CoNSeP's folders: Train/Images, Train/Labels, Train/Overlay."""
    for name, labels in maps.items():
        write_image(root / "Train" / "Images" / f"{name}.png", labels)
        write_image(root / "Train" / "Overlay" / f"{name}.png", labels)
        (root / "Train" / "Labels").mkdir(exist_ok=True)
        content = {"inst_map": labels.astype(np.float64), "inst_type": np.full((labels.max(), 1), 3.0)}
        scipy.io.savemat(root / "Train" / "Labels" / f"{name}.mat", content)


def stardist(root: Path, maps: dict[str, Labels]) -> None:
    for name, labels in maps.items():
        write_image(root / "train" / "images" / f"{name}.tif", labels)
        (root / "train" / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(root / "train" / "masks" / f"{name}.tif", labels.astype(np.uint16))


def cellpose(root: Path, maps: dict[str, Labels]) -> None:
    for name, labels in maps.items():
        write_image(root / "train" / f"{name}_img.png", labels)
        Image.fromarray(labels.astype(np.uint16)).save(root / "train" / f"{name}_masks.png")


def object_masks(root: Path, maps: dict[str, Labels]) -> None:
    for name, labels in maps.items():
        write_image(root / "stage1_train" / name / "images" / f"{name}.png", labels)
        (root / "stage1_train" / name / "masks").mkdir()
        for number in range(1, labels.max() + 1):
            mask = np.where(labels == number, 255, 0).astype(np.uint8)
            Image.fromarray(mask).save(root / "stage1_train" / name / "masks" / f"{number:03d}.png")


def nnunet(root: Path, maps: dict[str, Labels]) -> None:
    """Write one class of pixels; its pieces are the objects."""
    (root / "labelsTr").mkdir(parents=True)
    for name, labels in maps.items():
        write_image(root / "imagesTr" / f"{name}_0000.png", labels)
        Image.fromarray((labels > 0).astype(np.uint8)).save(root / "labelsTr" / f"{name}.png")
    document = {"channel_names": {"0": "R"}, "labels": {"background": 0, "gland": 1}, "file_ending": ".png"}
    (root / "dataset.json").write_text(json.dumps(document))


def pannuke(root: Path, maps: dict[str, Labels]) -> None:
    """Write the first two objects as neoplastic, the others as epithelial."""
    images = np.stack([picture(labels) for labels in maps.values()]).astype(np.float64)
    masks = np.zeros((*images.shape[:3], 6))
    for index, labels in enumerate(maps.values()):
        masks[index, ..., 0] = np.where(labels <= 2, labels, 0)
        masks[index, ..., 4] = np.where(labels > 2, labels, 0)
        masks[index, ..., 5] = labels == 0
    for folder, name, array in (
        ("images", "images", images),
        ("masks", "masks", masks),
        ("images", "types", np.array(["Colon"] * len(images))),
    ):
        (root / folder / "fold1").mkdir(parents=True, exist_ok=True)
        np.save(root / folder / "fold1" / f"{name}.npy", array)


def conic(root: Path, maps: dict[str, Labels]) -> None:
    root.mkdir(exist_ok=True)
    np.save(root / "images.npy", np.stack([picture(labels) for labels in maps.values()]))
    stacked = np.stack(list(maps.values()))
    np.save(root / "labels.npy", np.stack([stacked, np.where(stacked > 0, 2, 0)], axis=-1).astype(np.uint16))
    (root / "patch_info.csv").write_text("patch_info\n" + "\n".join(f"{name}-0001" for name in maps) + "\n")


def ome_zarr(root: Path, maps: dict[str, Labels], *, zarr_format: int = 2) -> None:
    for name, labels in maps.items():
        for folder, array in (
            ("images", np.moveaxis(picture(labels), 2, 0)[None, :, None]),
            ("labels", labels[None, None, None].astype(np.uint16)),
        ):
            group = zarr.create_group(root / folder / f"{name}.ome.zarr", zarr_format=zarr_format)
            group.create_array("0", data=array, chunks=(1, 1, 1, 16, 16))
            axes = [{"name": axis} for axis in "tcz"] + [
                {"name": axis, "unit": "micrometer"} for axis in "yx"
            ]
            scale = [{"type": "scale", "scale": [1, 1, 1, 0.5, 0.5]}]
            multiscales = [
                {
                    "version": "0.4",
                    "axes": axes,
                    "datasets": [{"path": "0", "coordinateTransformations": scale}],
                }
            ]
            if zarr_format == 2:
                group.attrs["multiscales"] = multiscales
            else:
                group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}


Writer = Callable[[Path, dict[str, Labels]], None]
