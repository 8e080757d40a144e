"""Memory that a training on the CPU has used is there for its next step."""

import subprocess
import sys

import pytest

CODE = """
import resource, torch
from searcher.training.device import keep_freed_memory
torch.set_num_threads(1)
{setting}
def fill():
    tensors = [torch.full((2**20 * mib // 4,), 1.0) for mib in (8, 24, 64)]
    return sum(tensor[0].item() for tensor in tensors)
for _ in range(10):  # a heap grows until blocks find their places
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    assert fill() == 3
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 5 * (8 + 24 + 64) * 2**20 // 4096


def faults(setting: str) -> int:
    """Return how many pages five further rounds had to be given."""
    code = CODE.format(setting=setting)
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator alone is set")
def test_pages_that_were_freed_are_used_again_on_the_cpu_alone():
    assert faults('keep_freed_memory(torch.device("cpu"))') < 0.1 * PAGES
    assert faults('keep_freed_memory(torch.device("cuda"))') > 0.5 * PAGES, (
        "left as it is: the largest anew, each time"
    )
