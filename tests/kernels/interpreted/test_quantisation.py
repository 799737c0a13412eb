"""Numbers of 8 bits, coded by kernels, are those of torch."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from coxswain_kernels.cache import quantisation


@triton.jit
def _encoded(x, out, scale, N: tl.constexpr, ENCODING: tl.constexpr):
    n = tl.arange(0, N)
    tl.store(out + n, quantisation.encode(tl.load(x + n), scale, ENCODING))


@triton.jit
def _decoded(x, out, scale, N: tl.constexpr, ENCODING: tl.constexpr):
    n = tl.arange(0, N)
    tl.store(out + n, quantisation.decode(tl.load(x + n), scale, ENCODING))


@pytest.mark.parametrize("dtype", quantisation.DTYPES)
@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_values_are_rounded_as_torch_rounds_them(dtype: torch.dtype, scale: float, device: str) -> None:
    top = 448 if dtype == torch.float8_e4m3fn else 127
    halves = torch.arange(-127, 127) + 0.5
    x = torch.cat((torch.linspace(-top, top, 3840), torch.randn(4096) * 0.02, torch.tensor([0.0, -0.0]), halves))
    x = (x * scale).to(device)
    out = torch.empty(x.shape, dtype=torch.int8, device=device)
    _encoded[(1,)](x, out, scale, x.shape[0], quantisation.encoding(dtype))
    wanted = x / scale
    wanted = (wanted.round() if dtype == torch.int8 else wanted).to(dtype)
    assert torch.equal(out.view(dtype).float(), wanted.float())


@pytest.mark.parametrize("dtype", quantisation.DTYPES)
def test_every_code_has_its_value(dtype: torch.dtype, device: str) -> None:
    codes = torch.arange(256, device=device).to(torch.uint8).view(torch.int8)
    out = torch.empty(256, device=device)
    _decoded[(1,)](codes, out, 0.5, 256, quantisation.encoding(dtype))
    wanted = codes.view(dtype).float() * 0.5
    assert torch.equal(out.nan_to_num(7e9), wanted.nan_to_num(7e9))


def test_a_row_of_zeros_stays_one() -> None:
    stored, scales = quantisation.quantised(torch.zeros(2, 8), torch.int8)
    assert torch.equal(quantisation.dequantised(stored, scales, torch.float32), torch.zeros(2, 8))
