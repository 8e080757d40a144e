"""`searcher.launch` in a notebook's process, and the notebooks, scripts and pages that show it."""

import asyncio
import json
import logging
import os
import re
import runpy
import signal
from pathlib import Path

import matplotlib
import pytest
import ray

import searcher
from searcher.exceptions import SearchBrokeOffError, UserError

ROOT = Path(__file__).parents[3]
SMALL = {
    "data.synthetic_images": 12, "data.synthetic_size_px": 64, "augment.crop_px": 64, "model.base_channels": 2,
    "model.depth": 2, "resources.pictures": 0, "resources.max_concurrent": 1, "data.num_threads": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path, cache_dir, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEARCHER_DB", raising=False)


class _OnText(logging.Handler):
    """Calls a function once, when a line that matches is logged."""

    def __init__(self, pattern: str, act) -> None:
        super().__init__()
        self._pattern, self._act = re.compile(pattern), act

    def emit(self, record: logging.LogRecord) -> None:
        if self._act is not None and self._pattern.search(record.getMessage()):
            act, self._act = self._act, None
            act()


def test_the_stop_button_ends_a_launch_and_the_same_call_goes_on_quietly(ray_nodes, monkeypatch, capfd):
    logger, before = logging.getLogger("searcher"), logging.getLogger("searcher").level
    stop = _OnText("epoch 1", lambda: os.kill(os.getpid(), signal.SIGINT))
    logger.addHandler(stop)
    logger.setLevel(logging.INFO)
    monkeypatch.setenv("RAY_ADDRESS", ray_nodes.address)
    try:
        with pytest.raises(KeyboardInterrupt):
            searcher.launch("unet-demo", trials=2, epochs=2, set=SMALL)
    finally:
        logger.removeHandler(stop)
        logger.setLevel(before)
    assert os.environ["RAY_ADDRESS"] == ray_nodes.address, "the next call needs it too"
    assert not ray.is_initialized()
    left = searcher.load_study("unet-demo")
    assert (left.outcome, left.num_done) == ("interrupted", 0)
    assert "RUNNING" not in set(left.trials["state"])
    capfd.readouterr()
    result = searcher.launch("unet-demo", trials=2, epochs=2, set=SMALL)
    assert capfd.readouterr() == ("", "")
    assert (result.outcome, result.num_done) == ("finished", 2)
    done = result.trials[result.trials["state"].isin(["COMPLETE", "PRUNED"])]
    assert list(done["epochs"]) == [2, 2]


def test_a_search_that_fails_is_an_error_and_what_is_done_stays(ray_nodes):
    broken = SMALL | {
        "optimizer.name": "sgd",
        "optimizer.lr": 1e30,
        "optimizer.momentum": 0.9,
        "model.norm": "none",
    }
    with pytest.raises(SearchBrokeOffError, match=r"^unet-demo: failed with 0 of 1 trials done: ") as error:
        searcher.launch("unet-demo", trials=1, epochs=1, set=broken, address=ray_nodes.address)
    assert "\n" not in str(error.value)
    assert searcher.load_study("unet-demo").trials["state"].eq("FAIL").all()


def test_a_ray_session_of_the_notebook_is_not_ended_by_a_launch(ray_nodes):
    ray.init(address=ray_nodes.address, log_to_driver=False)
    try:
        with pytest.raises(UserError, match=r"^ray: must not be in use .* call ray\.shutdown\(\) first"):
            searcher.launch("unet-demo", trials=1, set=SMALL)
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def run_notebook(path: Path) -> dict[str, object]:
    """Run the cells of a notebook one after the other, below a running event loop as in a Jupyter kernel."""

    async def cells() -> dict[str, object]:
        return run_cells(path)

    return asyncio.run(cells())


def run_cells(path: Path) -> dict[str, object]:
    book = json.loads(path.read_text())
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in book["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert (cell["outputs"], cell["execution_count"]) == ([], None), "outputs are not kept in git"
        exec(compile("".join(cell["source"]), f"{path.name}:{cell['id']}", "exec"), names)
    return names


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_the_notebooks_and_the_page_run_one_after_the_other(ray_nodes, monkeypatch, tmp_path):
    """The page launches the notebook's study again, which is done by then."""
    monkeypatch.setenv("RAY_ADDRESS", ray_nodes.address)
    matplotlib.use("agg")
    found = run_notebook(ROOT / "examples" / "search.ipynb")
    assert found["result"].num_done == 3
    assert (tmp_path / "bundle" / "bundle.json").is_file()
    shown = run_notebook(ROOT / "examples" / "predict.ipynb")
    assert shown["labels"].shape == shown["truth"].shape
    names: dict[str, object] = {}
    pages = blocks(ROOT / "docs" / "python.md")
    assert len(pages) >= 5
    for number, block in enumerate(pages):
        exec(compile(block, f"python.md:{number}", "exec"), names)
    assert names["evaluation"].splits["testA"].num_images == 2
    assert names["trained"].checkpoint.is_file()


def test_a_network_is_trained_by_hand(capsys):
    main = runpy.run_path(str(ROOT / "examples" / "train_one.py"))["main"]
    figures = main(num_epochs=2, num_images=12)
    assert set(figures) == {"f1", "object_dice", "object_hausdorff", "pixel_dice"}
    first, second = re.findall(r"loss ([\d.]+)", capsys.readouterr().out)
    assert float(second) < float(first)
