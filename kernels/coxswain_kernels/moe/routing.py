"""Which experts a token goes to, and with what weight (top-k gating; Shazeer et al., 2017).

One program a row. Experts are chosen by their logits, which a gate does not reorder, so equal ones are equal on every
backend: of those, the lowest number wins.
"""

from __future__ import annotations

from typing import Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

from coxswain_kernels.launching.checks import check_dtype, check_last_contiguous, check_shape
from coxswain_kernels.launching.plans import Operation, Plan, pointer
from coxswain_kernels.matrices.matmul import DTYPES

Gate = Literal["softmax", "sigmoid"]


def route(logits: Tensor, *, top_k: int, gate: Gate = "softmax", renormalise: bool = True) -> tuple[Tensor, Tensor]:
    """Weights float32 and experts int32, each [rows, top_k], the likeliest first, for finite logits [rows, experts].

    `gate`: softmax over all experts, or the sigmoid of each; `renormalise`: divide by the sum over those chosen.
    Raises ValueError when there are fewer experts than `top_k`, or the gate or the dtype has no kernel.
    """
    choose = reference if logits.device.type == "cpu" else launch
    return choose(logits, top_k=top_k, gate=gate, renormalise=renormalise)


def reference(logits: Tensor, *, top_k: int, gate: Gate = "softmax", renormalise: bool = True) -> tuple[Tensor, Tensor]:
    """The same in plain torch."""
    _check(logits, top_k, gate)
    order = logits.float().sort(dim=-1, descending=True, stable=True).indices[:, :top_k]
    scores = logits.float().softmax(-1) if gate == "softmax" else logits.float().sigmoid()
    weights = scores.gather(-1, order)
    if renormalise:
        weights /= weights.sum(-1, keepdim=True)
    return weights, order.int()


def launch(logits: Tensor, *, top_k: int, gate: Gate = "softmax", renormalise: bool = True) -> tuple[Tensor, Tensor]:
    """The same by the kernel."""
    _check(logits, top_k, gate)
    rows, experts = logits.shape
    weights = logits.new_empty(rows, top_k, dtype=torch.float32)
    chosen = logits.new_empty(rows, top_k, dtype=torch.int32)
    arguments = {"logits": logits, "weights": weights, "chosen": chosen, "stride": logits.stride(0)}
    plan(logits.dtype, experts, top_k, gate=gate, renormalise=renormalise).launch((rows,), arguments)
    return weights, chosen


def _check(logits: Tensor, top_k: int, gate: Gate) -> None:
    check_shape("logits", logits, None, None)
    check_dtype("logits", logits, *DTYPES)
    check_last_contiguous(logits=logits)
    if not 1 <= top_k <= logits.shape[1]:
        raise ValueError(f"top_k is {top_k}, wanted 1 to {logits.shape[1]}, which is how many experts there are")
    if gate not in ("softmax", "sigmoid"):
        raise ValueError(f"gate is {gate!r}, wanted softmax or sigmoid")


def plan(dtype: torch.dtype, experts: int, top_k: int, *, gate: Gate, renormalise: bool) -> Plan:
    """One program a row."""
    return Plan(
        name=f"{dtype}, {top_k} of {experts}, {gate}{', renormalised' if renormalise else ''}".replace("torch.", ""),
        kernel=_route,
        types={"logits": pointer(dtype), "weights": "*fp32", "chosen": "*i32", "stride": "i32"},
        constants={"EXPERTS": experts, "WIDTH": triton.next_power_of_2(experts)}
        | {"TOP_K": top_k, "SLOTS": triton.next_power_of_2(top_k)}
        | {"SOFTMAX": gate == "softmax", "RENORMALISE": renormalise},
        warps=1,
    )


def plans() -> tuple[Plan, ...]:
    """Those of models with few experts and with many."""
    models: tuple[tuple[int, int, Gate, bool], ...] = (
        (8, 2, "softmax", True),
        (128, 8, "softmax", True),
        (64, 6, "softmax", False),
        (256, 8, "sigmoid", True),
    )
    return tuple(
        plan(dtype, experts, top_k, gate=gate, renormalise=renormalise)
        for dtype in DTYPES
        for experts, top_k, gate, renormalise in models
    )


OPERATION = Operation(name="routing", plans=plans)


@triton.jit
def _route(
    logits,
    weights,
    chosen,
    stride,
    EXPERTS: tl.constexpr,
    WIDTH: tl.constexpr,
    TOP_K: tl.constexpr,
    SLOTS: tl.constexpr,
    SOFTMAX: tl.constexpr,
    RENORMALISE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    expert, slot = tl.arange(0, WIDTH), tl.arange(0, SLOTS)
    every = tl.load(logits + row * stride + expert, mask=expert < EXPERTS, other=-float("inf")).to(tl.float32)
    left = every
    top = tl.full((SLOTS,), -float("inf"), tl.float32)
    best = tl.zeros((SLOTS,), tl.int32)
    for place in tl.static_range(TOP_K):
        first = tl.argmax(left, axis=0)
        top = tl.where(slot == place, tl.max(left, axis=0), top)
        best = tl.where(slot == place, first, best)
        left = tl.where(expert == first, -float("inf"), left)
    if SOFTMAX:
        highest = tl.max(every, axis=0)
        score = tl.exp(top - highest) / tl.sum(tl.exp(every - highest), axis=0)
    else:
        score = 1.0 / (1.0 + tl.exp(-top))
    if RENORMALISE:
        score /= tl.sum(score, axis=0)
    address = row * TOP_K + slot
    tl.store(weights + address, score, mask=slot < TOP_K)
    tl.store(chosen + address, best, mask=slot < TOP_K)
