"""NVIDIA Dynamo's own offline replay on the same traces, objectives and engines, for the scheduler's benchmark.

    python -m benchmarks.dynamo_peer TRACE [--speedups 1,4,6] [--seed N] [--link-gb-s 25] [--python PATH]

Needs the wheels `ai-dynamo-runtime` and `ai-dynamo`, in the interpreter given or in an environment that is made for
them in the cache. Its round robin is deterministic; its KV router breaks ties at random.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.dynamo_wheels import VERSION, PeerError, interpreter, output
from coxswain_simulate import traces
from coxswain_simulate.errors import InputError

ROUTERS = ("round_robin", "kv_router")
SPEEDUPS = (1.0, 2.0, 3.0, 4.0, 5.0, 5.5, 6.0, 7.0)
KV_BYTES_PER_TOKEN = 128 * 1024

_SCRIPT = Path(__file__).with_name("dynamo_replay.py")
_REPLAY_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Pools:
    """How the engines are used: all for everything, or split by role."""

    both: int = 0
    prefill: int = 0
    decode: int = 0

    def __str__(self) -> str:
        return str(self.both) if self.both else f"{self.prefill}P{self.decode}D"


POOLS = (Pools(both=8), Pools(prefill=5, decode=3), Pools(prefill=4, decode=4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One replay."""

    trace: Path
    """In Mooncake's format, plain or gzipped. Dynamo moves the first arrival to 0."""
    router: str
    pools: Pools
    speedup: float
    ttft_s: float = 2.0
    inter_token_s: float = 0.05
    link_gb_s: float | None = None
    """Between the pools, for prompts of KV_BYTES_PER_TOKEN; None is free, Dynamo's default."""

    def arguments(self, trace: Path) -> dict[str, Any]:
        """What `run_mocker_trace_replay` is called with."""
        common = {
            "trace_files": [str(trace)],
            "router_mode": self.router,
            "trace_block_size": 512,
            "arrival_speedup_ratio": self.speedup,
            "sla_ttft_ms": self.ttft_s * 1e3,
            "sla_itl_ms": self.inter_token_s * 1e3,
        }
        if self.pools.both:
            return common | {"num_workers": self.pools.both}
        link = {}
        if self.link_gb_s is not None:
            link = {"kv_transfer_bandwidth": self.link_gb_s, "kv_transfer_bytes_per_token": KV_BYTES_PER_TOKEN}
        return common | {
            "num_prefill_workers": self.pools.prefill,
            "num_decode_workers": self.pools.decode,
            "prefill_engine_args": {"engine": {"worker_type": "prefill", **link}},
            "decode_engine_args": {"engine": {"worker_type": "decode", **link}},
        }


