"""Constants of fast plans, measured on the GPU at hand: the table that `coxswain_kernels.launching.tuning` reads."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
import triton
from torch import Tensor
from triton.errors import TritonError

from benchmarks.kernel_rows import attention, matrices
from benchmarks.kernel_rows.measuring import Timer
from benchmarks.kernel_rows.workload import Call, Model, Workload
from coxswain_kernels.launching.targets import target_of
from coxswain_kernels.launching.tuning import Constants, Table, trying

_GAIN = 0.98
"""Of the time by the operation's own constants: what is not clearly faster is not worth a binary."""
_NEAR = 0.02
"""Of the largest number, between results: constants with which they differ more are no candidates."""


@dataclass(frozen=True, slots=True)
class Space:
    """What is tried for an operation, on what."""

    operation: str
    workloads: Callable[[Model], Iterable[Workload]]
    candidates: Sequence[Constants]


def tune(spaces: Iterable[Space], model: Model, timer: Timer, *, say: Callable[[str], None]) -> Table:
    """Measure every candidate of every space; the table has those that were faster."""
    found: dict[str, dict[str, Constants]] = {}
    for space in spaces:
        for case, times in _times(space, model, timer).items():
            own, best = times[()], min(times, key=lambda constants: times[constants])
            say(f"{space.operation}, {case}: {own * 1e6:.1f} µs, at best {times[best] * 1e6:.1f} µs by {dict(best)}")
            if times[best] < _GAIN * own:
                found.setdefault(space.operation, {})[case] = dict(best)
    return Table(
        device=torch.cuda.get_device_name(timer.device),
        triton=triton.__version__,
        target=target_of(timer.device),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        constants=found,
    )


_Key = tuple[tuple[str, int], ...]


def _times(space: Space, model: Model, timer: Timer) -> dict[str, dict[_Key, float]]:
    """By case and constants, the seconds of all workloads together; of constants that fit them all."""
    seconds: dict[str, dict[_Key, list[float]]] = defaultdict(lambda: defaultdict(list))
    for workload in space.workloads(model):
        call = workload.make(timer.device)["fast"]()
        with trying(space.operation, {}) as trial:
            wanted = call()
        (case,) = trial.cases
        for constants in ({}, *space.candidates):
            with trying(space.operation, constants):
                if _fits(call, wanted):
                    taken = timer.seconds([call], bytes_moved=workload.bytes_moved)
                    seconds[case][tuple(constants.items())].append(taken)
    whole = {case: len(times[()]) for case, times in seconds.items()}
    return {
        case: {key: sum(some) for key, some in times.items() if len(some) == whole[case]}
        for case, times in seconds.items()
    }


def _fits(call: Call, wanted: object) -> bool:
    try:
        got = call()
    except TritonError:  # too much shared memory, for one
        return False
    assert isinstance(got, Tensor)
    assert isinstance(wanted, Tensor)
    return bool((got.float() - wanted.float()).abs().max() <= _NEAR * wanted.float().abs().max())


def every(**choices: Sequence[int]) -> list[Constants]:
    """All combinations."""
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


def _decodes(model: Model) -> Iterator[Workload]:
    for batch, context in product((1, 8, 32, 128, 256), (2048, 8192)):
        yield attention.decode(model, batch, context)


def _prefills(model: Model) -> Iterator[Workload]:
    for chunks in (((2048, 2048),), ((512, 8192),), ((8192, 8192),)):
        yield attention.prefill(model, chunks)


def _few_rows(model: Model) -> Iterator[Workload]:
    for rows in (1, 8, 16):
        yield matrices.multiply_quantised(rows, model.hidden, model.inner, bits=4)
        yield matrices.multiply_quantised(rows, model.inner, model.hidden, bits=4)


SPACES = (
    Space("paged_decode", _decodes, every(programs=(1, 2, 3, 4), warps=(2, 4, 8), stages=(2, 3, 4))),
    Space("paged_prefill", _prefills, every(ROWS=(64, 128), TILE=(32, 64, 128), warps=(4, 8), stages=(2, 3, 4))),
    Space("quantised_linear", _few_rows, every(COLUMNS=(32, 64, 128), warps=(2, 4, 8), stages=(3, 4, 5))),
)
