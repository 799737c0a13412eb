"""Goodput over rate, as the simulator's report draws it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.arena.plan import OURS, PEERS, SPLIT
from benchmarks.arena.runs import ENGINES, INTER_TOKEN_SECONDS, TTFT_SECONDS, Figures, trace_of
from benchmarks.arena.tables import Rows, mean
from coxswain_simulate.report import draw as drawn

_SHOWN = (
    OURS,
    *PEERS,
    f"mooncake:prefill={SPLIT}",
    f"static:prefill={SPLIT}",
    f"dynamo-kv:prefill={SPLIT}",
    "sglang-cache-aware",
    "llumnix",
    "round-robin",
)
"""More lines cannot be told apart."""


def draw(rows: Rows, target: Path) -> None:
    """Write a PNG of the means over the seeds, with free KV transfer."""
    trace = trace_of("conversation", None)
    rate = len(trace.requests) / trace.seconds
    runs = [
        _drawable(name.replace(f":prefill={SPLIT}", " split").replace(SPLIT, "split"), several, rate)
        for shown in _SHOWN
        for (name, _, link), several in rows.items()
        if name == shown and link is None and several
    ]
    with tempfile.TemporaryDirectory(prefix="coxswain-bench-") as folder:
        drawn(runs, Path(folder))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((Path(folder) / "goodput.png").read_bytes())


def _drawable(label: str, several: Sequence[Figures], rate: float) -> Figures:
    one = several[0]
    return {
        **one,
        **{key: round(mean(several, key).value) for key in ("good", "feasible", "bound", "shed")},
        "title": label,
        "policy": label,
        "trace": "Mooncake conversation",
        "engines": ENGINES,
        "rate": rate * one["speedup"],
        "objectives": {"ttft_s": TTFT_SECONDS, "inter_token_s": INTER_TOKEN_SECONDS},
        "curves": {"ttft_s": [], "inter_token_s": []},
        "load": [],
    }