@dataclass(frozen=True, slots=True)
class Sample:
    """One request; `inter_token_s` is the mean over its gaps, None where it has only one token."""

    prompt_tokens: int
    ttft_s: float
    inter_token_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What Dynamo reports. Percentiles are by nearest rank, keyed "p50", "p90" and "p99"."""

    requests: int
    good: int
    ttft_s: Mapping[str, float]
    inter_token_s: Mapping[str, float]
    """Of the means per request, over those with more than one token."""
    token_gap_p99_s: float
    """Of all single gaps, from Dynamo's histogram: to 0.1 %."""
    prefix_reuse: float
    """Share of all prompt tokens found in the engine that a request was sent to."""
    prefix_reuse_with_preempted: float
    """The figure Dynamo prints: what preempted requests find again on their return counts instead."""
    virtual_s: float
    cpu_s: float
    samples: Sequence[Sample] = field(repr=False)

    @classmethod
    def parse(cls, answer: str) -> Outcome:
        """Of what `dynamo_replay.py` prints. Raises PeerError."""
        try:
            document = json.loads(answer)
            summary, seconds = document["summary"], 1e-3
            return cls(
                requests=summary["num_requests"],
                good=summary["goodput_completed_requests"],
                ttft_s=_percentiles(summary, "ttft_ms"),
                inter_token_s=_percentiles(summary, "tpot_ms"),
                token_gap_p99_s=summary["p99_itl_ms"] * seconds,
                prefix_reuse=summary["first_admission_prefix_cache_reused_ratio"],
                prefix_reuse_with_preempted=summary["prefix_cache_reused_ratio"],
                virtual_s=summary["duration_ms"] * seconds,
                cpu_s=document["cpu_s"],
                samples=[
                    Sample(int(tokens), ttft * seconds, None if gap is None else gap * seconds)
                    for tokens, ttft, gap in document["requests"]
                ],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise PeerError(f"Dynamo's answer is not as {VERSION} gives it: {error!r}") from None


def replay(python: Path, case: Case) -> Outcome:
    """Replay one case, in a process of its own. Raises PeerError, and OSError where the trace cannot be read."""
    with _plain(case.trace) as trace:
        return Outcome.parse(output([python, _SCRIPT, json.dumps(case.arguments(trace))], seconds=_REPLAY_SECONDS))


@contextmanager
def _plain(trace: Path) -> Iterator[Path]:
    """The trace without gzip, which Dynamo does not read."""
    if trace.suffix != ".gz":
        yield trace
        return
    with tempfile.TemporaryDirectory(prefix="coxswain-bench-") as folder:
        plain = Path(folder) / trace.stem
        with gzip.open(trace) as source, plain.open("wb") as target:
            shutil.copyfileobj(source, target)
        yield plain


def _percentiles(summary: Mapping[str, Any], name: str) -> dict[str, float]:
    keys = {"p50": f"median_{name}", "p90": f"p90_{name}", "p99": f"p99_{name}"}
    return {percentile: summary[key] * 1e-3 for percentile, key in keys.items()}


def _row(case: Case, outcome: Outcome) -> str:
    ttft, gap = outcome.ttft_s, outcome.inter_token_s
    return (
        f"{case.router:12}{case.pools!s:>6}{case.speedup:6g}{outcome.good:8,} of {outcome.requests:,}"
        f"{ttft['p50']:10.3f}{ttft['p99']:9.3f}{gap['p50'] * 1e3:10.2f}{gap['p99'] * 1e3:8.2f}"
        f"{outcome.prefix_reuse:9.4f}{outcome.cpu_s:8.2f}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dynamo_peer", description="Dynamo's rows, by itself.")
    parser.add_argument("trace", type=Path, help="a trace in Mooncake's format")
    parser.add_argument("--speedups", type=lambda text: [float(part) for part in text.split(",")], default=SPEEDUPS)
    parser.add_argument("--seed", type=int, help="move arrivals by up to a second, as the simulator does")
    parser.add_argument("--link-gb-s", type=float, help="speed of the link between the pools (default: free)")
    parser.add_argument("--python", type=Path, help="an interpreter that can import Dynamo's wheels")
    return parser.parse_args()


def _rows(python: Path, options: argparse.Namespace, folder: Path) -> Iterator[str]:
    trace = options.trace
    if options.seed is not None:
        trace = folder / "jittered.jsonl"
        traces.write(traces.load(options.trace, "mooncake", traces.Options(seed=options.seed)), trace)
    for speedup, router, pools in itertools.product(options.speedups, ROUTERS, POOLS):
        case = Case(trace=trace, router=router, pools=pools, speedup=speedup, link_gb_s=options.link_gb_s)
        yield _row(case, replay(python, case))


def main() -> int:
    """Print a row for every router, split and speed-up, each as soon as it is there."""
    options = _options()
    python = interpreter(options.python, say=lambda line: print(line, file=sys.stderr))
    if python is None:
        return 2
    print("router     engines speed-up    good          TTFT s p50  p99  tokens ms p50  p99    reuse   CPU s")
    with tempfile.TemporaryDirectory(prefix="coxswain-bench-") as folder:
        try:
            for row in _rows(python, options, Path(folder)):
                print(row, flush=True)
        except (PeerError, InputError, OSError) as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
