"""Where decodes go: packed onto as few engines as hold them, so that the others are free to prefill.

Reading the weights costs a decode step the same for one sequence as for a hundred, so a full engine decodes a token
for less than two half-full ones, and prompts computed elsewhere do not stall it. The fullest engine that still has
room is taken (best fit): room in KV for what its requests are predicted to hold together at most (Past-Future,
ASPLOS'25, in the mean), and room in time for a step within the inter-token objective. What remains scattered when
requests end is gathered by live migration, the emptiest engine first, as Llumnix does to defragment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from coxswain_scheduler.hosting import Hosts
from coxswain_scheduler.interface import Engine, Request

_HISTORY: Final = 500
_TOGETHER: Final = 0.4
"""Share of what all answers are still to get that is planned for: while some grow, others end."""
_LASTING: Final = 2.0
"""Mean answers after which one counts as long."""
_SMALL: Final = 8
"""A prompt that takes no more than this part of an engine's free blocks need not leave what others will need."""
_GUESS_TOKENS: Final = 256.0
"""An answer, before any has ended."""


class FreeBlocks:
    """Blocks that engines have free by now: as last reported, less what they have decoded since."""

    def __init__(self) -> None:
        self._reported: dict[int, tuple[int, int]] = {}

    def now(self, engine: Engine) -> int:
        """Never more than reported."""
        free, context = self._reported.get(engine.id, (-1, 0))
        if free != engine.free_blocks:
            self._reported[engine.id] = engine.free_blocks, engine.context
            return engine.free_blocks
        return free - max(0, engine.context - context) // engine.block_size


