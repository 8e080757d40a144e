"""Figures of the report: what they say, in the page's colours, as well-formed SVG."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from searcher.report.figures import count_scatter, dice_distribution, training_curves


def texts(svg: str) -> list[str]:
    return [
        "".join(each.itertext())
        for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    ]


@pytest.fixture(params=["dice", "counts", "loss", "objective"])
def svg(request, split, member) -> str:
    curves = training_curves([member])
    return {
        "dice": dice_distribution(split),
        "counts": count_scatter(split),
        "loss": curves["loss"],
        "objective": curves["object_dice"],
    }[request.param]


def test_colours_are_the_pages(svg):
    assert ElementTree.fromstring(svg).attrib["viewBox"]
    assert "var(--ink-soft)" in svg
    assert "var(--series-1)" in svg
    assert not re.search(r"#0[1-4]0[1-4]0[1-5]\b", svg), "a stand-in was left"
    assert "width" not in ElementTree.fromstring(svg).attrib, "the page says how wide it is"
    assert "metadata" not in svg


def test_strata_and_their_numbers_are_named(split):
    """Patients have two images each and take turns; the first of the six is malignant."""
    for svg in (dice_distribution(split), count_scatter(split)):
        assert {"benign (2)", "malignant (4)"} <= set(texts(svg))
    assert f"mean {split.summary['mean']['object_dice']:.3f}" in texts(dice_distribution(split))


def test_a_name_is_no_formula_and_no_markup(split):
    images = [each | {"stratum": "$x^2$ <b>&"} for each in split.summary["images"]]
    svg = dice_distribution(replace(split, summary=split.summary | {"images": images}))
    assert "$x^2$ <b>& (6)" in texts(svg)


def test_curves_of_several_networks_are_told_apart(member):
    other = replace(member, history={1: {"object_dice": 0.4, "loss": float("nan")}})
    curves = training_curves([member, other])
    assert {"network 1, validation", "network 2, validation"} <= set(texts(curves["object_dice"]))
    assert "network 2, validation" not in texts(curves["loss"]), "it has no loss that is a number"
    assert training_curves([replace(member, history={})]) == {}
    by_loss = training_curves([replace(member, objective="loss")])
    assert list(by_loss) == ["loss"], "the objective is drawn once"
