"""What a dispatch and a round of migration pairing cost the thread that makes them.

Dispatch: `Coxswain.arrived` in the gateway's own cluster: it makes a job of the request, looks its prefix up, chooses
an engine from a short list, and notes what it sent; the message to the engine is not in it. Prompts are those of
Mooncake's conversation trace in its order, with the hits that its 512-token ids imply; when it begins anew, its ids are
other prompts'. They arrive at random, so that some engines prefill, some decode and some idle; what engines report and
the policy makes of it happens between two arrivals, untimed, so the processor's caches are full of that. The engines
themselves are no part of it: they are simulated ahead, beside a gateway of their own, and what that one was told is
told again to the one that is timed, which must send every request to the same engine. What waits in the policy's queue,
as all that could take it soon is busy, is told apart.

Garbage collection is on, as in a gateway: what is there before the first replica connects is frozen (`gc.freeze`), and
what comes later is collected.

Pairing: fleets of which a quarter is nearly full or has a prompt that does not fit.
"""

from __future__ import annotations

import gc
import gzip
import json
import random
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.replicas import World
from benchmarks.rows import Row, Section
from benchmarks.told import BLOCK, Asked, Gateway, Prompt
from coxswain_gateway.engines import LiveRequest
from coxswain_scheduler.freeness import Worker
from coxswain_scheduler.interface import Policy, Request
from coxswain_scheduler.migration import Movable, Pairing
from coxswain_scheduler.policies.coxswain import Coxswain

TRACE = Path(__file__).parent / "data" / "mooncake_fast25" / "conversation_trace.jsonl.gz"
WORKERS = (64, 256, 1024)
CALLS = 100_000
"""For the largest fleet; the others get a fifth."""
ROUNDS = 200
_RATE = 0.35
"""Requests a second and engine."""
_CHUNK = 512
_STORED = 2_000_000
"""Blocks that all engines hold together when the index is warm."""
_AHEAD = 500
"""Requests for which the engines are simulated before they are timed."""
_MIX = 0x9E3779B97F4A7C15


class Prompts:
    """The trace's prompts, for ever."""

    def __init__(self, trace: Path = TRACE) -> None:
        with gzip.open(trace, "rt") as lines:
            rows = [json.loads(line) for line in lines]
        self.rows: list[tuple[int, list[int]]] = [(row["input_length"], row["hash_ids"]) for row in rows]

    def __iter__(self) -> Iterator[Prompt]:
        for turn in count(1):
            for tokens, chunks in self.rows:
                yield Prompt(tokens, _hashes(tokens, chunks, turn))


