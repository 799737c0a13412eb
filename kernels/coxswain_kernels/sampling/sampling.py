"""Choosing tokens on the device: temperature, min-p, top-k, top-p, and noise that is a function of seed and position.

A token is drawn by the Gumbel-max trick, said the other way round: each token's exponential variate is divided by its
weight, and the least wins (the variates' logarithms are the Gumbel noise). Distances from the likeliest token, weights
and noise are integers (`fixed_point`), so that all accelerators, all tilings and all batches choose alike, given the
same logits: the lowest token among equals.

Truncation looks for the distance at which it ends, eight bits at a time, in histograms: there is no sort. As in the
engine's sampler each rule takes what the last has left, and tokens as likely as the last one kept are kept too.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import ceil
from typing import Any

import numpy as np
import torch
import triton
from numpy.typing import NDArray
from torch import Tensor

from coxswain_kernels.launching.checks import check_dtype, check_last_contiguous, check_same_device, check_shape
from coxswain_kernels.launching.plans import Operation, Plan, pointer
from coxswain_kernels.sampling import fixed_point
from coxswain_kernels.sampling.sampling_kernel import choose_kernel, draw_kernel, peaks_kernel, tally_kernel

_PIECE = 4096
"""Tokens of a program."""
_MOST = 1 << 20
"""Tokens of a vocabulary: the sum of as many weights is exact in a float64."""
_STEPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How each row is sampled; all [rows]."""

    temperature: Tensor
    """float32; 0 takes the highest logit."""
    top_k: Tensor
    """int32; 0 takes all."""
    top_p: Tensor
    """float32; from 1 on all are taken."""
    min_p: Tensor
    """float32: least probability, as a fraction of the greatest."""
    seeds: Tensor
    """int64."""
    positions: Tensor
    """int64: of the token that is chosen."""


DTYPES = {
    "temperature": torch.float32,
    "top_k": torch.int32,
    "top_p": torch.float32,
    "min_p": torch.float32,
    "seeds": torch.int64,
    "positions": torch.int64,
}
"""Of the settings."""


def sample(logits: Tensor, settings: Settings) -> Tensor:
    """A token of each row of logits [rows, vocab] float32; [rows] int64.

    Raises ValueError when shapes, dtypes or settings do not fit.
    """
    _check(logits, settings)
    for name, most in (("temperature", None), ("top_k", None), ("top_p", 1.0), ("min_p", 1.0)):
        values = getattr(settings, name)
        fits = values >= 0 if most is None else (values >= 0) & (values <= most)
        if not fits.all():
            row = int(fits.logical_not().nonzero()[0])
            wanted = "0 or more" if most is None else "0 to 1"
            raise ValueError(f"{name}[{row}] is {values[row].item():g}, wanted {wanted}")
    return (reference if logits.device.type == "cpu" else launch)(logits, settings)


def reference(logits: Tensor, settings: Settings) -> Tensor:
    """The same, row by row, in numpy."""
    _check(logits, settings)
    columns = [getattr(settings, field.name).tolist() for field in fields(settings)]
    rows = zip(logits.numpy(), *columns, strict=True)
    return torch.tensor([_chosen(*row) for row in rows], dtype=torch.int64)


def distances(logits: NDArray[np.float32], temperature: float) -> fixed_point.Integers:
    """How much less likely than the likeliest each token is: halvings, in multiples of 2^-18.

    Of what is never drawn, 2^24.
    """
    values = np.where(logits > -1e38, np.where(logits < 1e38, logits, np.float32(1e38)), np.float32(-1e38))
    factor = np.float32(1.4426950408889634) / np.maximum(np.float32(temperature), np.float32(1e-30))
    halvings = np.minimum(np.minimum(values.max() - values, np.float32(1e8)) * factor, np.float32(64))
    return np.where(values > -1e38, (halvings * np.float32(1 << 18)).astype(np.int64), 1 << 24)


def furthest(distance: fixed_point.Integers, top_k: int, top_p: float, min_p: float) -> int:
    """The greatest distance that is kept of those of a row."""
    least = np.array([max(min_p, 2.0**-100)], dtype=np.float32)
    limit = min(int(-(fixed_point.log2_of(least)[0] >> 6)), (1 << 24) - 1)
    ranked = np.sort(distance[distance <= limit])
    excess = 0
    if 0 < top_k < distance.shape[0] and ranked.shape[0]:
        limit = int(ranked[min(top_k, ranked.shape[0]) - 1])
        ranked = ranked[ranked <= limit]
        excess = max(ranked.shape[0] - top_k, 0)
    if top_p < 1 and ranked.shape[0]:
        sums = fixed_point.weight_of(ranked).cumsum()
        mass = int(sums[-1]) - excess * int(fixed_point.weight_of(ranked[-1:])[0])
        limit = int(ranked[np.searchsorted(sums, ceil(np.float64(np.float32(top_p)) * np.float64(mass)))])
    return limit


