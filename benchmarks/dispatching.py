"""What a dispatch and a round of migration pairing cost the thread that makes them.

Dispatch: on the prompts of Mooncake's conversation trace in its order, with the hits that its 512-token ids imply; when
the trace begins anew, its ids are other prompts'. They come in bursts, whose hashes are ready. Engines report loads
between two dispatches, and between two bursts they begin what they were sent, announce what they store, and give up
what they used least recently, all untimed. "Alone" is a burst of one: the caches are then full of that other work.
Garbage collection is on.

Pairing: fleets of which a quarter is nearly full or has a prompt that does not fit.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import Row, Section
from coxswain_protocol.messages import EngineInfo, Load
from coxswain_scheduler.dispatch import Dispatcher, Prompt
from coxswain_scheduler.migration import Movable, Pairing, Worker, Workers
from coxswain_scheduler.prefixes import PrefixIndex

TRACE = Path(__file__).parent / "data" / "mooncake_fast25" / "conversation_trace.jsonl.gz"
WORKERS = (64, 256, 1024)
CALLS = 100_000
BURST = 64
ROUNDS = 200
BLOCK = 64
_CHUNK = 512
_STORED = 2_000_000
"""Blocks that all engines hold together when the index is warm."""
_MIX = 0x9E3779B97F4A7C15
_LOADS = 4
"""Reports between two dispatches."""


class Prompts:
    """The trace's prompts, for ever."""

    def __init__(self, trace: Path = TRACE) -> None:
        with gzip.open(trace, "rt") as lines:
            rows = [json.loads(line) for line in lines]
        self.rows: list[tuple[int, list[int]]] = [(row["input_length"], row["hash_ids"]) for row in rows]

    def __iter__(self) -> Iterator[Prompt]:
        turn = 0
        while True:
            turn += 1
            for tokens, chunks in self.rows:
                yield Prompt(tokens, {BLOCK: _hashes(tokens, chunks, turn)})


class _Worker:
    """What an engine would say."""

    def __init__(self, name: str, *, blocks: int) -> None:
        self.name = name
        self.capacity = blocks
        self.blocks: dict[int, None] = {}

    def compute(self, hashes: Sequence[int], dispatcher: Dispatcher) -> None:
        """Store a prompt's blocks, and give up the least recently used, ends of prefixes first."""
        new = [block for block in hashes if block not in self.blocks]
        for block in reversed(hashes):
            self.blocks.pop(block, None)
            self.blocks[block] = None
        excess = len(self.blocks) - self.capacity
        if excess > 0:
            oldest = iter(self.blocks)
            gone = [next(oldest) for _ in range(excess)]
            for block in gone:
                del self.blocks[block]
            dispatcher.removed(self.name, gone)
        dispatcher.stored(self.name, new)


