#!/bin/bash
# Annotations that are no instance label maps are refused with a remedy, never trained on; with what they are said, they are taken.
. "$(dirname "$0")/../lib.sh"
"$PY" - <<'P'
from pathlib import Path
import numpy as np
from PIL import Image, ImageFilter
rng = np.random.default_rng(0)
y, x = np.mgrid[:96, :96]
def write(folder, label):
    for kind in ("images", "labels"):
        (Path(folder) / kind).mkdir(parents=True)
    for index in range(4):
        centres = [(int(cy), int(cx)) for cy in (16, 48, 80) for cx in rng.permutation([16, 48, 80])[:2]]
        parts = np.zeros((96, 96), np.int32)
        for number, (cy, cx) in enumerate(centres, 1):
            parts[(y - cy) ** 2 + (x - cx) ** 2 < 81] = number
        image = np.where(parts[..., None] > 0, [120, 60, 140], [225, 205, 225]) + rng.normal(0, 8, (96, 96, 3))
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(Path(folder) / "images" / f"{index}.png")
        label(parts).save(Path(folder) / "labels" / f"{index}.png")
mask = lambda parts: Image.fromarray(((parts > 0) * 255).astype(np.uint8))
write("binary", mask)
write("ones", lambda parts: Image.fromarray((parts > 0).astype(np.uint8)))
write("smooth", lambda parts: mask(parts).filter(ImageFilter.GaussianBlur(1.2)))
write("classes", lambda parts: Image.fromarray(np.where(parts > 0, 1 + parts % 3, 0).astype(np.uint8)))
write("empty", lambda parts: Image.fromarray(np.zeros_like(parts, np.uint8)))
write("right", lambda parts: Image.fromarray(parts.astype(np.uint16)))
P
bad=
for kind in binary ones smooth classes empty; do
  searcher train --study unet-demo $TINY --data $kind --storage runs-$kind > $kind.txt 2>&1; code=$?
  [ $code = 2 ] && ! grep -q Traceback $kind.txt || { echo "$kind: exit code $code: $(tail -1 $kind.txt)"; bad="$bad $kind"; }
done
searcher train --study unet-demo $TINY --data binary --labels-are binary --storage runs > said.txt 2>&1 || { tail -1 said.txt; bad="$bad --labels-are"; }
searcher train --study unet-demo $TINY --data right --storage runs > right.txt 2>&1 || { tail -1 right.txt; bad="$bad right"; }
[ -z "$bad" ] || fault "not as it must be:$bad"
good "refused with a remedy, or taken as it was said"
