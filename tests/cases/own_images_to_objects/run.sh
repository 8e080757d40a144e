#!/bin/bash
# From a folder of a lab's own to objects: inspected, trained on, exported, predicted; every file that was promised is there.
. "$(dirname "$0")/../lib.sh"
glands data 96
searcher data inspect --data data > inspect.txt || fault "data inspect: $(tail -1 inspect.txt)"
searcher train --study unet-demo $TINY --data data --storage runs > train.txt 2>&1 || fault "train: $(tail -1 train.txt)"
searcher export runs/unet-demo/train-* --to bundle > export.txt 2>&1 || fault "export: $(tail -1 export.txt)"
searcher predict bundle data/images --to results > predict.txt 2>&1 || fault "predict: $(tail -1 predict.txt)"
for name in P0_a P1_a P2_a P3_a; do
  for ending in labels.tif overlay.png objects.csv geojson; do
    [ -s "results/$name.$ending" ] || fault "results/$name.$ending is not there"
  done
done
searcher metrics --truth data/labels --prediction results --json measured.json > metrics.txt 2>&1 ||
  fault "metrics: $(tail -1 metrics.txt)"
good "$(wc -l < results/predictions.csv) lines in predictions.csv"
