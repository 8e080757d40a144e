#!/bin/bash
# Two processes with one output folder: one is refused, or nothing of either is lost.
. "$(dirname "$0")/../lib.sh"
glands data 96
for lr in 0.001 0.002; do searcher train --study unet-demo $TINY --set optimizer.lr=$lr --data data --storage runs > $lr.txt 2>&1 & done; wait
[ "$(ls -d runs/unet-demo/train-*/best.pt | wc -l)" = 2 ] || fault "two trainings left $(ls -d runs/unet-demo/train-*/best.pt | wc -l) networks"
searcher export "$(ls -d runs/unet-demo/train-* | head -1)" --to bundle > export.txt 2>&1 || fault "export: $(tail -1 export.txt)"
searcher predict bundle data/images/P[01]*.png --to out > a.txt 2>&1 & a=$!
searcher predict bundle data/images/P[23]*.png --to out > b.txt 2>&1 & b=$!
wait $a; ca=$?; wait $b; cb=$?
rows=$(($(wc -l < out/predictions.csv) - 1)); there=$(ls out/*.objects.csv | wc -l)
[ "$rows" = "$there" ] || fault "exit codes $ca and $cb: $there images were predicted, predictions.csv has $rows"
good "exit codes $ca and $cb, $rows rows of $there images"
