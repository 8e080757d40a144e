"""A plain install, without the package of any extra, goes from a search to predictions; what needs an extra says so.

Nothing is installed a second time: the environment's interpreters, Ray's workers among them, do not find the packages.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import refused, run

pytestmark = pytest.mark.packaging

HIDES = """
import sys
from importlib.machinery import PathFinder

class WithoutExtras(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {names!r} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutExtras
"""
STUDY = ("--study", "unet-demo", "--db", "study.db")


@pytest.fixture
def plain(environment: Path) -> Iterator[Path]:
    """The environment's `bin` folder, while no interpreter of it finds a package of an extra."""
    code = "import json; from searcher.extras import EXTRAS; print(json.dumps(sum(map(list, EXTRAS.values()), [])))"
    names = json.loads(run(environment / "python", "-c", code, cwd=environment))
    [site] = (environment.parent / "lib").glob("python*/site-packages")
    hiding = [site / "without_extras.py", site / "without_extras.pth"]
    hiding[0].write_text(HIDES.format(names=names))
    hiding[1].write_text("import without_extras\n")
    for name in names:
        there = f"from importlib.util import find_spec; print(find_spec({name!r}))"
        assert run(environment / "python", "-c", there, cwd=environment).strip() == "None"
    yield environment
    for path in hiding:
        path.unlink()


def test_a_plain_install_goes_from_a_search_to_predictions(plain, foreign_packages):
    """In a folder with `models`, `data_pipeline` and `studies` of somebody else's, so that this is shown too."""
    here, searcher = foreign_packages, plain / "searcher"
    run(searcher, "launch", *STUDY, "--trials", 1, "--epochs", 1, cwd=here)
    trials = json.loads(run(searcher, "trials", *STUDY, "--json", cwd=here))
    assert [trial["state"] for trial in trials] == ["COMPLETE"], trials
    folder = here / "runs" / "unet-demo" / "trial-0000"
    assert list(folder.glob("worst-*.jpg")), "outlines on images need no extra"
    lacking = 'no learning curve is drawn: that takes the extra "plots"; pip install'
    assert lacking in (folder / "trial.log").read_text()

    run(searcher, "best", *STUDY, cwd=here)
    assert 'extra "plots", got none' in refused(searcher, "best", *STUDY, "--plot", "s.html", cwd=here)
    run(searcher, "export", *STUDY, "--to", "bundle", cwd=here)
    draw = ("--images", 2, "--test-images", 1, "--size", 96)
    run(searcher, "data", "draw", "--to", "glands", *draw, cwd=here)
    run(searcher, "evaluate", "bundle", "--data", "glands", cwd=here)
    report = ("evaluate", "bundle", "--data", "glands", "--report", "page.html")
    assert 'extra "plots", got none' in refused(searcher, *report, cwd=here)
    run(searcher, "predict", "bundle", "glands/testA_1.png", "--to", "found", cwd=here)
    assert {path.name.partition(".")[2] for path in (here / "found").iterdir()} >= {"labels.tif", "geojson"}
    assert not (here / "s.html").exists()
    assert not (here / "page.html").exists()