class Answers:
    """How long answers got lately: what is still to come of one that has got this far."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=_HISTORY)
        self._total = 0
        self._squares = 0

    def ended(self, tokens: int) -> None:
        """Learn from an answer that is complete."""
        if len(self._recent) == _HISTORY:
            self._total -= self._recent[0]
            self._squares -= self._recent[0] ** 2
        self._recent.append(tokens)
        self._total += tokens
        self._squares += tokens**2

    @property
    def mean(self) -> float:
        """Tokens of a whole answer."""
        return self._total / len(self._recent) if self._recent else _GUESS_TOKENS

    @property
    def remaining(self) -> float:
        """Tokens that an answer met at any moment is still to get: long answers are met more often (renewal theory)."""
        return self._squares / (2 * self._total) if self._total else _GUESS_TOKENS / 2


class Packing:
    """What decodes where, as this policy has placed it."""

    def __init__(self, *, full: float, reserved: float, inter_token: float) -> None:
        """`full`: the share of an engine's KV that may be planned for; `reserved`: the share of it that stays free of
        others where requests of a higher priority decode; `inter_token`: seconds a step may take."""
        self._full = full
        self._reserved = reserved
        self._inter_token = inter_token
        self._free = FreeBlocks()
        self.answers = Answers()
        self.decoding: dict[int, dict[int, Request]] = {}
        """By engine: requests placed there, by id."""
        self.paused: dict[int, Request] = {}
        """Batch work that keeps its KV and does not decode, by id."""
        self.lasting: dict[int, int] = {}
        """By engine: answers that were long at the last look. They are likely to become longer still, so of all
        requests they suffer most from slow steps."""
        self.hosts = Hosts()
        """Where high priorities decode."""

    def add(self, engine: int) -> None:
        """An engine to place on."""
        self.decoding[engine] = {}
        self.lasting[engine] = 0

    def drop(self, engine: int) -> None:
        """It is gone."""
        self.hosts.drop(engine)
        for name in self.decoding.pop(engine, {}):
            self.paused.pop(name, None)

    def placed(self, request: Request, engine: int) -> None:
        """The request decodes there from now on."""
        self.decoding[engine][request.id] = request
        self.hosts.placed(request, engine)

    def left(self, request: Request, engine: int) -> bool:
        """It has ended there, or gone elsewhere; False when it was not there."""
        if self.decoding.get(engine, {}).pop(request.id, None) is None:
            return False
        self.hosts.left(request, engine)
        self.paused.pop(request.id, None)
        return True

    def look(self) -> None:
        """See which answers have become long."""
        least = _LASTING * self.answers.mean
        for engine, requests in self.decoding.items():
            self.lasting[engine] = sum(each.emitted > least for each in requests.values())

    def where(self, request: Request) -> int | None:
        """The engine on which it was placed."""
        return next((engine for engine, requests in self.decoding.items() if request.id in requests), None)

    def room(self, engine: Engine, blocks: int, *, beside: int = 0, priority: int = 0) -> int:
        """Blocks that would be left with a request of so many; negative where it has no room.

        `beside`: blocks that it holds there already.
        """
        count = len(self.decoding[engine.id])
        if count >= engine.max_num_seqs:
            return -1
        growth = int((count + 1) * self.answers.remaining * _TOGETHER) // engine.block_size + 1
        held = engine.total_blocks - engine.free_blocks + engine.waiting_blocks - beside + blocks
        share = self._full if priority > 0 or not self.hosts.high(engine.id) else self._full - self._reserved
        left = int(share * engine.total_blocks) - held - growth
        if left < 0:
            return left
        step = engine.timing.decode_seconds(count + 1, held * engine.block_size, 1)
        return left if step <= self._inter_token else -1

    def spare(self, engine: Engine, *, steps: int) -> int:
        """Blocks that a prompt may take there: those that nobody needs within so many decode steps, or a small part of
        those that are free, which hardly brings their end nearer. Negative where there are not enough."""
        free = self._free.now(engine) - engine.waiting_blocks
        growth = (engine.running + 1) * steps // engine.block_size
        return max(free - growth, free // _SMALL)

    def best(self, request: Request, engines: Iterable[Engine]) -> Engine | None:
        """Of the engines that decode already and have room: the fullest; for a high priority the emptiest."""
        tokens = request.prompt_tokens + request.emitted
        best, least = None, 1 << 60
        for engine in engines:
            if not self.decoding[engine.id]:
                continue
            blocks = -(-tokens // engine.block_size)
            beside = blocks if engine.id == request.engine else 0
            left = self.room(engine, blocks, beside=beside, priority=request.priority)
            if left >= 0 and (order := -left if request.priority > 0 else left) < least:
                best, least = engine, order
        return best

    def gather(self, engines: Iterable[Engine]) -> list[tuple[Request, Engine]]:
        """Moves that empty the emptiest engine into the others; none while they have no room for all it decodes."""
        decoders = [engine for engine in engines if self.decoding[engine.id] and not self.hosts.high(engine.id)]
        if len(decoders) < 2:
            return []
        decoders.sort(key=_held)
        source, *others = decoders
        room = {engine: self.room(engine, 0) for engine in others}
        moves: list[tuple[Request, Engine]] = []
        for request in self.decoding[source.id].values():
            if request.engine != source.id or request.id in self.paused:
                return []
            tokens = request.prompt_tokens + request.emitted
            blocks = -(-(tokens + int(self.answers.mean / 2)) // source.block_size)
            fits = [engine for engine in others if room[engine] >= blocks]
            if not fits:
                return []
            target = min(fits, key=room.__getitem__)
            room[target] -= blocks
            moves.append((request, target))
        return moves

    def relieve(self, engine: Engine) -> tuple[list[Request], list[Request]]:
        """Batch work to pause, so that the others' step is within the objective, and to resume, where there is time.

        It keeps its KV: nothing is computed twice, and pausing costs no more than the pause.
        """
        decoding = self.decoding[engine.id]
        batch = [request for request in decoding.values() if request.priority < 0]
        if not batch or len(batch) == len(decoding):
            return [], [request for request in batch if request.id in self.paused]
        running = engine.decoding
        step = engine.timing.decode_seconds(max(1, running), engine.context, 1)
        if step > self._inter_token:
            going = [request for request in batch if request.id not in self.paused and request.engine == engine.id]
            return going[-1:], []
        waiting = [request for request in batch if request.id in self.paused]
        return [], waiting[:1] if step < 0.8 * self._inter_token else []


def _held(engine: Engine) -> int:
    return engine.total_blocks - engine.free_blocks
