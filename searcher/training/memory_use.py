"""How much memory a configuration takes to train and validate, measured in a process that does nothing else.

    python -m searcher.training.memory_use STORE [DEVICE]

reads one configuration in JSON per line and answers each with one line; the first line that it writes is about the
device. `memory_probe` starts it.
"""

import gc
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from searcher.data_pipeline.batch import Batch
from searcher.data_pipeline.datasets.synthetic import SyntheticGlands
from searcher.data_pipeline.store import Store, normalised
from searcher.inference.precision import default_device, resolve_precision
from searcher.plugins import load_plugins
from searcher.study.config import TrialConfig
from searcher.study.objectives import Objective
from searcher.training.class_data import classed
from searcher.training.data_defaults import fitted_to_data
from searcher.training.dataset import split_store
from searcher.training.device import keep_freed_memory, to_device
from searcher.training.failures import diagnose
from searcher.training.learner import Learner
from searcher.training.pixels import pixels_of
from searcher.training.validation import Validator

__all__ = ["run_heaviest_steps"]

_LEARNING_RATE = 1e-9
"""A learning rate that replaces the configuration's. It has no effect on memory, and with it no loss becomes
infinite."""
_LARGEST_CONTEXT_BYTES = 2**30
"""What a CUDA context takes before the first kernel is 0.3 to 0.6 GiB. What is in use beyond this is others'."""


def run_heaviest_steps(config: TrialConfig, store: Store, *, device: torch.device) -> None:
    """Run the steps of a trial that need most memory: two of training, a validation, and one more of training.

    The optimiser has its state from the first step on, so the second step needs more. After a validation, whose images
    have another size, memory is fragmented differently. Network, average, optimiser and number format are the trial's.
    Weights are random, so none are downloaded. A batch is filled with synthetic glands, so that the heads of detectors
    get nearly as many objects as they can handle. The validation uses the largest validation image. The result may be a
    few percent below the memory of a real training.

    Args:
        config: Configuration of the trial.
        store: The store of the data set.
        device: Device to train on.

    Raises:
        Exception: An error of the training; `diagnose` recognises a lack of memory.
    """
    keep_freed_memory(device)  # as a trial does
    dtype = resolve_precision(config.train.precision, device)
    pixels = pixels_of(config, store)
    store = normalised(classed(store, config.data), pixels.normalisation)
    split = split_store(store, config.data)
    calm = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"lr": _LEARNING_RATE})})
    learner = Learner(
        fitted_to_data(calm, store, split.train),
        Objective("loss"),
        device=device,
        dtype=dtype,
        steps_per_epoch=2,
        pretrained=False,
    )
    largest = max(split.val, key=lambda index: store.image(index).size)
    validator = Validator(
        store,
        [largest],
        device=device,
        dtype=dtype,
        tile_px=config.train.eval_tile_px,
        tile_overlap_px=config.train.eval_tile_overlap_px,
    )
    batch = _batch(config, len(store.class_names))
    for _ in range(2):
        learner.learn(to_device(batch, device))
    validator.validate(learner.evaluated, epoch=1)
    learner.learn(to_device(batch, device))


def _batch(config: TrialConfig, num_classes: int) -> Batch:
    size_px, num = config.augment.crop_px, config.train.batch_size
    images, labels = zip(
        *map(SyntheticGlands(num_images=num, size_px=size_px, seed=0).read, range(num)), strict=True
    )
    classes = None
    if num_classes:  # in turn: which object has which makes no difference
        classes = tuple((np.arange(each.max() + 1, dtype=np.int32) - 1) % num_classes + 1 for each in labels)
    return Batch(np.stack(images), np.stack(labels), tuple(map(str, range(num))), classes)


class _Gpu:
    """What this process has of a GPU."""

    def __init__(self, device: torch.device) -> None:
        # Some of torch's functions want to be told which of the GPUs.
        self._device = torch.device(
            "cuda", torch.cuda.current_device() if device.index is None else device.index
        )
        torch.cuda.set_device(self._device)
        free, self.total_bytes = torch.cuda.mem_get_info(self._device)
        in_use = self.total_bytes - free  # by this process's context, and by other processes
        self.others_bytes = max(0, in_use - _LARGEST_CONTEXT_BYTES)
        self.name = torch.cuda.get_device_name(self._device)

    def forget(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak_bytes(self) -> int:
        """Return the largest memory that torch has reserved, plus that of the CUDA context, in bytes."""
        free, total = torch.cuda.mem_get_info(self._device)
        beside = total - free - torch.cuda.memory_reserved(self._device) - self.others_bytes
        return int(torch.cuda.max_memory_reserved(self._device)) + max(0, beside)


class _Cpu:
    """What this process has of the machine's main memory."""

    name = "CPU"
    others_bytes = 0

    def __init__(self) -> None:
        self.total_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def forget(self) -> None:
        """Do nothing: each configuration has a process of its own."""

    def peak_bytes(self) -> int:
        return _host_peak_bytes()


def _host_peak_bytes() -> int:
    """Return the most main memory that this process has had, torch's own code included."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux `getrusage` has the most of the process that started this one, too
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _answers(store: Store, device: torch.device, requests: TextIO) -> Iterator[dict[str, Any]]:
    memory = _Gpu(device) if device.type == "cuda" else _Cpu()
    yield {
        "device_name": memory.name,
        "is_gpu": device.type == "cuda",
        "total_bytes": memory.total_bytes,
        "others_bytes": memory.others_bytes,
    }
    answer = _answer if device.type == "cuda" else _answer_apart
    for request in requests:
        yield answer(request, memory, store, device)


def _answer(request: str, memory: "_Gpu | _Cpu", store: Store, device: torch.device) -> dict[str, Any]:
    memory.forget()
    problem = None
    try:
        run_heaviest_steps(TrialConfig.model_validate_json(request), store, device=device)
    except Exception as error:  # it becomes the answer
        problem = vars(diagnose(error))
    return {"peak_bytes": memory.peak_bytes(), "host_bytes": _host_peak_bytes(), "problem": problem}


def _answer_apart(request: str, memory: "_Gpu | _Cpu", store: Store, device: torch.device) -> dict[str, Any]:
    """Answer from a process that has not measured before, since main memory that is freed may stay with its process."""
    reader, writer = os.pipe()
    process = os.fork()  # no thread has been started yet
    if not process:
        with os.fdopen(writer, "w") as pipe:
            json.dump(_answer(request, memory, store, device), pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if text:
        answer: dict[str, Any] = json.loads(text)
        return answer
    # The system kills whoever takes the last of the main memory.
    problem = {"cause": "memory" if code == -signal.SIGKILL else "trial", "reason": f"exit code {code}"}
    return {"peak_bytes": 0, "host_bytes": 0, "problem": problem}


def _main(store: str, device: str = "", *plugins: str) -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    load_plugins(plugins, folder=Path("/"))
    chosen = torch.device(device) if device else default_device()
    for answer in _answers(Store.open(Path(store)), chosen, sys.stdin):
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
