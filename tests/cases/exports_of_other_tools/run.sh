#!/bin/bash
# What QuPath and COCO's tools export is inspected, imported and trained on; the objects are those that were drawn.
. "$(dirname "$0")/../lib.sh"
"$PY" - <<'P'
import json
from pathlib import Path
import numpy as np
from PIL import Image
from pycocotools import mask as rle
rng = np.random.default_rng(1)
coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "gland"}]}
for folder in ("qupath/images", "qupath/labels", "coco/images"):
    Path(folder).mkdir(parents=True)
for index in range(4):
    boxes = [(8 + 28 * k, 10 + 12 * (k + index) % 40, 20, 16 + index) for k in range(3)]  # x, y, width, height
    pixels = rng.normal(220, 8, (96, 96, 3))
    features = []
    for number, (x, y, width, height) in enumerate(boxes, 1):
        pixels[y : y + height, x : x + width] -= 90
        ring = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
        features.append({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
                         "properties": {"objectType": "annotation", "classification": {"name": "Gland"}}})
        mask = np.zeros((96, 96), np.uint8, order="F"); mask[y : y + height, x : x + width] = 1
        coded = rle.encode(mask)
        coco["annotations"].append({"id": 10 * index + number, "image_id": index, "category_id": 1, "iscrowd": 0,
            "area": int(rle.area(coded)), "bbox": [x, y, width, height],
            "segmentation": {"size": coded["size"], "counts": coded["counts"].decode()}})
    coco["images"].append({"id": index, "file_name": f"slide{index}.png", "width": 96, "height": 96})
    for folder in ("qupath", "coco"):
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(f"{folder}/images/slide{index}.png")
    Path(f"qupath/labels/slide{index}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
Path("coco/annotations.json").write_text(json.dumps(coco))
P
for kind in qupath coco; do
  searcher data inspect --data $kind > $kind.txt 2>&1 || fault "data inspect $kind: $(tail -1 $kind.txt)"
  searcher data import $kind --to $kind-new > $kind.txt 2>&1 || fault "data import $kind: $(tail -1 $kind.txt)"
  searcher data import $kind --to $kind-new > again.txt 2>&1 && fault "data import wrote over a folder"
  "$PY" - $kind-new <<'P' || fault "other objects than were drawn"
import sys
from pathlib import Path
import numpy as np
from data_pipeline.datasets import open_dataset
source = open_dataset(Path(sys.argv[1]))
areas = [sorted(np.bincount(source.read(i)[1].ravel())[1:].tolist()) for i in range(4)]
expected = [[20 * (16 + index)] * 3 for index in range(4)]
print(areas); sys.exit(areas != expected)
P
done
searcher train --study unet-demo $TINY --data coco-new --storage runs > train.txt 2>&1 || fault "train: $(tail -1 train.txt)"
good "12 objects each, trained on"
