"""Blocks gathered and scattered by the kernel are those that torch gathers and scatters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from coxswain_kernels.cache import block_copy as op
from coxswain_kernels.cache.block_copy import Blocks
from coxswain_kernels.cache.quantisation import DTYPES as EIGHT_BIT
from coxswain_kernels.cache.quantisation import as_bits, quantised

ALL = (*op.DTYPES, *EIGHT_BIT)
PAIRS = [pair for one in op.DTYPES for other in EIGHT_BIT for pair in ((one, other), (other, one))]
LAYERS, BLOCKS, BLOCK_SIZE, HEADS, HEAD_DIM = 2, 6, 4, 3, 24


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parity("block_copy")
def test_blocks_of_one_type_are_moved_bit_for_bit(dtype: torch.dtype, device: str) -> None:
    cache, table = _blocks(dtype, device), _table([4, 1, 5], device)
    packed = op.launch_gather(cache, table)
    _assert_same(packed, op.reference_gather(cache, table))
    got = _blocks(dtype, device)
    wanted = Blocks(got.data.clone(), None if got.scales is None else got.scales.clone())
    op.launch_scatter(packed, got, _table([0, 2, 3], device))
    op.reference_scatter(packed, wanted, _table([0, 2, 3], device))
    _assert_same(got, wanted)


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parity("block_copy")
def test_blocks_are_converted_on_the_way(source: torch.dtype, target: torch.dtype, device: str) -> None:
    cache, table = _blocks(source, device), _table([3, 0], device)
    packed = op.launch_gather(cache, table, dtype=target)
    _assert_same(packed, op.reference_gather(cache, table, dtype=target))
    plain = op.reference_gather(cache, table)
    got, wanted = _blocks(target, device, fill=0.0), _blocks(target, device, fill=0.0)
    op.launch_scatter(plain, got, table)
    op.reference_scatter(plain, wanted, table)
    _assert_same(got, wanted)


@pytest.mark.parametrize("dtype", EIGHT_BIT)
@pytest.mark.parity("block_copy")
def test_what_was_sent_in_eight_bits_is_nearly_what_it_was(dtype: torch.dtype, device: str) -> None:
    cache, table = _blocks(torch.bfloat16, device), _table([5, 2, 0], device)
    there = _blocks(torch.bfloat16, device, fill=0.0)
    op.launch_scatter(op.launch_gather(cache, table, dtype=dtype), there, table)
    step = 2**-3 if dtype == torch.float8_e4m3fn else 0.02
    torch.testing.assert_close(there.data[:, table.long()], cache.data[:, table.long()], rtol=step, atol=0.04)
    assert not there.data[:, [1, 3, 4]].any()


@pytest.mark.parametrize("held", [torch.float16, torch.int8])
@pytest.mark.parity("block_copy")
def test_heads_of_a_block_may_lie_together(held: torch.dtype, device: str) -> None:
    cache, table = _blocks(held, device), _table([3, 4], device)
    apart = replace(cache, data=as_bits(cache.data).transpose(2, 3).contiguous().transpose(2, 3).view(held))
    _assert_same(op.launch_gather(apart, table), op.reference_gather(cache, table))


@pytest.mark.parity("block_copy")
def test_there_may_be_nothing_to_move(device: str) -> None:
    cache, table = _blocks(torch.float16, device), _table([], device)
    packed = op.launch_gather(cache, table, dtype=torch.int8)
    assert packed.data.shape == (LAYERS, 0, BLOCK_SIZE, HEADS, HEAD_DIM)
    op.launch_scatter(packed, cache, table)


@pytest.mark.parametrize("target", [torch.float16, *EIGHT_BIT])
@pytest.mark.invariant("block_copy")
def test_a_block_has_the_same_bits_in_every_company(target: torch.dtype, device: str) -> None:
    cache, table = _blocks(torch.float16, device), _table([2, 5, 0, 1], device)
    together = op.launch_gather(cache, table, dtype=target)
    for entry in range(4):
        alone = op.launch_gather(cache, table[entry : entry + 1], dtype=target)
        scales = None if together.scales is None else together.scales[:, entry : entry + 1]
        _assert_same(alone, Blocks(as_bits(together.data)[:, entry : entry + 1].view(target), scales))


@pytest.mark.parity("block_copy")
def test_what_does_not_fit_is_refused(device: str) -> None:
    cache = _blocks(torch.float16, device)
    with pytest.raises(ValueError, match=r"table\[1\] is 6, wanted an index from 0 to 5"):
        op.gather_blocks(cache, _table([0, 6], device))
    with pytest.raises(ValueError, match="table has a block twice"):
        op.scatter_blocks(op.gather_blocks(cache, _table([1, 1], device)), cache, _table([1, 1], device))
    with pytest.raises(ValueError, match=r"packed has shape \[2, 1, 4, 3, 24\], wanted \[2, 2, 4, 3, 24\]"):
        op.launch_scatter(op.gather_blocks(cache, _table([1], device)), cache, _table([1, 2], device))
    with pytest.raises(ValueError, match="float32 and float16: wanted the same, or one of 8 bits"):
        op.launch_gather(cache, _table([1], device), dtype=torch.float32)
    with pytest.raises(ValueError, match="scales of cache are missing: it is int8"):
        op.launch_gather(Blocks(_blocks(torch.int8, device).data), _table([1], device))
    with pytest.raises(ValueError, match="rows of packed are not of whole words"):
        op.launch_gather(Blocks(cache.data[..., :3]), _table([1], device))


def _blocks(dtype: torch.dtype, device: str, fill: float | None = None) -> Blocks:
    shape = (LAYERS, BLOCKS, BLOCK_SIZE, HEADS, HEAD_DIM)
    x = torch.randn(shape, device=device) if fill is None else torch.full(shape, fill, device=device)
    return Blocks(*quantised(x, dtype)) if dtype in EIGHT_BIT else Blocks(x.to(dtype))


def _table(entries: list[int], device: str) -> torch.Tensor:
    return torch.tensor(entries, dtype=torch.int32, device=device)


def _assert_same(got: Blocks, wanted: Blocks) -> None:
    assert got.data.dtype == wanted.data.dtype
    assert torch.equal(as_bits(got.data), as_bits(wanted.data))
    assert (got.scales is None) == (wanted.scales is None)
    if got.scales is not None and wanted.scales is not None:
        assert torch.equal(got.scales, wanted.scales)
