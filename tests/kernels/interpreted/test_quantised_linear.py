"""A linear layer of few bits is the layer that its codes stand for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from coxswain_kernels.matrices import quantised_linear as op
from coxswain_kernels.matrices.quantised_weights import DTYPES, QuantisedWeight, pack, unpack

EACH_DTYPE = pytest.mark.parametrize("dtype", DTYPES)
EACH_KIND = pytest.mark.parametrize("kind", ["fast", "invariant"])
FORMATS = pytest.mark.parametrize(
    "how", [{"bits": 4}, {"bits": 4, "zero_points": True}, {"bits": 8}, {"bits": 8, "by_column": True}], ids=str
)
How = dict[str, int]


def _weight(how: How, dtype: torch.dtype, device: str, *, inner: int = 256, columns: int = 72) -> QuantisedWeight:
    return pack((torch.randn(inner, columns) / inner**0.5).to(device, dtype), **how)  # type: ignore[arg-type]


@FORMATS
@EACH_DTYPE
@EACH_KIND
@pytest.mark.parity("quantised_linear")
def test_it_is_what_torch_computes(how: How, dtype: torch.dtype, kind: op.Kind, device: str) -> None:
    weight = _weight(how, dtype, device)
    for rows in (0, 5, 33) if kind == "invariant" else (0, 5, 17, 65):
        x = torch.randn(rows, 256).to(device, dtype)
        torch.testing.assert_close(op.launch(x, weight, kind=kind), op.reference(x, weight), atol=1e-3, rtol=1e-2)


@EACH_DTYPE
@pytest.mark.parity("quantised_linear")
def test_every_code_becomes_its_value_exactly(dtype: torch.dtype, device: str) -> None:
    for how, codes in (({"bits": 4}, 16), ({"bits": 4, "zero_points": True}, 16), ({"bits": 8}, 256)):
        weight = _weight(how, dtype, device, inner=128, columns=codes)
        ones = torch.ones_like(weight.scales)
        values = torch.arange(codes, dtype=torch.uint8, device=device).repeat_interleave(weight.values.shape[1])
        values = values.reshape(codes, -1) * (17 if codes == 16 else 1)
        exact = replace(weight, values=values, scales=ones)
        got = op.launch(torch.eye(128, device=device, dtype=dtype), exact)
        assert torch.equal(got.float(), unpack(exact))


@pytest.mark.parity("quantised_linear")
def test_long_sums_are_split_where_rows_are_few(device: str) -> None:
    weight = _weight({"bits": 4}, torch.float16, device, inner=2048, columns=24)
    x = torch.randn(12, 4096).to(device, torch.float16)[::4, :2048]
    assert op.split_count(*weight.shape) == 2
    torch.testing.assert_close(op.launch(x, weight, kind="fast"), op.reference(x, weight), atol=1e-3, rtol=1e-2)


@FORMATS
@EACH_DTYPE
@pytest.mark.parity("quantised_linear")
def test_packing_keeps_weights_to_half_a_step(how: How, dtype: torch.dtype) -> None:
    weight = torch.randn(256, 5).to(dtype) * torch.tensor([1.0, 0.01, 0.0, 3.0, 100.0]).to(dtype)
    packed = pack(weight, **how)  # type: ignore[arg-type]
    packed.check()
    assert packed.shape == (256, 5)
    assert packed.values.shape == (5, 256 * how["bits"] // 8)
    step = packed.scales.float().repeat_interleave(256 // packed.scales.shape[0], 0)
    # Of a scale that was rounded, the last code may be as much further off as there are codes.
    assert ((unpack(packed) - weight.float()).abs() <= step * (0.51 + 16 * torch.finfo(dtype).eps)).all()


@FORMATS
@EACH_DTYPE
@pytest.mark.invariant("quantised_linear")
def test_a_row_has_the_same_bits_in_every_company(how: How, dtype: torch.dtype, device: str) -> None:
    weight, x = _weight(how, dtype, device, columns=24), torch.randn(35, 256).to(device, dtype)
    together = op.launch(x, weight, kind="invariant")
    for row in (0, 31, 32, 34):
        assert torch.equal(op.launch(x[row : row + 1], weight, kind="invariant"), together[row : row + 1])
    assert torch.equal(op.launch(x.flip(0), weight, kind="invariant"), together.flip(0))


@pytest.mark.parity("quantised_linear")
def test_a_bias_is_added() -> None:
    weight, x, bias = _weight({"bits": 4}, torch.float16, "cpu"), torch.randn(3, 256).half(), torch.randn(72).half()
    assert torch.equal(op.quantised_linear(x, weight, bias), op.reference(x, weight) + bias)


@pytest.mark.parity("quantised_linear")
def test_what_does_not_fit_is_refused() -> None:
    weight = _weight({"bits": 4}, torch.float16, "cpu")
    with pytest.raises(ValueError, match=r"x has shape \[2, 128\], wanted \[any, 256\]"):
        op.launch(torch.zeros(2, 128).half(), weight)
    with pytest.raises(ValueError, match="x is bfloat16, wanted float16"):
        op.launch(torch.zeros(2, 256).bfloat16(), weight)
    with pytest.raises(ValueError, match=r"scales has shape \[1, 72\], wanted \[2, 72\]"):
        op.launch(torch.zeros(2, 256).half(), replace(weight, scales=weight.scales[:1]))
    with pytest.raises(ValueError, match="a weight has 100 inputs, wanted a multiple of 128"):
        pack(torch.zeros(100, 4).half(), bits=4)
    with pytest.raises(ValueError, match="bits is 4, wanted one of 8"):
        pack(torch.zeros(128, 4).half(), bits=4, by_column=True)
    with pytest.raises(ValueError, match="weight is float32, wanted float16 or bfloat16"):
        pack(torch.zeros(128, 4), bits=4)
