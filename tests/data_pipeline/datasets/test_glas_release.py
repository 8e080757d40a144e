"""The real release, where GLAS_ROOT names it: the counts that its authors publish. No other test needs it."""

import os
from pathlib import Path

import numpy as np
import pytest

from searcher.data_pipeline import open_dataset, prepare_store, split_by_group

GLAS_ROOT = os.environ.get("GLAS_ROOT")

pytestmark = pytest.mark.skipif(not GLAS_ROOT, reason="GLAS_ROOT does not name the GlaS release")


def test_the_training_set_is_what_the_challenge_says(tmp_path):
    store = prepare_store(open_dataset(Path(str(GLAS_ROOT))), tmp_path)
    train = store.indices("train")
    assert len(train) == 85
    assert sum(len(np.unique(store.labels(i))) - 1 for i in train) == 769
    assert len({store.samples[i].group for i in train}) == 15
    split = split_by_group(store.samples, train, fraction=0.2)
    assert not {store.samples[i].group for i in split.train} & {store.samples[i].group for i in split.val}
    assert 10 <= len(split.val) <= 25
