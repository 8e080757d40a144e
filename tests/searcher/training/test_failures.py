"""What went wrong, in one line, and what it is about; with real errors."""

import errno
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from searcher.atomic_files import write_atomically
from searcher.data_pipeline import SyntheticGlands, prepare_store
from searcher.data_pipeline.exceptions import DataError
from searcher.exceptions import CheckpointError, NonFiniteLossError
from searcher.models import unet
from searcher.models.values import TensorBatch
from searcher.study.objectives import Objective
from searcher.training.failures import TrialFailure, diagnose
from searcher.training.history import append_epoch
from searcher.training.reporter import NullReporter
from searcher.training.trainer import Trainer

EXBIBYTE = 2**60
LOSS = Objective("loss")


def caught(function, *arguments, **options):
    with pytest.raises(BaseException) as error:  # noqa: PT011  whatever it is
        function(*arguments, **options)
    return error.value


def allocate_with_torch():
    return torch.empty(EXBIBYTE, dtype=torch.uint8)


def cv2_memory_error():
    return cv2.error(
        "OpenCV(4.12.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 8 bytes"
    )


@pytest.mark.parametrize(
    "allocate",
    [allocate_with_torch, lambda: np.empty(EXBIBYTE, np.uint8), lambda: bytearray(EXBIBYTE)],
    ids=["torch", "numpy", "python"],
)
def test_a_real_allocation_that_fails_is_about_memory(allocate):
    failure = diagnose(caught(allocate))
    assert failure.cause == "memory"
    assert failure.reason.startswith("out of memory: ")
    assert "tests/searcher/training/test_failures.py:" in failure.reason


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_allocation_on_the_device_is_about_memory():
    failure = diagnose(caught(torch.empty, 2**50, dtype=torch.uint8, device="cuda"))
    assert failure.cause == "memory"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8"
        ),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        RuntimeError("could not create a primitive"),  # of a convolution whose code found no room
        RuntimeError("could not create a memory object"),
        RuntimeError("could not execute a primitive"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("unable to mmap 4096 bytes from file </x>: Cannot allocate memory (12)"),
        cv2_memory_error(),
    ],
    ids=lambda error: str(error)[:40],
)
def test_what_torch_says_of_a_device_without_memory_is_about_memory(error):
    assert diagnose(error).cause == "memory"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("unsupported memory format option Contiguous"),
        RuntimeError(
            "could not create a primitive descriptor for a convolution forward propagation primitive"
        ),
        ValueError("could not create a memory object"),
        RuntimeError("CUDA error: device-side assert triggered"),
        ValueError("DefaultCPUAllocator: can't allocate memory"),
        FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)),
        OSError(errno.EFBIG, os.strerror(errno.EFBIG)),
    ],
)
def test_other_errors_are_the_trials_own(error):
    assert diagnose(error).cause == "trial"


def test_memory_below_another_error_is_about_memory():
    def build():
        try:
            allocate_with_torch()
        except RuntimeError as error:
            raise CheckpointError("last.pt: could not be read") from error

    assert diagnose(caught(build)) == TrialFailure("last.pt: could not be read", "memory")


def write_text(path):
    path.write_text("x" * 10_000)


def write_file_atomically(path):
    write_atomically(path, lambda writer: writer.write(bytes(10_000)))


def append_a_long_line(path):
    append_epoch(path, 1, {f"metric {n}": 0.1 for n in range(1000)})


@pytest.mark.parametrize("write", [write_text, write_file_atomically, append_a_long_line])
def test_a_real_full_disk_is_about_the_disk(small_disk, write):
    small_disk.fill()
    failure = diagnose(caught(write, small_disk.path / "file"))
    assert failure.cause == "disk"
    assert "No space left on device" in failure.reason


def test_a_quota_that_is_used_up_is_about_the_disk():
    assert diagnose(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))).cause == "disk"


@pytest.mark.parametrize("suppressed", [False, True])
def test_a_full_disk_is_found_below_errors_of_errors(suppressed):
    def fail():
        try:
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            finally:
                raise KeyError("while cleaning up")
        except KeyError:
            if suppressed:
                raise CheckpointError("runs/last.pt: could not be written") from None
            raise CheckpointError("runs/last.pt: could not be written") from ValueError("another")

    assert diagnose(caught(fail)) == TrialFailure("runs/last.pt: could not be written", "disk")


