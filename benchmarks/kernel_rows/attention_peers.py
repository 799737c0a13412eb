"""Attention by others: torch's fused kernels on contiguous copies, FlashInfer's and vLLM's on the same pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache as once
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right

from benchmarks.kernel_rows.workload import Call, Contenders, theirs
from coxswain_kernels.attention.sequences import Cache

_BACKENDS = {
    "torch SDPA, flash": SDPBackend.FLASH_ATTENTION,
    "torch SDPA, cuDNN": SDPBackend.CUDNN_ATTENTION,
    "torch SDPA, efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def decoding(query: Tensor, cache: Cache, *, context: int, scale: float) -> Contenders:
    """Of one token of each sequence, all with as long a context."""
    ones = torch.arange(query.shape[0] + 1, dtype=torch.int32, device=query.device)
    return {
        **_sdpa(query, cache, count=1, context=context, scale=scale),
        "FlashInfer": partial(_flashinfer_decode, query, cache, scale=scale),
        "vLLM": partial(_vllm, query, cache, ones, longest=(1, context), scale=scale),
    }


def prefilling(
    query: Tensor, cache: Cache, starts: Tensor, *, chunks: tuple[tuple[int, int], ...], scale: float
) -> Contenders:
    """Of chunks; torch has only what takes chunks of one length."""
    longest = max(count for count, _ in chunks), max(context for _, context in chunks)
    alike = _sdpa(query, cache, count=longest[0], context=longest[1], scale=scale) if len(set(chunks)) == 1 else {}
    return {
        **alike,
        "FlashInfer": partial(_flashinfer_prefill, query, cache, starts, scale=scale),
        "vLLM": partial(_vllm, query, cache, starts, longest=longest, scale=scale),
    }


def sharing(query: Tensor, cache: Cache, *, prefix: int, scale: float) -> Contenders:
    """Of sequences with a common prefix."""
    return {"FlashInfer, cascade": partial(_flashinfer_cascade, query, cache, prefix=prefix, scale=scale)}


def _sdpa(query: Tensor, cache: Cache, *, count: int, context: int, scale: float) -> dict[str, Callable[[], Call]]:
    def prepared(backend: SDPBackend) -> Call:
        together = query.view(-1, count, *query.shape[1:]).transpose(1, 2).contiguous()
        keys, values = (_contiguous(stored, cache.tables, context) for stored in (cache.keys, cache.values))
        causal = {"is_causal": True} if count == context else {"attn_mask": causal_lower_right(count, context)}
        given: Any = {} if count == 1 else causal

        def call() -> Tensor:
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(together, keys, values, scale=scale, enable_gqa=True, **given)

        call()  # which raises where the backend takes no such thing
        return call

    return {name: partial(prepared, backend) for name, backend in _BACKENDS.items()}


def _contiguous(stored: Tensor, tables: Tensor, context: int) -> Tensor:
    """[sequences, kv_heads, context, head_dim]."""
    return stored[tables.long()].flatten(1, 2)[:, :context].transpose(1, 2).contiguous()


def _flashinfer_decode(query: Tensor, cache: Cache, *, scale: float) -> Call:
    kind = theirs("flashinfer").BatchDecodeWithPagedKVCacheWrapper
    wrapper = kind(_workspace(query.device), "NHD", use_tensor_cores=True)
    wrapper.plan(*_pages(cache), *_sizes(query, cache), q_data_type=query.dtype, sm_scale=scale)
    return partial(wrapper.run, query, (cache.keys, cache.values))


def _flashinfer_prefill(query: Tensor, cache: Cache, starts: Tensor, *, scale: float) -> Call:
    wrapper = theirs("flashinfer").BatchPrefillWithPagedKVCacheWrapper(_workspace(query.device), "NHD")
    given = {"causal": True, "q_data_type": query.dtype, "sm_scale": scale}
    wrapper.plan(starts, *_pages(cache), *_sizes(query, cache), **given)
    return partial(wrapper.run, query, (cache.keys, cache.values))


def _flashinfer_cascade(query: Tensor, cache: Cache, *, prefix: int, scale: float) -> Call:
    common = prefix // cache.keys.shape[1]
    batch = query.shape[0]
    levels = [
        _pages(Cache(cache.keys, cache.values, cache.tables[:1, :common], torch.full_like(cache.contexts[:1], prefix))),
        _pages(Cache(cache.keys, cache.values, cache.tables[:, common:], cache.contexts - prefix)),
    ]
    rows = [torch.tensor([0, batch]), torch.arange(batch + 1)]
    wrapper = theirs("flashinfer").MultiLevelCascadeAttentionWrapper(2, _workspace(query.device), "NHD")
    wrapper.plan(
        [row.to(query.device, torch.int32) for row in rows],
        *map(list, zip(*levels, strict=True)),
        *_sizes(query, cache),
        sm_scale=scale,
        q_data_type=query.dtype,
    )
    return partial(wrapper.run, query, (cache.keys, cache.values))


def _vllm(query: Tensor, cache: Cache, starts: Tensor, *, longest: tuple[int, int], scale: float) -> Call:
    return partial(
        theirs("vllm.vllm_flash_attn").flash_attn_varlen_func,
        q=query,
        k=cache.keys,
        v=cache.values,
        max_seqlen_q=longest[0],
        cu_seqlens_q=starts,
        max_seqlen_k=longest[1],
        seqused_k=cache.contexts,
        softmax_scale=scale,
        causal=True,
        block_table=cache.tables,
        fa_version=3 if torch.cuda.get_device_capability(query.device)[0] == 9 else 2,
    )


def _pages(cache: Cache) -> tuple[Tensor, Tensor, Tensor]:
    """Where each sequence's pages begin, the pages, and how many tokens the last has."""
    block_size = cache.keys.shape[1]
    counts = (cache.contexts + block_size - 1) // block_size
    starts = torch.cat((counts.new_zeros(1), counts.cumsum(0))).int()
    used = torch.arange(cache.tables.shape[1], device=counts.device) < counts[:, None]
    return starts, cache.tables[used], (cache.contexts - 1) % block_size + 1


def _sizes(query: Tensor, cache: Cache) -> tuple[int, int, int, int]:
    """As FlashInfer asks for them: heads, heads of keys, size of a head, and of a page."""
    _, block_size, kv_heads, head_dim = cache.keys.shape
    return query.shape[1], kv_heads, head_dim, block_size


@once
def _workspace(device: torch.device) -> Tensor:
    return torch.zeros(512 * 2**20, dtype=torch.uint8, device=device)
