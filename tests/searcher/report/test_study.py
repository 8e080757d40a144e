"""Pictures of a study: the numbers are worked out by hand, and every study gives a picture."""

import io
from dataclasses import replace

import numpy as np
import pytest
from parsed_page import ParsedPage
from pictured_study import PICTURE, SEVERAL, TRIALS, trial
from PIL import Image

from searcher.report.study import ABSENT, parallel_axes, running_best
from searcher.report.study_page import study_page
from searcher.report.study_png import study_png
from searcher.study.space import SearchSpace

NOTHING = replace(PICTURE, space=SearchSpace(()), trials=(), best=None, importances={})
STUDIES = {
    "usual": PICTURE,
    "several objectives": SEVERAL,
    "several objectives, none complete": replace(SEVERAL, trials=[SEVERAL.trials[1]], best=None),
    "no trial": NOTHING,
    "one trial": replace(PICTURE, trials=TRIALS[:1], best=0, importances={}),
    "one parameter": replace(
        PICTURE, trials=[replace(each, params={"optimizer.lr": 1e-3}) for each in TRIALS]
    ),
    "only pruned": replace(PICTURE, trials=TRIALS[1:2], best=None, importances={}),
    "only failed": replace(PICTURE, trials=TRIALS[4:5], best=None, importances={}),
    "nothing searched": replace(NOTHING, trials=[replace(each, params={}) for each in TRIALS], best=2),
    "equal values": replace(PICTURE, trials=[trial(n, 0.5, name="adam", lr=1e-3) for n in range(3)], best=0),
    "no importance": replace(PICTURE, importances=dict.fromkeys(PICTURE.importances, 0.0)),
    "a rerank": replace(
        NOTHING, trials=[replace(each, params={"parent.trial": 3 + each.number}) for each in TRIALS], best=2
    ),
    "hostile names": replace(
        PICTURE,
        name="</script><script>alert(1)</script> $x$ <b>",
        trials=[replace(TRIALS[0], params={"<img src=x>": "</script>$y$", "optimizer.lr": 1e-3})],
        importances={"</script><b>": 1.0},
        best=0,
    ),
}


def test_the_best_so_far_is_that_of_the_complete_trials():
    assert running_best(PICTURE) == [(0, 0.5), (2, 0.9), (3, 0.9)]
    down = replace(PICTURE, directions=("minimize",))
    assert running_best(down) == [(0, 0.5), (2, 0.5), (3, 0.5)]


def test_parallel_axes_are_in_the_scale_of_the_search():
    lines = parallel_axes(PICTURE)
    assert [each.number for each in lines.trials] == [1, 0, 3, 2], "pruned below, the best on top"
    by_name = {axis.name: axis for axis in lines.axes}
    assert list(by_name) == ["optimizer.name", "optimizer.lr", "optimizer.momentum", "object Dice"]
    assert by_name["optimizer.name"].positions == {1: 0.0, 0: 0.5, 3: 1.0, 2: 0.0}
    assert by_name["optimizer.lr"].positions == pytest.approx({1: 0.0, 0: 0.5, 3: 0.5, 2: 1.0})
    assert [label for _, label in by_name["optimizer.lr"].ticks] == ["0.0001", "0.001", "0.01"]
    assert by_name["optimizer.momentum"].positions == {1: 0.5, 2: 1.0, 0: ABSENT, 3: ABSENT}
    assert by_name["optimizer.momentum"].ticks[-1] == (ABSENT, "not used")
    assert by_name["object Dice"].positions == pytest.approx({1: 0.0, 0: 3 / 7, 3: 5 / 7, 2: 1.0})
    assert lines.goodness == pytest.approx({0: 0.0, 3: 0.5, 2: 1.0})
    down = parallel_axes(replace(PICTURE, directions=("minimize",), best=0))
    assert down.goodness == pytest.approx({0: 1.0, 3: 0.5, 2: 0.0})


def test_choices_that_are_written_alike_are_told_apart():
    odd = [trial(0, 0.5, flag=True), trial(1, 0.6, flag=1), trial(2, 0.7, flag=1.0)]
    [axis] = [each for each in parallel_axes(replace(PICTURE, trials=odd)).axes if "flag" in each.name]
    assert axis.positions == {0: 0.0, 1: 0.5, 2: 1.0}


def test_the_title_says_what_there_is():
    assert PICTURE.title == "s: 3 COMPLETE, 1 FAIL, 1 PRUNED, 1 RUNNING, best object Dice 0.9 (trial 2)"
    assert NOTHING.title == "s: no trial yet"


def test_what_cannot_be_drawn_has_a_sentence():
    assert not any(PICTURE.panels.values())
    assert NOTHING.panels == {
        "Optimisation history": "No trial has a value yet.",
        "Parameter importances": "This study searched nothing.",
        "Parallel coordinates": "No trial has a value yet.",
        "Learning curves": "No epoch was reported yet.",
    }
    few = STUDIES["one trial"].panels["Parameter importances"]
    assert few == "Importances need 8 COMPLETE trials that have a parameter; this study has 1."
    assert STUDIES["nothing searched"].panels["Parallel coordinates"] == "This study searched nothing."
    assert list(SEVERAL.panels)[-1] == "Compromises between the objectives"


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_gives_a_png(name):
    png = study_png(STUDIES[name])
    picture = Image.open(io.BytesIO(png))
    picture.load()
    assert picture.format == "PNG"
    assert picture.width > 1000
    assert len(np.unique(np.asarray(picture))) > 5, "something is drawn"


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_gives_a_page(name):
    study = STUDIES[name]
    page = ParsedPage(study_page(study))
    drawn = [title for title, absence in study.panels.items() if absence is None]
    assert sum("plotly-graph-div" in each.get("class", "") for each in page.of("div")) == len(drawn)
    for title, absence in study.panels.items():
        assert title in page.text
        assert absence is None or absence in page.text
    assert len(page.of("script")) == 1 + len(drawn), "Plotly once, and one for each picture"
    assert not [each for each in page.of("script") if "src" in each]
    assert not page.of("link")
    assert not page.of("img")
    assert study.name in page.text