def _chosen(
    logits: NDArray[np.float32], temperature: float, top_k: int, top_p: float, min_p: float, seed: int, position: int
) -> int:
    if temperature == 0:
        return int(np.where(logits > -1e38, logits, np.float32(-1e38)).argmax())
    distance = distances(logits, temperature)
    kept = np.flatnonzero(distance <= furthest(distance, top_k, top_p, min_p))
    if not kept.shape[0]:
        return 0
    words = fixed_point.words_of(seed, position, logits.shape[0])[kept]
    return int(kept[((distance[kept] << 6) + fixed_point.exponentials_of(words)).argmin()])


def launch(logits: Tensor, settings: Settings) -> Tensor:
    """The same by the kernels. What the settings hold is not looked at."""
    _check(logits, settings)
    rows, vocab = logits.shape
    pieces, device = triton.cdiv(vocab, _PIECE), logits.device
    given: dict[str, Any] = {name: getattr(settings, name) for name in DTYPES}
    given |= {"logits": logits, "stride": logits.stride(0)}
    given |= {"peaks": torch.empty(rows, pieces, device=device)}
    given |= {"places": torch.empty(rows, pieces, dtype=torch.int32, device=device)}
    given |= {"states": torch.empty(rows, _STEPS, 3, dtype=torch.int64, device=device)}
    given |= {"tallies": torch.zeros(rows, _STEPS, 256, dtype=torch.int64, device=device)}
    given |= {"keys": torch.empty(rows, pieces, dtype=torch.int64, device=device)}
    given |= {"chosen": torch.empty(rows, dtype=torch.int64, device=device)}
    for step in plans(vocab):
        grid = (rows,) if step.kernel is choose_kernel else (rows, pieces)
        step.launch(grid, {name: given[name] for name in step.types})
    chosen: Tensor = given["chosen"]
    return chosen


def _check(logits: Tensor, settings: Settings) -> None:
    check_shape("logits", logits, None, None)
    check_dtype("logits", logits, torch.float32)
    check_last_contiguous(logits=logits)
    if not 0 < logits.shape[1] <= _MOST:
        raise ValueError(f"logits are of {logits.shape[1]} tokens, wanted 1 to {_MOST}")
    for name, dtype in DTYPES.items():
        tensor = getattr(settings, name)
        check_shape(name, tensor, logits.shape[0])
        check_dtype(name, tensor, dtype)
        check_last_contiguous(**{name: tensor})
        check_same_device(logits=logits, **{name: tensor})


def plans(vocab: int = 128_256) -> tuple[Plan, ...]:
    """Every step of a launch, in order; by default of Llama 3's vocabulary."""
    kinds = {name: pointer(dtype) for name, dtype in DTYPES.items()} | {"logits": "*fp32", "stride": "i32"}
    kinds |= {"peaks": "*fp32", "places": "*i32", "keys": "*i64", "chosen": "*i64", "states": "*i64", "tallies": "*i64"}
    pieces = triton.cdiv(vocab, _PIECE)
    constants = {"VOCAB": vocab, "BLOCK": _PIECE, "PIECES": pieces, "ROUND": triton.next_power_of_2(pieces)}
    constants |= {"LOG2": fixed_point.LOG2, "EXP2": fixed_point.EXP2, "RACE": fixed_point.RACE}

    def step(name: str, kernel: Any, **own: Any) -> Plan:
        parameters = kernel.arg_names
        return Plan(
            name=f"{name}, {vocab}",
            kernel=kernel,
            types={parameter: kinds[parameter] for parameter in parameters if parameter in kinds},
            constants={name: value for name, value in (constants | own).items() if name in parameters},
            aligned=frozenset({"stride"}),
            warps=8 if kernel is not choose_kernel else 1,
        )

    tallies = (step(f"tally {number}", tally_kernel, STEP=number) for number in range(_STEPS))
    return (step("peaks", peaks_kernel), *tallies, step("draw", draw_kernel), step("choose", choose_kernel))


OPERATION = Operation(name="sampling", plans=plans)
