"""An engine on the wire: gateways dialled, requests run, every step told, until drained.

Two threads: `StepLoop`'s runs the engine; everything here runs in the network thread's event loop, which also beats, so
a gateway hears from a replica every 100 ms however long a step takes. When the engine stands still with work in hand,
or fails, the replica says so through `failed`, and its process ends: a fresh one is better than a doubtful one.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from coxswain_protocol.framing import encode
from coxswain_protocol.messages import (
    PROTOCOL_VERSION,
    Beat,
    Blocks,
    Chunk,
    Finish,
    Hello,
    Leaving,
    Load,
    Request,
    Step,
    StepEvent,
    Tokenizer,
)
from coxswain_workers.addresses import Addresses, Resolve, resolve
from coxswain_workers.engine.interface import Engine, StepOutput
from coxswain_workers.replica.dialer import Dialer
from coxswain_workers.replica.link import GatewayLink
from coxswain_workers.replica.metrics import EngineMetrics
from coxswain_workers.replica.settings import Settings
from coxswain_workers.replica.step_loop import StepLoop

log = logging.getLogger(__name__)

GOODBYE_SECONDS = 1.0


class EngineFailedError(Exception):
    """The engine raised in a step, or finished none for too long. The process should end."""


class RefusedError(Exception):
    """Every gateway refuses this replica; the message is theirs."""


@dataclass(slots=True)
class Running:
    """A request in the engine."""

    link: GatewayLink
    prompt_tokens: int
    submitted_at: float
    token_at: float | None = None
    tokens: int = 0


class Replica:
    """Serves one engine to the gateways of its service. `run` in an event loop of its own thread."""

    def __init__(
        self, engine: Engine, *, settings: Settings, tokenizer: Mapping[str, bytes], resolve_name: Resolve = resolve
    ) -> None:
        self.info = msgspec.structs.replace(engine.info, accelerator=settings.accelerator)
        self.incarnation = secrets.token_hex(8)
        self.metrics = EngineMetrics(model=self.info.model)
        self._settings = settings
        self._tokenizer = tokenizer
        self._dialer = Dialer(Addresses(settings.gateways, resolve=resolve_name), new_link=self._new_link)
        self._steps = StepLoop(engine, on_step=self._from_steps, on_failure=self._engine_failed)
        self._links: set[GatewayLink] = set()
        self._running: dict[str, Running] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._draining = False
        self._refused_since: float | None = None
        self._refusal = ""
        self._welcomed = False

    async def run(self) -> None:
        """Serve until drained or stopped. Raises EngineFailedError, RefusedError."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._steps.start()
        helpers = [asyncio.create_task(self._dialer.run()), asyncio.create_task(self._beat())]
        try:
            done, _ = await asyncio.wait([self._ended, *helpers], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await self._say_goodbye()
        finally:
            self._steps.stop(timeout=0)
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def drain(self, seconds: float) -> None:
        """Ask the gateways to take their streams, end `run` when they have or when `seconds` are over."""
        assert self._loop is not None
        self._draining = True
        log.info("draining, %d requests to go", len(self._running))
        self._broadcast(encode(Leaving(seconds, finish=self._settings.on_drain == "Finish")))
        deadline = self._loop.time() + seconds
        while self._loop.time() < deadline and not await self._stays_idle():
            pass
        if self._running:
            log.warning("drained for %.1f s, %d requests left behind", seconds, len(self._running))
        self.stop()

    def stop(self) -> None:
        """End `run`."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    # ── what links ask for ──

    def hello(self) -> Hello:
        """This replica, as it introduces itself."""
        settings = self._settings
        return Hello(
            PROTOCOL_VERSION, settings.token, settings.replica, self.incarnation, self.info, draining=self._draining
        )

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return Tokenizer(self.info.tokenizer_digest, dict(self._tokenizer))

    def welcomed(self, link: GatewayLink) -> None:
        """Beat from now on; tell of steps once the blocks of this moment are sent."""
        log.info("connected", extra={"gateway": link.gateway})
        self._welcomed = True
        self._links.add(link)
        self.metrics.gateways.set(len(self._links))
        link.write(self._beat_frame(0))
        self._steps.post(lambda engine: self._call(self._introduce, link, engine.reusable_blocks()))

    def submitted(self, link: GatewayLink, request: Request) -> None:
        """Run a request for the gateway at the end of `link`."""
        if request.id in self._running:
            link.send(_error(request, "this request id is already running on the replica"))
            return
        log.debug("accepted", extra={"request_id": request.id, "gateway": link.gateway})
        self._running[request.id] = Running(link, len(request.prompt) + len(request.output), self._now())
        link.requests.add(request.id)
        self._steps.submit(request)

    def aborted(self, link: GatewayLink, request_id: str) -> None:
        """Stop a request of the gateway at the end of `link`."""
        if request_id in link.requests:
            log.debug("aborted", extra={"request_id": request_id, "gateway": link.gateway})
            self._forget(request_id, "abort")
            self._steps.abort(request_id)

    def closed(self, link: GatewayLink) -> None:
        """Abort what the gateway had running: it has moved it, or is gone."""
        if link.refused:
            log.error("refused by a gateway: %s", link.refused)
            self._refusal, self._refused_since = link.refused, self._refused_since or self._now()
        if link.dropped:
            log.warning("dropped a gateway: %s", link.dropped, extra={"gateway": link.gateway})
            self.metrics.dropped.inc()
        elif link in self._links:
            log.info("disconnected, %d requests aborted", len(link.requests), extra={"gateway": link.gateway})
        self._links.discard(link)
        self.metrics.gateways.set(len(self._links))
        for request_id in list(link.requests):
            self.aborted(link, request_id)

    # ── from the engine's thread ──

    def _from_steps(self, output: StepOutput, load: Load) -> None:
        self._call(self._publish, output, load)

    def _engine_failed(self, error: BaseException) -> None:
        self._call(self._fail, EngineFailedError(f"the engine failed: {error}"))

    # ── in the network thread ──

    def _publish(self, output: StepOutput, load: Load) -> None:
        """Tell every gateway of a step: each its own chunks, all the rest."""
        now = self._now()
        self.metrics.stepped(output.event, load)
        self.metrics.generated(sum(len(chunk.tokens) for chunk in output.chunks))
        chunks: defaultdict[GatewayLink, list[Chunk]] = defaultdict(list)
        for chunk in output.chunks:
            if (running := self._running.get(chunk.id)) is not None:
                chunks[running.link].append(chunk)
                self._account(running, chunk, now)
        stored, removed = tuple(output.stored), tuple(output.removed)
        bystanders = encode(Step(output.event, (), stored, removed, load))
        for link in [link for link in self._links if link.live]:
            mine = chunks.get(link)
            link.write(encode(Step(output.event, tuple(mine), stored, removed, load)) if mine else bystanders)

    def _account(self, running: Running, chunk: Chunk, now: float) -> None:
        if chunk.tokens:
            if running.token_at is None:
                waited = now - running.submitted_at
                self.metrics.first_token(waited, prompt_tokens=running.prompt_tokens, cached=chunk.cached)
            else:
                self.metrics.next_token(now - running.token_at)
            running.token_at = now
            running.tokens += len(chunk.tokens)
        if chunk.finish is not None:
            self._forget(chunk.id, chunk.finish.reason)

    def _forget(self, request_id: str, reason: str) -> None:
        running = self._running.pop(request_id)
        running.link.requests.discard(request_id)
        self.metrics.finished(reason, self._now() - running.submitted_at)
        log.debug("finished: %s", reason, extra={"request_id": request_id, "tokens": running.tokens})

    def _introduce(self, link: GatewayLink, blocks: tuple[int, ...]) -> None:
        link.send(Blocks(blocks))
        link.live = link in self._links

    async def _beat(self) -> None:
        """Sign of life, and a look at who else still gives one."""
        number, due = 0, self._now()
        while True:
            number += 1
            self._broadcast(self._beat_frame(number))
            self._check_gateways()
            self._check_engine()
            due = max(due + self._settings.beat_seconds, self._now())
            await asyncio.sleep(due - self._now())

    def _check_gateways(self) -> None:
        for link in list(self._links):
            if self._now() - link.heard_at > self._settings.silence_seconds:
                link.drop("it is silent")
        refused = 0.0 if self._refused_since is None else self._now() - self._refused_since
        if not self._welcomed and refused > self._settings.refusal_seconds:
            self._fail(RefusedError(f"the gateways refuse this replica: {self._refusal}"))

    def _check_engine(self) -> None:
        stalled = self._steps.stalled_for()
        if stalled > self._settings.stall_seconds:
            self._fail(EngineFailedError(f"step {self._steps.steps + 1} has been running for {stalled:.1f} s"))

    def _beat_frame(self, number: int) -> bytes:
        return encode(Beat(number, self._steps.steps, self._steps.load))

    def _broadcast(self, frame: bytes) -> None:
        for link in list(self._links):
            link.write(frame)

    async def _stays_idle(self) -> bool:
        """Nothing runs, and nothing that was on its way has arrived two beats later."""
        idle = not self._running
        await asyncio.sleep(2 * self._settings.beat_seconds)
        return idle and not self._running

    async def _say_goodbye(self) -> None:
        """Let what is queued be sent, for a second at most, and the step that runs end."""
        closed = [asyncio.create_task(link.done.wait()) for link in self._links]
        for link in list(self._links):
            link.close()
        if closed:
            await asyncio.wait(closed, timeout=GOODBYE_SECONDS)
        await asyncio.to_thread(self._steps.stop, timeout=GOODBYE_SECONDS)

    def _new_link(self) -> GatewayLink:
        return GatewayLink(self, max_backlog=self._settings.max_backlog, clock=self._now)

    def _fail(self, error: Exception) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """Call in the network thread; without effect once its loop is closed."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            log.debug("the network thread has ended")

    def _now(self) -> float:
        assert self._loop is not None
        return self._loop.time()


def _error(request: Request, message: str) -> Step:
    """A step in which nothing was computed, to end one request."""
    chunk = Chunk(request.id, len(request.output), (), finish=Finish("error", message))
    return Step(StepEvent(0, 0.0, 0, 0, 0), (chunk,))
