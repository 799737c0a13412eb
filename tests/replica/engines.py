"""Engines for tests of what surrounds an engine."""

from __future__ import annotations

import threading
import time

from coxswain_protocol.messages import Chunk, EngineInfo, Finish, Load, Request, StepEvent
from coxswain_workers.engine.interface import StepOutput

INFO = EngineInfo("metronome", "counting", "w", "t", 100_000, 4096, 32, 64, 32, ())


class Metronome:
    """An engine whose tokens count up from the prompt's last, one step each `period` seconds.

    A step waits while `hold` is set (without the interpreter's lock, as a kernel would), raises what `fault` holds, and
    reports `blocks` hashes, to make frames as large as a test wants.
    """

    def __init__(self, *, period: float = 0.002, blocks: int = 0) -> None:
        self.info = INFO
        self.hold = threading.Event()
        self.released = threading.Event()
        self.fault: Exception | None = None
        self.blocks = blocks
        self.aborted: list[str] = []
        self.requests: dict[str, tuple[Request, int]] = {}
        self._period = period
        self._steps = 0

    def submit(self, request: Request) -> None:
        self.requests[request.id] = (request, len(request.output))

    def abort(self, id: str) -> None:  # noqa: A002
        if self.requests.pop(id, None):
            self.aborted.append(id)

    def has_work(self) -> bool:
        return bool(self.requests)

    def step(self) -> StepOutput:
        time.sleep(self._period)
        if self.hold.is_set():
            self.released.wait()
        if self.fault:
            raise self.fault
        self._steps += 1
        chunks = [self._next(request, done) for request, done in list(self.requests.values())]
        event = StepEvent(self._steps, self._period, 0, len(chunks), 0)
        return StepOutput(event, chunks, [2**60 + self._steps] * self.blocks, [])

    def load(self) -> Load:
        return Load(running=len(self.requests))

    def reusable_blocks(self) -> tuple[int, ...]:
        return (7, 8, 9)

    def _next(self, request: Request, done: int) -> Chunk:
        self.requests[request.id] = (request, done + 1)
        last = done + 1 == request.sampling.max_tokens
        if last:
            del self.requests[request.id]
        token = request.prompt[-1] + done + 1
        return Chunk(request.id, done, (token,), finish=Finish("length") if last else None)
