"""Operations on rows: normalisation, activation and the choice of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks.kernel_rows.workload import Call, Contenders, Model, Workload, ready, short, theirs
from coxswain_kernels.elementwise import rms_norm, silu_mul
from coxswain_kernels.sampling import sampling
from coxswain_kernels.sampling.sampling import Settings

BF16 = torch.bfloat16
_EPS = 1e-5


def normalising(model: Model, *, quick: bool) -> Iterator[Workload]:
    """Alone, and with the residual addition."""
    for rows in _rows(quick=quick):
        yield normalise(model, rows)
        yield add_and_normalise(model, rows)


def activating(model: Model, *, quick: bool) -> Iterator[Workload]:
    """Of feed-forward layers."""
    for rows in _rows(quick=quick):
        yield activate(model, rows)


def sampled(model: Model, *, quick: bool) -> Iterator[Workload]:
    """A token of each row."""
    for rows in _rows(quick=quick)[:3]:
        yield sample(model, rows)


def normalise(model: Model, rows: int) -> Workload:
    """Root mean square."""

    def make(device: torch.device) -> Contenders:
        x, weight = _noise(device, rows, model.hidden), _noise(device, model.hidden)

        def flashinfer() -> Call:
            return partial(theirs("flashinfer.norm").rmsnorm, x, weight, _EPS)

        def vllm() -> Call:
            return partial(theirs("vllm._custom_ops").rms_norm, torch.empty_like(x), x, weight, _EPS)

        return {
            "only": ready(partial(rms_norm.launch, x, weight, _EPS)),
            "torch": ready(partial(F.rms_norm, x, (model.hidden,), weight, _EPS)),
            "FlashInfer": flashinfer,
            "vLLM": vllm,
        }

    return _workload("rms_norm", f"{rows} × {model.hidden}", 2 * rows * model.hidden, make)


def add_and_normalise(model: Model, rows: int) -> Workload:
    """After an addition in place."""

    def make(device: torch.device) -> Contenders:
        x, residual = (_noise(device, rows, model.hidden) for _ in range(2))
        weight = _noise(device, model.hidden)

        def flashinfer() -> Call:
            return partial(theirs("flashinfer.norm").fused_add_rmsnorm, x, residual, weight, _EPS)

        def vllm() -> Call:
            return partial(theirs("vllm._custom_ops").fused_add_rms_norm, x, residual, weight, _EPS)

        ours = partial(rms_norm.launch, x, weight, _EPS, residual=residual)
        return {"only": ready(ours), "FlashInfer": flashinfer, "vLLM": vllm}

    return _workload("rms_norm", f"add, {rows} × {model.hidden}", 4 * rows * model.hidden, make)


def activate(model: Model, rows: int) -> Workload:
    """silu(gate) * up."""

    def make(device: torch.device) -> Contenders:
        gate_up = _noise(device, rows, 2 * model.inner)

        def flashinfer() -> Call:
            return partial(theirs("flashinfer.activation").silu_and_mul, gate_up)

        def vllm() -> Call:
            theirs("vllm._C")
            return partial(torch.ops._C.silu_and_mul, gate_up.new_empty(rows, model.inner), gate_up)

        return {
            "only": ready(partial(silu_mul.launch, gate_up)),
            "torch": ready(partial(silu_mul.reference, gate_up)),
            "FlashInfer": flashinfer,
            "vLLM": vllm,
        }

    return _workload("silu_mul", f"{rows} × {model.inner}", 3 * rows * model.inner, make)


def sample(model: Model, rows: int) -> Workload:
    """With top-k and top-p, from logits."""

    def make(device: torch.device) -> Contenders:
        logits = torch.randn(rows, model.vocab, device=device) * 4
        values = {"temperature": 0.8, "top_k": 50, "top_p": 0.9, "min_p": 0.0, "seeds": 7, "positions": 11}
        settings = Settings(
            **{
                name: torch.full((rows,), value, dtype=sampling.DTYPES[name], device=device)
                for name, value in values.items()
            }
        )

        def flashinfer() -> Call:
            draw = theirs("flashinfer.sampling").top_k_top_p_sampling_from_probs

            def call() -> object:
                probabilities = torch.softmax(logits / 0.8, -1)
                return draw(probabilities, 50, 0.9, filter_apply_order="top_k_first")

            return call

        ours = partial(sampling.launch, logits, settings)
        return {"only": ready(ours), "torch, sorting": ready(partial(_sort_and_draw, logits)), "FlashInfer": flashinfer}

    # Logits once: what is looked for in them takes several passes.
    return Workload(
        operation="sampling",
        shape=f"{rows} × {model.vocab}, top-k 50, top-p 0.9",
        dtype="float32",
        bytes_moved=4 * rows * model.vocab,
        make=make,
    )


def _sort_and_draw(logits: Tensor) -> Tensor:
    ranked, tokens = (logits / 0.8).sort(-1, descending=True)
    weights = ranked[:, :50].softmax(-1)
    weights = weights.masked_fill(weights.cumsum(-1) - weights > 0.9, 0.0)
    return tokens.gather(1, torch.multinomial(weights, 1))


def _workload(operation: str, shape: str, elements: int, make: Callable[[torch.device], Contenders]) -> Workload:
    moved = elements * BF16.itemsize
    return Workload(operation=operation, shape=shape, dtype=short(BF16), bytes_moved=moved, make=make)


def _rows(*, quick: bool) -> tuple[int, ...]:
    return (32,) if quick else (1, 32, 256, 4096)


def _noise(device: torch.device, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=BF16, device=device)
