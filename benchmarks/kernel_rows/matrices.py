"""Products with weights: plain ones, quantised ones, experts' and adapters'."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.kernel_rows.workload import Call, Contenders, Model, Workload, ready, short, theirs
from coxswain_kernels.matrices import linear, lora, quantised_linear
from coxswain_kernels.matrices.quantised_weights import GROUP, pack, unpack
from coxswain_kernels.moe import experts

BF16 = torch.bfloat16


def multiplying(model: Model, *, quick: bool) -> Iterator[Workload]:
    """By the layer of gate and up: the fast plan is the vendor's library."""
    for rows in (32,) if quick else (1, 32, 256, 4096):
        yield multiply(rows, model.hidden, 2 * model.inner)


def multiplying_quantised(model: Model, *, quick: bool) -> Iterator[Workload]:
    """Weights of 4 and 8 bits, beside the same product in 16."""
    for rows in (8,) if quick else (1, 8, 16, 256, 4096):
        yield multiply_quantised(rows, model.hidden, model.inner, bits=4)
    yield multiply_quantised(8, model.hidden, model.inner, bits=8)


def routed(model: Model, *, quick: bool) -> Iterator[Workload]:
    """2 of 8 experts a token."""
    for rows in (32,) if quick else (1, 32, 256, 4096):
        yield multiply_routed(rows, model.hidden, model.inner, count=8, top_k=2)


def adapted(model: Model, *, quick: bool) -> Iterator[Workload]:
    """Adapters of four ranks, one a row."""
    for rows in (32,) if quick else (1, 32, 256, 4096):
        yield adapt(rows, model.hidden, model.hidden, ranks=(8, 16, 32, 64) * 4)


def multiply(rows: int, inner: int, columns: int) -> Workload:
    """x @ weight."""

    def make(device: torch.device) -> Contenders:
        x, weight = _noise(device, rows, inner), _noise(device, inner, columns)
        return {
            "fast": ready(partial(linear.linear, x, weight)),
            "invariant": ready(partial(linear.launch, x, weight)),
        }

    return Workload(
        operation="linear",
        shape=f"{rows} × {inner} × {columns}",
        dtype=short(BF16),
        bytes_moved=_bytes(rows * inner, inner * columns, rows * columns),
        flops=2 * rows * inner * columns,
        make=make,
    )


def multiply_quantised(rows: int, inner: int, columns: int, *, bits: int) -> Workload:
    """The same, of a weight in groups of 128."""

    def make(device: torch.device) -> Contenders:
        x, weight = _noise(device, rows, inner), pack(_noise(device, inner, columns), bits=bits)
        run = partial(quantised_linear.launch, x, weight)
        return {
            "fast": ready(partial(run, kind="fast")),
            "invariant": ready(partial(run, kind="invariant")),
            "cuBLAS, bfloat16": ready(partial(torch.mm, x, unpack(weight).to(BF16))),
        }

    scales = inner // GROUP * columns
    return Workload(
        operation="quantised_linear",
        shape=f"{rows} × {inner} × {columns}",
        dtype=f"{short(BF16)}, weight int{bits}",
        bytes_moved=_bytes(rows * inner, scales, rows * columns) + inner * columns * bits // 8,
        flops=2 * rows * inner * columns,
        make=make,
    )


def multiply_routed(rows: int, hidden: int, inner: int, *, count: int, top_k: int) -> Workload:
    """Both layers of the experts, with what sorts rows and what adds them up."""

    def make(device: torch.device) -> Contenders:
        x = _noise(device, rows, hidden)
        gate_up, down = _noise(device, count, hidden, 2 * inner), _noise(device, count, inner, hidden)
        weights = torch.rand(rows, top_k, device=device)
        chosen = torch.rand(rows, count, device=device).argsort(-1)[:, :top_k].int()

        def vllm() -> Call:
            fused_experts = theirs("vllm.model_executor.layers.fused_moe").fused_experts
            turned = [weight.transpose(1, 2).contiguous() for weight in (gate_up, down)]
            return partial(fused_experts, x, *turned, weights, chosen)

        run = partial(experts.launch, x, weights, chosen, gate_up, down)
        return {
            "fast": ready(partial(run, kind="fast")),
            "invariant": ready(partial(run, kind="invariant")),
            "vLLM": vllm,
        }

    # As many experts as are wanted on average, when each is as likely.
    wanted = round(count * (1 - (1 - top_k / count) ** rows))
    return Workload(
        operation="experts",
        shape=f"{rows} rows, {top_k} of {count}, {hidden} × {inner}",
        dtype=short(BF16),
        bytes_moved=_bytes(wanted * 3 * hidden * inner, 2 * rows * hidden),
        flops=6 * rows * top_k * hidden * inner,
        make=make,
    )


def adapt(rows: int, inner: int, columns: int, *, ranks: tuple[int, ...]) -> Workload:
    """Rows take the adapters in turn."""
    starts = torch.tensor([0, *ranks]).cumsum(0)
    row_ranks = [ranks[row % len(ranks)] for row in range(rows)]

    def make(device: torch.device) -> Contenders:
        adapters = lora.Adapters(
            down=_noise(device, sum(ranks), inner),
            up=_noise(device, sum(ranks), columns),
            starts=starts.to(device, torch.int32),
            scales=torch.ones(len(ranks), device=device),
            max_rank=max(ranks),
        )
        x, y = _noise(device, rows, inner), _noise(device, rows, columns)
        index = torch.arange(rows, dtype=torch.int32, device=device) % len(ranks)

        def call() -> Tensor:
            return lora.launch(y, x, adapters, lora.sort_rows(index, adapters))

        return {"only": ready(call)}

    used = sum(ranks[: min(rows, len(ranks))])
    return Workload(
        operation="lora",
        shape=f"{rows} × {inner} × {columns}, {len(ranks)} adapters of {min(ranks)} to {max(ranks)}",
        dtype=short(BF16),
        bytes_moved=_bytes(rows * inner, used * (inner + columns), 2 * rows * columns),
        flops=2 * sum(row_ranks) * (inner + columns),
        make=make,
    )


def _noise(device: torch.device, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=BF16, device=device)


def _bytes(*elements: int) -> int:
    return sum(elements) * BF16.itemsize