def test_errors_in_a_circle_come_to_an_end():
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__context__ = two, one
    assert diagnose(one) == TrialFailure("ValueError: one", "trial")


def line_of(module, text):
    [number] = [n for n, line in enumerate(inspect.getsource(module).splitlines(), 1) if text in line]
    return number


def test_an_error_in_a_model_names_the_models_line_and_torchs():
    model = unet.UNet(base_channels=2, depth=1).double()
    model.classifier.float()  # the two halves do not fit
    batch = TensorBatch(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), torch.zeros(1, 8, 8, dtype=torch.int32))
    failure = diagnose(caught(model.training_step, batch))
    assert failure.cause == "trial"
    assert failure.reason.startswith("RuntimeError: ")
    here = f" at searcher/models/unet.py:{line_of(unet, 'x = level(x)')} (raised at torch/nn/modules/conv.py:"
    assert here in failure.reason


def test_an_error_of_the_projects_own_line_names_it_once():
    def fail():
        raise RuntimeError("boom")

    number = fail.__code__.co_firstlineno + 1

    expected = f"RuntimeError: boom at tests/searcher/training/test_failures.py:{number}"
    assert diagnose(caught(fail)) == TrialFailure(expected, "trial")


def test_an_error_inside_a_package_names_its_file():
    failure = diagnose(caught(json.loads, "{"))
    assert "tests/searcher/training/test_failures.py:" in failure.reason
    assert " (raised at json/decoder.py:" in failure.reason


def test_no_reason_tells_where_this_installation_lies():
    failures = [diagnose(caught(json.loads, "{")), diagnose(caught(allocate_with_torch))]
    for failure in failures:
        assert sys.prefix not in failure.reason
        assert str(Path(json.__file__).parents[1]) not in failure.reason


def test_a_reason_is_one_line_of_readable_length():
    failure = diagnose(RuntimeError("first\n  second\n" + "more " * 1000))
    assert failure.reason.startswith("RuntimeError: first second more")
    assert len(failure.reason) < 600
    assert "\n" not in failure.reason
    assert diagnose(KeyError()).reason == "KeyError: no message"


@pytest.mark.parametrize(
    "error",
    [CheckpointError("runs/last.pt: rule,\n got value; remedy"), DataError("a.png: rule", "b.png: rule")],
)
def test_our_own_errors_say_where_themselves(error):
    assert diagnose(error) == TrialFailure(" ".join(str(error).split()), "trial")


def test_a_loss_that_became_nan_is_the_trials_own(store, tiny, tmp_path):
    config = tiny(optimizer={"name": "sgd", "lr": 1e30})
    with Trainer(config, LOSS, store=store, run_dir=tmp_path) as trainer:
        error = caught(trainer.fit, NullReporter())
    assert isinstance(error, NonFiniteLossError)
    failure = diagnose(error)
    assert failure.cause == "trial"
    assert "became" in failure.reason
    assert "at epoch 1, step " in failure.reason


def test_a_model_too_large_for_memory_is_about_memory(store, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(unet.UNet, "training_step", lambda self, batch: {"bce": allocate_with_torch()})
    with Trainer(tiny(), LOSS, store=store, run_dir=tmp_path) as trainer:
        failure = diagnose(caught(trainer.step, NullReporter()))
    assert failure.cause == "memory"


def test_the_driver_learns_of_failures_without_importing_torch():
    script = "import sys, searcher.training.failures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_a_damaged_store_is_about_the_store_and_not_about_the_trial(tmp_path):
    store = prepare_store(SyntheticGlands(num_images=2, size_px=32, seed=0), tmp_path)
    (store.path / "labels.bin").write_bytes(bytes((store.path / "labels.bin").stat().st_size))
    failure = diagnose(caught(store.check_unchanged))
    assert failure.cause == "store"
    assert failure.reason.startswith(f"{store.path}: the store must hold the bytes that were written into it")
