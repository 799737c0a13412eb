"""What the kernels are to achieve on an H200, and whether they did."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.kernel_rows.measuring import Row


@dataclass(frozen=True, slots=True)
class Aim:
    """The worst of the rows that it is about."""

    name: str
    value: float
    wanted: float

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        return self.value >= self.wanted


def aims(rows: Sequence[Row]) -> Iterator[Aim]:
    """Those of which there are rows; invariant plans are not held to them."""
    fast = [row for row in rows if row.plan != "invariant"]
    decodes = [row for row in fast if row.operation == "paged_decode" and row.dtype == "bfloat16"]
    batched = (row.fraction for row in decodes if _numbers(row) >= [32, 0] and _numbers(row)[1] >= 2048)
    yield from _worst("decode, batch ≥ 32, context ≥ 2k: of copy bandwidth", batched, 0.7)
    alone = (row.fraction for row in decodes if _numbers(row) == [1, 32768])
    yield from _worst("decode, batch 1, context 32k: of copy bandwidth", alone, 0.5)
    prefills = (_faster(row, "torch SDPA") for row in fast if row.operation == "paged_prefill")
    yield from _worst("prefill: of SDPA's best backend", prefills, 0.7)
    shared = (
        _faster(row, "paged_decode")
        for row in fast
        if row.operation == "shared_prefix" and _numbers(row) == [256, 16384, 128]
    )
    yield from _worst("shared prefix, batch 256, prefix 16k, suffix 128: times plain", shared, 8.0)
    quantised = (
        _faster(row, "cuBLAS")
        for row in fast
        if row.operation == "quantised_linear" and row.dtype.endswith("int4") and _numbers(row)[0] <= 16
    )
    yield from _worst("int4 product, batch ≤ 16: times bf16", quantised, 3.0)
    gathers = (row.fraction for row in fast if row.shape.startswith("gather") and row.dtype == "bfloat16")
    yield from _worst("block gather: of copy bandwidth", gathers, 0.8)


def _worst(name: str, values: Iterable[float | None], wanted: float) -> Iterator[Aim]:
    known = [value for value in values if value is not None]
    if known:
        yield Aim(name, min(known), wanted)


def _faster(row: Row, peer: str) -> float | None:
    """How many times faster than the best of the peers that are called so."""
    times = [seconds for name, seconds in row.peers.items() if name.startswith(peer)]
    return min(times) / row.seconds if times else None


def _numbers(row: Row) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", row.shape)]
