"""Workloads, timed: what each plan achieved of what the device can do, and what others took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from benchmarks.kernel_rows.workload import PLANS, Call, Workload


class Timer(Protocol):
    """`timing.Clock`, of whose methods nothing else is used."""

    device: torch.device

    def copies(self, bytes_moved: int) -> int:
        """Sets of tensors to rotate among."""

    def seconds(self, calls: Sequence[Call], *, bytes_moved: int) -> float:
        """Median of one run."""

    def copied_bytes_per_second(self) -> float:
        """The ceiling of what moves bytes."""

    def multiplied_flops_per_second(self, dtype: torch.dtype) -> float:
        """The ceiling of what multiplies matrices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One plan on one workload."""

    operation: str
    shape: str
    dtype: str
    plan: str
    seconds: float
    bytes_per_second: float
    flops_per_second: float
    ceiling: str
    """`copy` or `cuBLAS`: whichever would take longer for this."""
    fraction: float
    """Of the ceiling."""
    price: float | None
    """Of an invariant plan: its time by the fast plan's."""
    peers: dict[str, float]
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A contender of which there is no figure."""

    operation: str
    shape: str
    contender: str
    reason: str
    absent: bool
    """It is not installed here."""

    @property
    def ours(self) -> bool:
        """Something is wrong with a kernel of this project, or it does not fit this device's memory."""
        return self.contender in PLANS


@dataclass(slots=True)
class Findings:
    """All that was measured."""

    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def add(self, workload: Workload, timer: Timer) -> None:
        """Measure it."""
        seconds = dict(self._timed(workload, timer))
        peers = {name: taken for name, taken in seconds.items() if name not in PLANS}
        for plan in PLANS:
            if plan in seconds:
                self.rows.append(_row(workload, plan, seconds, peers, timer))

    def _timed(self, workload: Workload, timer: Timer) -> Iterator[tuple[str, float]]:
        try:
            copies = [workload.make(timer.device) for _ in range(timer.copies(workload.bytes_moved))]
        except torch.OutOfMemoryError as error:
            self._failed(workload, PLANS[0], error)
            return
        for name in copies[0]:
            try:
                calls = [copy[name]() for copy in copies]
                yield name, timer.seconds(calls, bytes_moved=workload.bytes_moved)
            except Exception as error:  # whatever others' kernels raise where they cannot
                self._failed(workload, name, error)

    def _failed(self, workload: Workload, contender: str, error: Exception) -> None:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        self.failures.append(
            Failure(
                operation=workload.operation,
                shape=workload.shape,
                contender=contender,
                reason=f"{type(error).__name__}: {lines[0]}",
                absent=isinstance(error, ImportError),
            )
        )


def _row(workload: Workload, plan: str, seconds: dict[str, float], peers: dict[str, float], timer: Timer) -> Row:
    taken = seconds[plan]
    floors = {"copy": workload.bytes_moved / timer.copied_bytes_per_second()}
    if workload.flops:
        floors["cuBLAS"] = workload.flops / timer.multiplied_flops_per_second(workload.precision)
    ceiling = max(floors, key=lambda name: floors[name])
    return Row(
        operation=workload.operation,
        shape=workload.shape,
        dtype=workload.dtype,
        plan=plan,
        seconds=taken,
        bytes_per_second=workload.bytes_moved / taken,
        flops_per_second=workload.flops / taken,
        ceiling=ceiling,
        fraction=floors[ceiling] / taken,
        price=taken / seconds["fast"] if plan == "invariant" and "fast" in seconds else None,
        peers=peers,
    )
