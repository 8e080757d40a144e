"""No module needs, over others, itself: neither at its top, nor inside a function, nor for its types alone."""

import graphlib

import grimp
import pytest


def packages_of(module: str) -> list[str]:
    """Return the packages around a module."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def test_the_import_graph_has_no_circle():
    graph = grimp.build_graph("searcher", exclude_type_checking_imports=False, cache_dir=None)
    assert "searcher.models.parts" in graph.modules, "the rooms at the top level count too"
    needs = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    for name, imported in needs.items():
        # A module of another package imports that package first, with all that its `__init__` imports.
        imported |= {each for module in imported for each in packages_of(module)} - {name, *packages_of(name)}
    try:
        order = [*graphlib.TopologicalSorter(needs).static_order()]
    except graphlib.CycleError as error:
        pytest.fail(f"in a circle: {' <- '.join(error.args[1])}")
    assert {*order} == {*graph.modules}
