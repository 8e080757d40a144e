"""Memory does not grow with the dataset."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "stream_memory.py"


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's account of memory")
def test_private_memory_grows_by_less_than_10_mb_when_the_dataset_is_10_times_larger() -> None:
    """From 12 to 120 images of 400 x 300 px there are 65 MB more of pixels and labels."""
    command = [sys.executable, str(BENCHMARK), "--images", "12", "--height", "300", "--width", "400"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    measured = json.loads(run.stdout)
    assert (
        measured["large"]["Private_Clean"] + measured["large"]["Shared_Clean"] > 60e6
    )  # the pixels were all seen
    assert measured["private_growth"] < 10e6
