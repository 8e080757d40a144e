"""What plug-ins import under the names of earlier versions is the present thing, with one warning that names it."""

import importlib
import warnings

import numpy as np
import pytest

from searcher.models.heads import BinaryHead, HeadOptions
from searcher.models.values import InstanceMaps
from searcher.renamed import MODULES, NAMES


@pytest.mark.parametrize("old", MODULES)
def test_an_old_module_is_the_new_one(old):
    new = importlib.import_module(MODULES[old])
    spec = new.__spec__
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        assert importlib.import_module(old) is new
    assert (new.__name__, new.__spec__) == (MODULES[old], spec)


@pytest.mark.parametrize(("module", "old"), [(m, old) for m, names in NAMES.items() for old in names])
def test_an_old_name_is_the_new_one(module, old):
    found = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=f"is now called {NAMES[module][old]}"):
        assert getattr(found, old) is getattr(found, NAMES[module][old])
    assert not hasattr(found, f"{old}_")


def test_a_plug_ins_head_with_the_old_method_works():
    with pytest.warns(DeprecationWarning, match=r"Old\.evidence is now called instance_maps"):

        class Old(BinaryHead):
            def evidence(self, maps):
                return InstanceMaps(1 - maps[0])

    maps = np.zeros((1, 2, 3), np.float32)
    assert Old(HeadOptions()).instance_maps(maps).foreground_map.tolist() == [[1.0] * 3] * 2
    with pytest.warns(DeprecationWarning, match="is now called instance_maps"):
        assert BinaryHead(HeadOptions()).evidence(maps).foreground_map.tolist() == [[0.0] * 3] * 2
