"""What all kernels of attention compute, in plain torch."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from coxswain_kernels.attention.pages import Pages


def attention(query: Tensor, pages: Pages, starts: list[int], *, scale: float) -> Tensor:
    """Causal attention in plain torch and float32. Reads the device.

    Rows `starts[i]` to `starts[i + 1]` of query [rows, heads, head_dim] are the last tokens of sequence i.
    """
    out = torch.zeros_like(query, memory_format=torch.contiguous_format)
    group = query.shape[1] // pages.cache.keys.shape[2]
    for sequence, (first, end) in enumerate(pairwise(starts)):
        keys, values = (kept.repeat_interleave(group, 1) for kept in pages.gathered(sequence))
        context = keys.shape[0]
        if first == end or not context:
            continue
        position = torch.arange(context - (end - first), context, device=query.device)
        hidden = torch.arange(context, device=query.device) > position[:, None]
        scores = torch.einsum("qhd,khd->hqk", query[first:end].float(), keys) * scale
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        out[first:end] = torch.einsum("hqk,khd->qhd", weights, values).to(query.dtype)
    return out
