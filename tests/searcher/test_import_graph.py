"""No module needs, over others, itself: neither at its top, nor inside a function, nor for its types alone."""

import graphlib

import grimp
import pytest


def test_the_import_graph_has_no_circle():
    graph = grimp.build_graph("searcher", exclude_type_checking_imports=False, cache_dir=None)
    assert "searcher.models.parts" in graph.modules, "the rooms at the top level count too"
    needs = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    try:
        order = [*graphlib.TopologicalSorter(needs).static_order()]
    except graphlib.CycleError as error:
        pytest.fail(f"in a circle: {' <- '.join(error.args[1])}")
    assert {*order} == {*graph.modules}
