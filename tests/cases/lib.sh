# Sourced by every run.sh: a scratch folder to work in, and how a case ends.
set -u
command -v searcher >/dev/null || { echo "searcher must be on PATH"; exit 2; }
PY=${PY:-$(sed -n '1s/^#!//p' "$(command -v searcher)")}
work=$(mktemp -d "${TMPDIR:-/tmp}/case.XXXXXX")
trap 'rm -rf "$work"' EXIT
export SEARCHER_CACHE="${SEARCHER_CACHE:-$work/cache}" NO_COLOR=1
unset SEARCHER_DB RAY_ADDRESS
cd "$work" || exit 2
fault() { echo "FAULT: $*"; exit 1; }
good() { echo "ok: $*"; exit 0; }
cannot() { echo "cannot be shown here: $*"; exit 77; }
# A training of seconds on 64 px images.
TINY="--epochs 1 --set data.samples_per_epoch=8 --set augment.crop_px=64 --set data.num_threads=1 --set optimizer.lr=0.003
 --set optimizer.name=adamw --set model.base_channels=4"
# Four images of one patient each with their label maps, in FOLDER/images and FOLDER/labels: glands FOLDER [SIDE]
glands() {
  "$PY" - "$@" <<'P'
import sys
from pathlib import Path
import numpy as np
from PIL import Image
from data_pipeline.datasets import SyntheticGlands
folder, side = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 64
source = SyntheticGlands(num_images=4, size_px=side, seed=3)
for kind in ("images", "labels"):
    (folder / kind).mkdir(parents=True)
for index in range(4):
    image, labels = source.read(index)
    Image.fromarray(image).save(folder / "images" / f"P{index}_a.png")
    Image.fromarray(labels.astype(np.uint16)).save(folder / "labels" / f"P{index}_a.png")
P
}