class Scene:
    """A fleet that lives between the dispatches."""

    def __init__(self, workers: int, *, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.dispatcher = Dispatcher(rng=random.Random(seed))
        self.workers = {f"replica-{i}": _Worker(f"replica-{i}", blocks=_STORED // workers) for i in range(workers)}
        self.names = list(self.workers)
        self.sent: deque[tuple[str, str, Prompt]] = deque()
        self.count = 0
        for name in self.names:
            self.dispatcher.add(name, _INFO)
            self.report(name)

    def report(self, name: str) -> None:
        """Some load."""
        rng = self.rng
        running = rng.randrange(0, 48)
        pending = rng.choice((0, 0, rng.randrange(20_000)))
        self.dispatcher.reported(name, Load(running=running, context=running * 9_000, pending_prefill=pending))

    def dispatch(self, request: str, prompt: Prompt) -> int:
        """Nanoseconds of one dispatch."""
        started = time.thread_time_ns()
        decision = self.dispatcher.dispatch(request, prompt)
        taken = time.thread_time_ns() - started
        assert decision is not None
        self.sent.append((request, decision.member, prompt))
        for _ in range(_LOADS):
            self.report(self.rng.choice(self.names))
        return taken

    def live(self) -> None:
        """What engines do meanwhile."""
        while len(self.sent) > len(self.names) // 2:
            begun, where, what = self.sent.popleft()
            self.workers[where].compute(what.hashes[BLOCK], self.dispatcher)
            self.dispatcher.settled(where, begun)

    def bursts(self, calls: int, prompts: Iterator[Prompt], *, size: int) -> NDArray[np.float64]:
        """Microseconds of each of so many dispatches."""
        taken: list[int] = []
        while len(taken) < calls:
            first = self.count
            self.count += size
            burst = [(str(first + i), prompt) for i, prompt in enumerate(islice(prompts, size))]
            taken += [self.dispatch(request, prompt) for request, prompt in burst]
            self.live()
        return np.array(taken[:calls]) / 1e3


def measure(*, calls: int = CALLS, workers: Sequence[int] = WORKERS, rounds: int = ROUNDS) -> Section:
    """All figures, in thread time."""
    prompts = Prompts()
    rows = [row for count in workers for row in (*_dispatches(count, calls, prompts), *_pairings(count, rounds))]
    return Section(
        title="Dispatch and pairing",
        workload=(
            f"One dispatch with block hashes ready, prefix lookup and bookkeeping included: {calls:,} on the prompts "
            f"of Mooncake's conversation trace ({BLOCK}-token blocks), warm index. One round of pairing: {rounds:,} "
            "fleets of 24 requests an engine, a quarter short of blocks. Thread CPU time, garbage collection on."
        ),
        rows=rows,
    )


def _dispatches(workers: int, calls: int, prompts: Prompts) -> list[Row]:
    scene, endless = Scene(workers), iter(prompts)
    scene.bursts(len(prompts.rows), endless, size=BURST)
    taken = scene.bursts(calls, endless, size=BURST)
    alone = scene.bursts(calls // 10, endless, size=1)
    index = scene.dispatcher.prefixes
    return [
        *_percentiles(f"dispatch_{workers}", taken),
        *_percentiles(f"dispatch_{workers}_alone", alone),
        Row(name=f"index_{workers}_entries", value=index.entries, unit="blocks"),
        Row(name=f"index_{workers}_bytes_per_entry", value=index_bytes(index) / index.entries, unit="B"),
    ]


def index_bytes(index: PrefixIndex) -> int:
    """Memory of a prefix index: table, hashes, masks (each once, however many blocks share it), engines' lists."""
    masks = {id(mask): sys.getsizeof(mask) for mask in index._holders.values()}
    lists = sum(sys.getsizeof(held.blocks) for held in index._held.values())
    return sys.getsizeof(index._holders) + sum(map(sys.getsizeof, index._holders)) + sum(masks.values()) + lists


def _pairings(workers: int, rounds: int) -> list[Row]:
    rng = random.Random(workers)
    pairing = Pairing(block_size=BLOCK, kv_bytes_per_token=128 * 1024, link_bytes_per_second=25e9)
    taken, moves = [], 0
    for _ in range(rounds):
        fleet = Workers(_worker(rng) for _ in range(workers))
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
    return Worker(free, 16_384, rng.randrange(1, 48), int(wanted > 0), wanted, rng.randrange(2), 0.02, 4e-5)


def _percentiles(name: str, taken: NDArray[np.float64]) -> list[Row]:
    figures = {f"p{q}": float(np.percentile(taken, q)) for q in (50, 90, 99)} | {"max": float(taken.max())}
    return [Row(name=f"{name}_{figure}_us", value=value, unit="us") for figure, value in figures.items()]


def _hashes(tokens: int, chunks: Sequence[int], turn: int) -> list[int]:
    blocks = tokens // BLOCK
    per = _CHUNK // BLOCK
    names = [((turn << 32) + chunk * per + i) * _MIX % 2**64 for chunk in chunks for i in range(per)]
    return names[:blocks]


_INFO = EngineInfo(
    engine="native",
    model="m",
    weights_digest="w",
    tokenizer_digest="t",
    vocab_size=128_256,
    max_model_len=131_072,
    block_size=BLOCK,
    num_blocks=16_384,
    max_num_seqs=256,
    eos_ids=(),
    accelerator="h100",
    step_floor_seconds=0.01,
)
