"""The disk is full while a checkpoint is written; then somebody makes room."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos_facts import assert_finished, assert_went_on, digest_of
from chaos_harness import Study, fault, wait_until


class SmallDisk:
    """A tmpfs."""

    def __init__(self, folder: Path, mebibytes: int) -> None:
        self.folder = folder
        self.folder.mkdir()
        self._mount("-o", f"size={mebibytes}m", "tmpfs")

    def _mount(self, *options: str) -> None:
        subprocess.run(
            ["mount", "-t", "tmpfs", *options, str(self.folder)], check=True, capture_output=True, text=True
        )

    def fill(self) -> None:
        """Write until nothing more fits."""
        with (self.folder / "somebody-elses").open("wb", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        ballast.write(b"x" * size)
                except OSError:
                    continue

    def grow(self, mebibytes: int) -> None:
        """Give it more room."""
        self._mount("-o", f"remount,size={mebibytes}m", "tmpfs")

    def close(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    try:
        disk = SmallDisk(tmp_path / "disk", mebibytes=160)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no tmpfs can be mounted: {getattr(error, 'stderr', error)}")
    yield disk
    disk.close()


@pytest.mark.fault(
    "the disk full while a checkpoint is written (a small tmpfs)",
    holds="the checkpoint before stays valid; the trial FAILs with the reason; the study stops with a clear word; "
    "with room it resumes from there to its exact budget",
)
def test_a_full_disk_loses_nothing_that_was_written(
    new_study: Callable[..., Study], small_disk: SmallDisk, fact: Callable[[str], None]
):
    study = new_study(storage=small_disk.folder, trials=3, epochs=8, grace_epochs=4, max_concurrent=1)
    hang = fault("full", "searcher.training.checkpoints:save_checkpoint", "hang", call=4)
    driver = study.start(faults=[hang])
    wait_until("the fourth epoch is about to be written", lambda: driver.hanging("full"), driver=driver)
    study.wait_for_epochs(3, driver)
    small_disk.fill()
    driver.let_go("full")
    output = driver.ends_with(1)
    [trial] = study.facts().failed()
    assert "No space left on device" in trial.notes["fail_reason"]
    assert len(trial.epochs) == 3
    last = trial.checkpoints["last"]
    assert last["epoch"] == 3
    assert digest_of(small_disk.folder / last["uri"]) == last["sha256"]
    assert "No space left on device" in output
    assert study.facts().states["RUNNING"] == 0
    [line] = study.start().ends_with(2).splitlines()
    assert "must have room for" in line, "without room it does not even begin"
    assert len(study.facts().launches) == 1
    small_disk.grow(mebibytes=320)
    output = study.finish()
    assert "goes on after epoch 3" in output
    facts = study.facts()
    assert_finished(facts, study.runs, budget=3, epochs=8)
    assert_went_on(facts)
    [retry] = facts.retries_of(trial.number)
    assert retry.epochs[:3] == trial.epochs
    assert retry.is_done
    assert "attempt" not in retry.notes or retry.notes["attempt"] == 0, "a full disk is not the trial's fault"
    fact(facts.summary())
