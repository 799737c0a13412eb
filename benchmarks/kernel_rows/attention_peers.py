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
from coxswain_kernels.attention.pages import Pages

_BACKENDS = {
    "torch SDPA, flash": SDPBackend.FLASH_ATTENTION,
    "torch SDPA, cuDNN": SDPBackend.CUDNN_ATTENTION,
    "torch SDPA, efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def decoding(query: Tensor, pages: Pages, *, context: int, scale: float) -> Contenders:
    """Of one token of each sequence, all with as long a context."""
    ones = torch.arange(query.shape[0] + 1, dtype=torch.int32, device=query.device)
    return {
        **_sdpa(query, pages, count=1, context=context, scale=scale),
        "FlashInfer": partial(_flashinfer_decode, query, pages, scale=scale),
        "vLLM": partial(_vllm, query, pages, ones, longest=(1, context), scale=scale),
    }


def prefilling(
    query: Tensor, pages: Pages, starts: Tensor, *, chunks: tuple[tuple[int, int], ...], scale: float
) -> Contenders:
    """Of chunks; torch has only what takes chunks of one length."""
    longest = max(count for count, _ in chunks), max(context for _, context in chunks)
    alike = _sdpa(query, pages, count=longest[0], context=longest[1], scale=scale) if len(set(chunks)) == 1 else {}
    return {
        **alike,
        "FlashInfer": partial(_flashinfer_prefill, query, pages, starts, scale=scale),
        "vLLM": partial(_vllm, query, pages, starts, longest=longest, scale=scale),
    }


def sharing(query: Tensor, pages: Pages, *, prefix: int, scale: float) -> Contenders:
    """Of sequences with a common prefix."""
    return {"FlashInfer, cascade": partial(_flashinfer_cascade, query, pages, prefix=prefix, scale=scale)}


def _sdpa(query: Tensor, pages: Pages, *, count: int, context: int, scale: float) -> dict[str, Callable[[], Call]]:
    def prepared(backend: SDPBackend) -> Call:
        together = query.view(-1, count, *query.shape[1:]).transpose(1, 2).contiguous()
        keys, values = (_contiguous(stored, pages.tables, context) for stored in (pages.cache.keys, pages.cache.values))
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


def _flashinfer_decode(query: Tensor, pages: Pages, *, scale: float) -> Call:
    kind = theirs("flashinfer").BatchDecodeWithPagedKVCacheWrapper
    wrapper = kind(_workspace(query.device), "NHD", use_tensor_cores=True)
    wrapper.plan(*_places(pages), *_sizes(query, pages), q_data_type=query.dtype, sm_scale=scale)
    return partial(wrapper.run, query, (pages.cache.keys, pages.cache.values))


def _flashinfer_prefill(query: Tensor, pages: Pages, starts: Tensor, *, scale: float) -> Call:
    wrapper = theirs("flashinfer").BatchPrefillWithPagedKVCacheWrapper(_workspace(query.device), "NHD")
    given = {"causal": True, "q_data_type": query.dtype, "sm_scale": scale}
    wrapper.plan(starts, *_places(pages), *_sizes(query, pages), **given)
    return partial(wrapper.run, query, (pages.cache.keys, pages.cache.values))


def _flashinfer_cascade(query: Tensor, pages: Pages, *, prefix: int, scale: float) -> Call:
    common = prefix // pages.cache.keys.shape[1]
    batch = query.shape[0]
    levels = [
        _places(Pages(pages.cache, pages.tables[:1, :common], torch.full_like(pages.contexts[:1], prefix))),
        _places(Pages(pages.cache, pages.tables[:, common:], pages.contexts - prefix)),
    ]
    rows = [torch.tensor([0, batch]), torch.arange(batch + 1)]
    wrapper = theirs("flashinfer").MultiLevelCascadeAttentionWrapper(2, _workspace(query.device), "NHD")
    wrapper.plan(
        [row.to(query.device, torch.int32) for row in rows],
        *map(list, zip(*levels, strict=True)),
        *_sizes(query, pages),
        sm_scale=scale,
        q_data_type=query.dtype,
    )
    return partial(wrapper.run, query, (pages.cache.keys, pages.cache.values))


def _vllm(query: Tensor, pages: Pages, starts: Tensor, *, longest: tuple[int, int], scale: float) -> Call:
    return partial(
        theirs("vllm.vllm_flash_attn").flash_attn_varlen_func,
        q=query,
        k=pages.cache.keys,
        v=pages.cache.values,
        max_seqlen_q=longest[0],
        cu_seqlens_q=starts,
        max_seqlen_k=longest[1],
        seqused_k=pages.contexts,
        softmax_scale=scale,
        causal=True,
        block_table=pages.tables,
        fa_version=3 if torch.cuda.get_device_capability(query.device)[0] == 9 else 2,
    )


def _places(pages: Pages) -> tuple[Tensor, Tensor, Tensor]:
    """Where each sequence's pages begin, the pages, and how many tokens the last has."""
    block_size = pages.cache.keys.shape[1]
    counts = (pages.contexts + block_size - 1) // block_size
    starts = torch.cat((counts.new_zeros(1), counts.cumsum(0))).int()
    used = torch.arange(pages.tables.shape[1], device=counts.device) < counts[:, None]
    return starts, pages.tables[used], (pages.contexts - 1) % block_size + 1


def _sizes(query: Tensor, pages: Pages) -> tuple[int, int, int, int]:
    """As FlashInfer asks for them: heads, heads of keys, size of a head, and of a page."""
    _, block_size, kv_heads, head_dim = pages.cache.keys.shape
    return query.shape[1], kv_heads, head_dim, block_size


@once
def _workspace(device: torch.device) -> Tensor:
    return torch.zeros(512 * 2**20, dtype=torch.uint8, device=device)
