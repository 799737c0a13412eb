"""Seconds on the device, with cold caches, and the ceilings that they are held against."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import cache

import torch

from benchmarks.kernel_rows.workload import Call

_LEAD_CYCLES = 2_000_000
"""For which the device waits before a run, a millisecond or so: the host has launched all of it by then."""
_COLD = 4
"""How many times what the L2 cache holds lies between two uses of a tensor."""
_MOST_COPIES = 8


class Clock:
    """Times calls on one device."""

    def __init__(self, device: torch.device, *, repeats: int) -> None:
        self.device = device
        self.repeats = repeats
        self.cold_bytes = _COLD * torch.cuda.get_device_properties(device).L2_cache_size
        self._other = torch.zeros(self.cold_bytes // 4, device=device)

    def copies(self, bytes_moved: int) -> int:
        """Sets of tensors to rotate among."""
        return min(-(-self.cold_bytes // max(bytes_moved, 1)), _MOST_COPIES)

    def seconds(self, calls: Sequence[Call], *, bytes_moved: int) -> float:
        """Median of one run, each of the next of `calls`.

        Where all of them together are less than the cold bytes, as much is read between two runs.
        """
        for call in (*calls, calls[0]):
            call()
        rotating = len(calls) * bytes_moved >= self.cold_bytes
        events = [(_event(), _event()) for _ in range(self.repeats)]
        for place, (start, end) in enumerate(events):
            if not rotating:
                self._other.sum()
            torch.cuda._sleep(_LEAD_CYCLES)  # type: ignore[no-untyped-call]
            start.record()
            calls[place % len(calls)]()
            end.record()
        torch.cuda.synchronize(self.device)
        return float(statistics.median(start.elapsed_time(end) for start, end in events) / 1e3)

    @cache  # noqa: B019 - one clock a process
    def copied_bytes_per_second(self) -> float:
        """Of a large copy on the device, reads and writes counted."""
        count = min(2**31, torch.cuda.mem_get_info(self.device)[0] // 4)
        source = torch.ones(count, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        seconds = self.seconds([lambda: target.copy_(source)], bytes_moved=2 * count)
        return float(2 * count / seconds)

    @cache  # noqa: B019
    def multiplied_flops_per_second(self, dtype: torch.dtype) -> float:
        """Of the product of two large square matrices by the vendor's library."""
        width = 4096 if dtype == torch.float32 else 8192
        left, right = (torch.randn(width, width, device=self.device).to(dtype) for _ in range(2))
        out = torch.empty_like(left)
        seconds = self.seconds([lambda: torch.mm(left, right, out=out)], bytes_moved=3 * width**2 * left.itemsize)
        return 2 * width**3 / seconds


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
