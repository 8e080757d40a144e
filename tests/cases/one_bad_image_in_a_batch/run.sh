#!/bin/bash
# Whatever is wrong with one image, its line says so with exit code 1, and the images beside it are predicted.
. "$(dirname "$0")/../lib.sh"
glands data 96
searcher train --study unet-demo $TINY --data data --storage runs > train.txt 2>&1 || fault "train: $(tail -1 train.txt)"
searcher export runs/unet-demo/train-* --to bundle > export.txt 2>&1 || fault "export: $(tail -1 export.txt)"
mkdir new new/folder.png; cp data/images/P0_a.png new/a.png; cp data/images/P1_a.png new/z.png
head -c 700 new/a.png > new/cut.png
: > new/empty.tif
cp new/a.png "new/$(printf 'n%.0s' $(seq 246)).png"
cp new/a.png new/$'b\xe4r.png'
mkfifo new/pipe.png
"$PY" - <<'P'
import struct
import numpy as np, tifffile
from PIL import Image
image = np.asarray(Image.open("new/a.png"))
tifffile.imwrite("new/deep.tif", image.astype(np.uint16) * 16, photometric="rgb")
tifffile.imwrite("new/float.tif", image.astype(np.float32), photometric="rgb")
tifffile.imwrite("new/stack.tif", np.stack([image] * 3), photometric="rgb")
for name, tags in (("rows.tif", ("ImageLength",)), ("sides.tif", ("ImageLength", "ImageWidth"))):
    tifffile.imwrite(f"new/{name}", image, photometric="rgb", tile=(32, 32))
    with tifffile.TiffFile(f"new/{name}") as tiff:
        offsets = [tiff.pages[0].tags[tag].valueoffset for tag in tags]
    data = bytearray(open(f"new/{name}", "rb").read())
    for offset in offsets:
        data[offset : offset + 4] = struct.pack("<I", 2**31 - 1)
    open(f"new/{name}", "wb").write(data)
P
timeout 300 searcher predict bundle new --to out > p.txt 2>&1; code=$?
grep -q Traceback p.txt && { tail -3 p.txt; fault "a traceback"; }
[ $code = 1 ] || { tail -3 p.txt; fault "exit code $code"; }
for name in a z; do [ -s out/$name.objects.csv ] || { tail -3 p.txt; fault "$name.png was not predicted"; }; done
for name in cut deep float stack rows sides; do grep -q "$name" p.txt || fault "nothing was said of $name"; done
good "a.png and z.png were predicted, the others named"
