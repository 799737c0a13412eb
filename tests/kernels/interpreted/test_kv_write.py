"""Tokens written to the cache by the kernel are those written by torch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from coxswain_kernels.cache import kv_write as op
from coxswain_kernels.cache.kv_cache import KVCache
from coxswain_kernels.cache.kv_write import HeadNorms, Tokens
from coxswain_kernels.cache.quantisation import DTYPES as EIGHT_BIT
from coxswain_kernels.cache.quantisation import as_bits, dequantised
from coxswain_kernels.elementwise.rotary import rotary_tables

DTYPES = pytest.mark.parametrize("dtype", op.DTYPES)
BLOCK_SIZE, KV_HEADS, HEAD_DIM = 4, 2, 32


@DTYPES
@pytest.mark.parametrize("held", [None, *EIGHT_BIT])
@pytest.mark.parametrize("heads", [6, 2])
@pytest.mark.parity("kv_write")
def test_it_is_what_torch_computes(dtype: torch.dtype, held: torch.dtype | None, heads: int, device: str) -> None:
    _compare(_tokens([0, 7, 3, 11, 2], [5, 0, -1, 11, 6], dtype, heads, device), held or dtype)


@DTYPES
@pytest.mark.parity("kv_write")
def test_heads_may_be_normalised_first(dtype: torch.dtype, device: str) -> None:
    weights = torch.randn(2, HEAD_DIM, device=device).to(dtype)
    _compare(_tokens([1, 2, 9], [0, 1, 2], dtype, 4, device), dtype, HeadNorms(weights[0], weights[1], 1e-5))


@pytest.mark.parity("kv_write")
def test_tokens_of_no_slot_are_rotated_and_not_kept(device: str) -> None:
    tokens, tables = _tokens([3, 3], [-1, -1], torch.float32, 4, device), _tables(torch.float32, device)
    cache = _cache(torch.float32, device)
    torch.testing.assert_close(op.kv_write(tokens, *tables, cache), op.launch(tokens, *tables, cache))
    assert not cache.keys.any() and not cache.values.any()


@pytest.mark.parity("kv_write")
def test_there_may_be_no_tokens(device: str) -> None:
    tokens = _tokens([], [], torch.float32, 4, device)
    assert op.launch(tokens, *_tables(torch.float32, device), _cache(torch.float32, device)).shape == (0, 4, HEAD_DIM)


@pytest.mark.parity("kv_write")
@pytest.mark.parametrize("held", [torch.float16, torch.int8])
def test_heads_of_a_block_may_lie_together(held: torch.dtype, device: str) -> None:
    cache = _cache(held, device)
    keys, values = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (cache.keys, cache.values))
    apart = replace(cache, keys=keys, values=values)
    tokens, tables = _tokens([1, 2], [9, 3], torch.float16, 2, device), _tables(torch.float16, device)
    op.launch(tokens, *tables, apart)
    wanted = _cache(held, device)
    op.reference(tokens, *tables, wanted)
    for got, want in zip(_values(apart), _values(wanted), strict=True):
        torch.testing.assert_close(got, want, atol=0.03, rtol=0.01)


@DTYPES
@pytest.mark.parametrize("held", [None, *EIGHT_BIT])
@pytest.mark.invariant("kv_write")
def test_a_token_has_the_same_bits_in_every_company(dtype: torch.dtype, held: torch.dtype | None, device: str) -> None:
    tokens, tables = _tokens([4, 0, 9, 8], [7, 2, 1, 10], dtype, 4, device), _tables(dtype, device)
    together, alone = _cache(held or dtype, device), _cache(held or dtype, device)
    query = op.launch(tokens, *tables, together)
    for row in (2, 0, 3, 1):
        parts = {name: getattr(tokens, name)[row : row + 1] for name in Tokens.__dataclass_fields__}
        assert torch.equal(op.launch(Tokens(**parts), *tables, alone), query[row : row + 1])
    for got, want in zip(_parts(alone), _parts(together), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parity("kv_write")
def test_what_does_not_fit_is_refused(device: str) -> None:
    tokens, tables = _tokens([1, 2], [0, 5], torch.float32, 4, device), _tables(torch.float32, device)
    cache = _cache(torch.float32, device)
    with pytest.raises(ValueError, match=r"slots\[1\] is 12, wanted an index from 0 to 11"):
        op.kv_write(replace(tokens, slots=torch.tensor([-1, 12], device=device)), *tables, cache)
    with pytest.raises(ValueError, match=r"positions\[0\] is 16, wanted an index from 0 to 15"):
        op.kv_write(replace(tokens, positions=torch.tensor([16, 0], device=device)), *tables, cache)
    with pytest.raises(ValueError, match=r"value has shape \[1, 2, 32\], wanted \[2, 2, 32\]"):
        op.launch(replace(tokens, value=tokens.value[:1]), *tables, cache)
    with pytest.raises(ValueError, match="query has 3 heads, wanted a multiple of the 2 of key"):
        op.launch(replace(tokens, query=tokens.query[:, :3]), *tables, cache)
    with pytest.raises(ValueError, match="keys is float16, wanted float32 or float8_e4m3fn or int8"):
        op.launch(tokens, *tables, _cache(torch.float16, device))
    with pytest.raises(ValueError, match="key_scales is missing: keys are int8"):
        op.launch(tokens, *tables, replace(_cache(torch.int8, device), key_scales=None))
    with pytest.raises(ValueError, match="head_dim is 20, wanted one of 16, 32, 64, 128, 256"):
        op.launch(replace(tokens, query=tokens.query[..., :20]), *tables, cache)


def _compare(tokens: Tokens, held: torch.dtype, norms: HeadNorms | None = None) -> None:
    dtype, device = tokens.query.dtype, str(tokens.query.device)
    tables, got, wanted = _tables(dtype, device), _cache(held, device), _cache(held, device)
    torch.testing.assert_close(op.launch(tokens, *tables, got, norms), op.reference(tokens, *tables, wanted, norms))
    # A value halfway between two codes may go either way: a step of a code is what they may differ by.
    step = {torch.float8_e4m3fn: 2**-3, torch.int8: 2**-6}.get(held)
    for values, want in zip(_values(got), _values(wanted), strict=True):
        torch.testing.assert_close(values, want, rtol=step, atol=None if step is None else 0.03)
    if held in EIGHT_BIT:
        same = sum((a == b).float().mean().item() for a, b in zip(_parts(got)[:2], _parts(wanted)[:2], strict=True))
        assert same > 1.98
        for scales, want in zip(_parts(got)[2:], _parts(wanted)[2:], strict=True):
            torch.testing.assert_close(scales, want)


def _tokens(positions: list[int], slots: list[int], dtype: torch.dtype, heads: int, device: str) -> Tokens:
    """Views of what one projection writes."""
    qkv = torch.randn(len(slots), heads + 2 * KV_HEADS, HEAD_DIM, device=device).to(dtype)
    query, key, value = qkv.tensor_split([heads, heads + KV_HEADS], dim=1)
    lists = (torch.tensor(entries, dtype=torch.int64, device=device) for entries in (positions, slots))
    return Tokens(query=query, key=key, value=value, **dict(zip(("positions", "slots"), lists, strict=True)))


def _tables(dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    cos, sin = rotary_tables(head_dim=HEAD_DIM, theta=10000.0, positions=16)
    return cos.to(device=device, dtype=dtype), sin.to(device=device, dtype=dtype)


def _cache(dtype: torch.dtype, device: str) -> KVCache:
    shape = (3, BLOCK_SIZE, KV_HEADS, HEAD_DIM)
    held = [torch.zeros(shape, device=device).to(dtype) for _ in range(2)]
    scales = [torch.ones(shape[:3], device=device) for _ in range(2)] if dtype in EIGHT_BIT else []
    return KVCache(*held, *scales)


def _values(cache: KVCache) -> list[torch.Tensor]:
    pairs = ((cache.keys, cache.key_scales), (cache.values, cache.value_scales))
    return [x if scales is None else dequantised(x, scales, torch.float32) for x, scales in pairs]


def _parts(cache: KVCache) -> list[torch.Tensor]:
    tensors = (cache.keys, cache.values, cache.key_scales, cache.value_scales)
    return [as_bits(x) for x in tensors if x is not None]