class Timed:
    """The policy that ships, with a watch."""

    def __init__(self) -> None:
        self._policy = Coxswain()
        self.taken = 0
        """Nanoseconds of the latest arrival."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def arrived(self, request: Request) -> None:
        """See `Policy`."""
        started = time.thread_time_ns()
        self._policy.arrived(request)
        self.taken = time.thread_time_ns() - started


class Dispatch(NamedTuple):
    """One arrival."""

    nanoseconds: int
    at_once: bool
    """Whether it was sent, not queued."""
    cached: float
    """Share of its prompt that its engine held."""


class Scene:
    """Requests that arrive at a gateway, told what another one was told whose fleet is simulated."""

    def __init__(self, workers: int, *, seed: int = 0) -> None:
        self.policy = Timed()
        self.gateway = Gateway(cast(Policy, self.policy))
        self._world = World(workers, Coxswain(), cached_blocks=_STORED, seed=seed)
        self._rng = random.Random(seed)
        self._rate = _RATE * workers
        self._numbers = count()

    def dispatch(self, prompts: Iterable[Prompt]) -> Iterator[Dispatch]:
        """Let prompts arrive, so many ahead of the clock that is timed."""
        rest = iter(prompts)
        while ahead := list(islice(rest, _AHEAD)):
            for prompt in ahead:
                self._world.proceed(self._world.now + self._rng.expovariate(self._rate))
                self._world.arrived(next(self._numbers), prompt)
            yield from self._again()

    def _again(self) -> Iterator[Dispatch]:
        gateway, tape = self.gateway, self._world.tape
        for now, what, told in tape:
            gateway.tell(now, what, told)
            if what == "arrived":
                asked = gateway.asked.get(told[0])
                yield Dispatch(self.policy.taken, asked is not None and asked.member is not None, _cached(asked))
        tape.clear()
        assert _placed(gateway) == _placed(self._world.gateway), "the same policy was told the same and did otherwise"


def measure(*, calls: int = CALLS, workers: Sequence[int] = WORKERS, rounds: int = ROUNDS) -> Section:
    """All figures, in thread time."""
    prompts = Prompts()
    rows: list[Row] = []
    gc.freeze()  # as `coxswain_gateway.__main__` does
    for fleet in workers:
        share = calls if fleet == max(workers) else calls // 5
        rows += [*_dispatches(fleet, share, prompts), *_pairings(fleet, rounds)]
    gc.unfreeze()
    return Section(
        title="Dispatch and pairing",
        workload=(
            f"One request with block hashes ready, from its arrival to its engine, prefix lookup and bookkeeping "
            f"included: {calls:,} on the prompts of Mooncake's conversation trace ({BLOCK}-token blocks) at "
            f"{max(workers):,} workers, a fifth at the others, warm index. One round of pairing: {rounds:,} fleets of "
            "24 requests an engine, a quarter short of blocks. Thread CPU time, garbage collection on; what was there "
            "at the start is frozen, as in the gateway."
        ),
        rows=rows,
    )


def _dispatches(workers: int, calls: int, prompts: Prompts) -> list[Row]:
    scene, endless = Scene(workers), iter(prompts)
    warm = scene.dispatch(islice(endless, len(prompts.rows)))
    for _ in track(warm, f"{workers} workers: warming up", len(prompts.rows)):
        pass
    found = list(track(scene.dispatch(islice(endless, calls)), f"{workers} workers: dispatch", calls))
    sent = np.array([each.nanoseconds for each in found if each.at_once]) / 1e3
    queued = np.array([each.nanoseconds for each in found if not each.at_once]) / 1e3
    index = scene.gateway.cluster.roster.prefixes
    return [
        *_percentiles(f"dispatch_{workers}", sent),
        *(_percentiles(f"dispatch_{workers}_queued", queued) if len(queued) else ()),
        Row(name=f"dispatch_{workers}_sent_at_once", value=len(sent) / calls, unit=""),
        Row(name=f"dispatch_{workers}_cached", value=fmean(each.cached for each in found if each.at_once), unit=""),
        Row(name=f"index_{workers}_entries", value=index.entries, unit="blocks"),
        Row(name=f"index_{workers}_bytes_per_entry", value=index.size / index.entries, unit="B"),
    ]


def _cached(asked: Asked | None) -> float:
    request = None if asked is None else asked.note
    return request.cached / max(1, request.prompt_tokens) if isinstance(request, LiveRequest) else 0.0


def _placed(gateway: Gateway) -> dict[int, str | None]:
    return {number: each.member.key if each.member else None for number, each in gateway.asked.items()}


def _pairings(workers: int, rounds: int) -> list[Row]:
    rng = random.Random(workers)
    pairing = Pairing(block_size=BLOCK, kv_bytes_per_token=128 * 1024, link_bytes_per_second=25e9)
    taken, moves = [], 0
    for _ in track(range(rounds), f"{workers} workers: pairing"):
        fleet = [_worker(rng) for _ in range(workers)]
        held = [_movables(rng) for _ in range(workers)]
        started = time.thread_time_ns()
        found = pairing.pair(fleet, held.__getitem__)
        taken.append((time.thread_time_ns() - started) / 1e3)
        moves += len(found)
    return [
        *_percentiles(f"pairing_{workers}", np.array(taken)),
        Row(name=f"pairing_{workers}_moves", value=moves / rounds, unit="moves"),
    ]


def _movables(rng: random.Random) -> list[Movable]:
    lengths = sorted(rng.randrange(64, 16_000) for _ in range(24))
    return [Movable(i, 0, tokens) for i, tokens in enumerate(lengths)]


def _worker(rng: random.Random) -> Worker:
    short = rng.random() < 0.25
    free = rng.randrange(64) if short else rng.randrange(500, 8_000)
    wanted = rng.randrange(1_000) if rng.random() < 0.5 and short else 0
    return Worker(
        free_blocks=free,
        total_blocks=16_384,
        running=rng.randrange(1, 48),
        waiting=int(wanted > 0),
        wanted_blocks=wanted,
        wanted_priority=rng.randrange(2),
        step_seconds=0.02,
        token_seconds=4e-5,
    )


def _percentiles(name: str, taken: NDArray[np.float64]) -> list[Row]:
    figures = {f"p{q}": float(np.percentile(taken, q)) for q in (50, 90, 99)} | {"max": float(taken.max())}
    return [Row(name=f"{name}_{figure}_us", value=value, unit="us") for figure, value in figures.items()]


def _hashes(tokens: int, chunks: Sequence[int], turn: int) -> Sequence[int]:
    blocks = tokens // BLOCK
    per = _CHUNK // BLOCK
    names = [((turn << 32) + chunk * per + i) * _MIX % 2**64 for chunk in chunks for i in range(per)]
    return array("Q", names[:blocks])
