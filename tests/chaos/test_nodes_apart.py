"""A node of the cluster that does not see what the others see: the storage folder, the images."""

import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from chaos_facts import assert_finished
from chaos_harness import Study, fault, wait_until
from node_apart import can_set_apart, node_apart
from skimage.io import imsave

pytestmark = pytest.mark.skipif(not can_set_apart(), reason="mounts of its own need root and Linux")

HERE = f"node {socket.gethostname()} (127.0.0.1)"


def write_images(folder: Path, brightness: int) -> Path:
    """Eight images with one square gland each."""
    labels = np.zeros((64, 64), np.uint8)
    labels[16:48, 16:48] = 1
    for kind, picture in (("images", np.full((64, 64, 3), brightness, np.uint8)), ("labels", labels)):
        (folder / kind).mkdir(parents=True)
        for name in "abcdefgh":
            imsave(folder / kind / f"{name}.png", picture, check_contrast=False)
    return folder


@pytest.mark.fault(
    "a node whose storage folder is its own; one whose images are others",
    holds="the launch is refused in one line that names the node; no database, no file",
)
def test_a_node_with_a_folder_of_its_own_is_named_and_nothing_begins(
    new_study: Callable[..., Study], cluster_address: str, tmp_path: Path, fact: Callable[[str], None]
):
    images, others = write_images(tmp_path / "a", 200), write_images(tmp_path / "b", 100)
    cache, empty = tmp_path / "cache", tmp_path / "empty"
    cache.mkdir()
    empty.mkdir()
    study = new_study()
    study.runs.mkdir()
    with node_apart(cluster_address, {study.runs: empty}):
        said = study.start().ends_with(2)
    assert said == (
        f"{HERE}: --storage {study.runs} must be the same folder on every node, got one without the file that the "
        "driver has just written there; mount the shared folder there\n"
    )
    fact(said.strip())

    with_images = {"environment": {"SEARCHER_CACHE": str(cache)}}
    with node_apart(cluster_address, {images: others, cache: empty}):
        said = study.start("--data", str(images), **with_images).ends_with(2)
    assert said.splitlines()[-1].startswith(
        f"{HERE}: --data {images}: must hold the same files on every node, got "
    )
    assert [*study.runs.iterdir()] == []
    assert not (study.folder / "searcher.db").exists()

    own_cache = tmp_path / "own cache"
    own_cache.mkdir()
    with node_apart(cluster_address, {cache: own_cache}):
        study.start("--data", str(images), "--trials", "2", "--epochs", "2", **with_images).ends_with(0)
    [store] = (path for path in cache.iterdir() if path.is_dir())
    built_there = own_cache / store.name / "pixels.bin"
    assert built_there.read_bytes() == (store / "pixels.bin").read_bytes()


@pytest.mark.fault(
    "a node without the shared folder joins in mid-study",
    holds="its trial FAILs with the reason and resumes elsewhere; exact budget",
)
def test_the_trial_of_a_node_that_joins_without_the_folder_fails_and_goes_on_elsewhere(
    new_study: Callable[..., Study], cluster_address: str, tmp_path: Path, fact: Callable[[str], None]
):
    (tmp_path / "empty").mkdir()
    study = new_study(trials=4, epochs=4, grace_epochs=4, max_concurrent=4)
    halt = fault("third", "searcher.training.trainer:Trainer._run_epoch", "hang", call=3, times=3)
    driver = study.start(faults=[halt])
    wait_until("three trials stand", lambda: driver.hanging("third") == 3, driver=driver)
    with node_apart(cluster_address, {study.runs: tmp_path / "empty"}):
        wait_until("the fourth has failed there", lambda: study.facts().failed(), driver=driver)
    driver.let_go("third")
    driver.ends_with(0)
    facts = study.facts()
    assert_finished(facts, study.runs, budget=4, epochs=4)
    reason = facts.failed()[0].notes["fail_reason"]
    assert reason.startswith(
        f"node {socket.gethostname()}: --storage {study.runs} must be the same folder on every"
    )
    fact(facts.summary())
