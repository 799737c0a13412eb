"""What moves keys and values: writing a step's to their slots, gathering blocks and scattering them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.kernel_rows.workload import Call, Contenders, Model, Workload, ready, short, theirs
from coxswain_kernels.cache import block_copy, kv_write
from coxswain_kernels.cache.block_copy import Blocks
from coxswain_kernels.cache.kv_cache import KVCache
from coxswain_kernels.cache.quantisation import DTYPES as EIGHT_BIT
from coxswain_kernels.elementwise.rotary import rotary_tables

BF16 = torch.bfloat16
_POSITIONS = 8192


def writing(model: Model, *, quick: bool) -> Iterator[Workload]:
    """Of decoded tokens, and of prefilled ones."""
    for tokens in (32,) if quick else (1, 32, 256, 4096):
        yield write(model, tokens, BF16)
    yield write(model, 256, torch.float8_e4m3fn)


def copying(model: Model, *, quick: bool) -> Iterator[Workload]:
    """Blocks of all layers, as they are and in 8 bits."""
    layers, blocks = (4, 64) if quick else (32, 512)
    for held, sent in ((BF16, BF16), (BF16, torch.float8_e4m3fn), (torch.int8, torch.int8)):
        yield gather(model, layers, blocks, held, sent)
    yield scatter(model, layers, blocks, BF16)


def write(model: Model, tokens: int, stored: torch.dtype) -> Workload:
    """Rotation of queries and keys included."""
    heads = model.heads + 2 * model.kv_heads
    scaled = stored in EIGHT_BIT

    def make(device: torch.device) -> Contenders:
        qkv = torch.randn(tokens, heads, model.head_dim, device=device).to(BF16)
        query, key, value = qkv.split_with_sizes((model.heads, model.kv_heads, model.kv_heads), 1)
        slots = torch.randperm(max(_POSITIONS, 2 * tokens), device=device)
        shape = (-(-slots.shape[0] // model.block_size), model.block_size, model.kv_heads, model.head_dim)
        held = [torch.zeros(shape, device=device).to(stored) for _ in range(2)]
        scales = [torch.zeros(shape[:3], device=device) for _ in range(2)] if scaled else []
        positions = torch.randint(_POSITIONS, (tokens,), device=device)
        cos, sin = rotary_tables(head_dim=model.head_dim, theta=5e5, positions=_POSITIONS)
        cos, sin = (table.to(device, BF16) for table in (cos, sin))
        given = kv_write.Tokens(query=query, key=key, value=value, positions=positions, slots=slots[:tokens])
        ours = partial(kv_write.launch, given, cos, sin, KVCache(*held, *scales))
        others = {} if scaled else {"vLLM, two kernels": partial(_vllm_write, given, held, cos, sin)}
        return {"only": ready(ours), **others}

    moved = heads + model.heads  # what there is, and the rotated query
    element = 2 * model.kv_heads * (model.head_dim * stored.itemsize + (4 if scaled else 0))
    return Workload(
        operation="kv_write",
        shape=f"{tokens} tokens",
        dtype=f"{short(BF16)}, cache {short(stored)}",
        bytes_moved=tokens * (moved * model.head_dim * BF16.itemsize + element),
        make=make,
    )


def _vllm_write(given: kv_write.Tokens, held: list[Tensor], cos: Tensor, sin: Tensor) -> Call:
    ops = theirs("vllm._custom_ops")
    query, key = given.query.flatten(1).contiguous(), given.key.flatten(1).contiguous()
    half = cos.shape[-1] // 2
    table = torch.cat((cos[:, 0, :half], sin[:, 0, half:]), -1)
    one, is_neox = torch.ones((), device=query.device), True

    def call() -> None:
        ops.rotary_embedding(given.positions, query, key, cos.shape[-1], table, is_neox)
        ops.reshape_and_cache_flash(key.view(given.key.shape), given.value, *held, given.slots, "auto", one, one)

    return call


def gather(model: Model, layers: int, blocks: int, held: torch.dtype, sent: torch.dtype) -> Workload:
    """Half of a cache's blocks, in random order, to one piece of memory."""

    def make(device: torch.device) -> Contenders:
        cache, table = _cache(model, layers, blocks, held, device), _half(blocks, device)
        places = table.long()
        peer = {"torch index": ready(lambda: cache.data[:, places])} if held == sent else {}
        return {"only": ready(partial(block_copy.launch_gather, cache, table, dtype=sent)), **peer}

    return Workload(
        operation="block_copy",
        shape=f"gather {blocks} blocks of {layers} layers",
        dtype=short(held) if held == sent else f"{short(held)} to {short(sent)}",
        bytes_moved=layers * blocks * (_block_bytes(model, held) + _block_bytes(model, sent)),
        make=make,
    )


def scatter(model: Model, layers: int, blocks: int, held: torch.dtype) -> Workload:
    """The other way."""

    def make(device: torch.device) -> Contenders:
        cache, table = _cache(model, layers, blocks, held, device), _half(blocks, device)
        packed = block_copy.launch_gather(cache, table)
        return {"only": ready(partial(block_copy.launch_scatter, packed, cache, table))}

    return Workload(
        operation="block_copy",
        shape=f"scatter {blocks} blocks of {layers} layers",
        dtype=short(held),
        bytes_moved=2 * layers * blocks * _block_bytes(model, held),
        make=make,
    )


def _cache(model: Model, layers: int, blocks: int, dtype: torch.dtype, device: torch.device) -> Blocks:
    """Of twice as many blocks."""
    shape = (layers, 2 * blocks, model.block_size, model.kv_heads, model.head_dim)
    data = torch.ones(shape, dtype=BF16, device=device).to(dtype)
    return Blocks(data, torch.ones(shape[:4], device=device) if dtype in EIGHT_BIT else None)


def _half(blocks: int, device: torch.device) -> Tensor:
    return torch.randperm(2 * blocks, device=device)[:blocks].int()


def _block_bytes(model: Model, dtype: torch.dtype) -> int:
    return model.block_size * model.kv_heads * (model.head_dim * dtype.itemsize + (4 if dtype in EIGHT_BIT else 0))
