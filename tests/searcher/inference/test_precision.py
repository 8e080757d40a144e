"""Which number format a device trains in."""

import pytest
import torch

from searcher.exceptions import UserError
from searcher.inference.precision import autocast, default_device, resolve_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(params=[True, False])
def cuda_has_bfloat16(request, monkeypatch):
    """Stand in for a GPU with or without bfloat16 hardware, on a machine with none."""

    def is_supported(*, including_emulation):
        assert not including_emulation  # emulated bfloat16 is slower than float32
        return request.param

    class Device:
        def __init__(self, device):
            assert device == CUDA

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    monkeypatch.setattr(torch.cuda, "device", Device)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    return request.param


def test_the_cpu_trains_in_float32_unless_told_otherwise():
    assert resolve_precision("auto", CPU) is torch.float32
    assert resolve_precision("float32", CPU) is torch.float32
    assert resolve_precision("bfloat16", CPU) is torch.bfloat16


def test_auto_takes_bfloat16_where_the_gpu_has_it(cuda_has_bfloat16):
    expected = torch.bfloat16 if cuda_has_bfloat16 else torch.float32
    assert resolve_precision("auto", CUDA) is expected
    assert resolve_precision("float32", CUDA) is torch.float32


def test_bfloat16_on_a_gpu_without_it_is_refused_with_a_remedy(cuda_has_bfloat16):
    if cuda_has_bfloat16:
        assert resolve_precision("bfloat16", CUDA) is torch.bfloat16
        return
    with pytest.raises(UserError, match=r"train\.precision: .* got Old GPU; use 'auto' or 'float32'"):
        resolve_precision("bfloat16", CUDA)


@pytest.mark.parametrize(
    ("dtype", "result"), [(torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16)]
)
def test_products_run_in_the_format(dtype, result):
    with autocast(CPU, dtype):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is result


def test_the_default_device_is_there():
    torch.ones(1, device=default_device())
