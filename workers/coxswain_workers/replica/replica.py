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
from coxswain_workers.replica.gateways import Gateways
from coxswain_workers.replica.link import GatewayLink
from coxswain_workers.replica.metrics import EngineMetrics
from coxswain_workers.replica.requests import Requests
from coxswain_workers.replica.settings import Settings
from coxswain_workers.replica.step_loop import StepLoop

log = logging.getLogger(__name__)

GOODBYE_SECONDS = 1.0


class EngineFailedError(Exception):
    """The engine raised in a step, or finished none for too long. The process should end."""


class RefusedError(Exception):
    """Every gateway refuses this replica; the message is theirs."""


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
        self._gateways = Gateways(metrics=self.metrics, clock=self._now)
        self._requests = Requests(metrics=self.metrics)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._draining = False

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
        log.info("draining, %d requests to go", len(self._requests))
        self._gateways.broadcast(encode(Leaving(seconds, finish=self._settings.on_drain == "Finish")))
        deadline = self._loop.time() + seconds
        while self._loop.time() < deadline and not await self._stays_idle():
            pass
        if self._requests:
            log.warning("drained for %.1f s, %d requests left behind", seconds, len(self._requests))
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
        self._gateways.joined(link)
        link.write(self._beat_frame(0))
        self._steps.post(lambda engine: self._call(self._introduce, link, engine.reusable_blocks()))

    def submitted(self, link: GatewayLink, request: Request) -> None:
        """Run a request for the gateway at the end of `link`."""
        if request.id in self._requests:
            link.send(_error(request, "this request id is already running on the replica"))
            return
        log.debug("accepted", extra={"request_id": request.id, "gateway": link.gateway})
        self._requests.add(request, link, self._now())
        self._steps.submit(request)

    def aborted(self, link: GatewayLink, request_id: str) -> None:
        """Stop a request of the gateway at the end of `link`."""
        if request_id in link.requests:
            log.debug("aborted", extra={"request_id": request_id, "gateway": link.gateway})
            self._requests.remove(request_id, "abort", self._now())
            self._steps.abort(request_id)

    def closed(self, link: GatewayLink) -> None:
        """Abort what the gateway had running: it has moved it, or is gone."""
        self._gateways.left(link)
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
            if (link := self._requests.progressed(chunk, now)) is not None:
                chunks[link].append(chunk)
        stored, removed = tuple(output.stored), tuple(output.removed)
        bystanders = encode(Step(output.event, (), stored, removed, load))
        for link in self._gateways.live():
            mine = chunks.get(link)
            link.write(encode(Step(output.event, tuple(mine), stored, removed, load)) if mine else bystanders)

    def _introduce(self, link: GatewayLink, blocks: tuple[int, ...]) -> None:
        link.send(Blocks(blocks))
        link.live = link in self._gateways

    async def _beat(self) -> None:
        """Sign of life, and a look at who else still gives one."""
        number, due = 0, self._now()
        while True:
            number += 1
            self._gateways.broadcast(self._beat_frame(number))
            self._check_gateways()
            self._check_engine()
            due = max(due + self._settings.beat_seconds, self._now())
            await asyncio.sleep(due - self._now())

    def _check_gateways(self) -> None:
        self._gateways.drop_silent(self._settings.silence_seconds)
        if reason := self._gateways.refusal(self._settings.refusal_seconds):
            self._fail(RefusedError(f"the gateways refuse this replica: {reason}"))

    def _check_engine(self) -> None:
        stalled = self._steps.stalled_for()
        if stalled > self._settings.stall_seconds:
            self._fail(EngineFailedError(f"step {self._steps.steps + 1} has been running for {stalled:.1f} s"))

    def _beat_frame(self, number: int) -> bytes:
        return encode(Beat(number, self._steps.steps, self._steps.load))

    async def _stays_idle(self) -> bool:
        """Nothing runs, and nothing that was on its way has arrived two beats later."""
        idle = not self._requests
        await asyncio.sleep(2 * self._settings.beat_seconds)
        return idle and not self._requests

    async def _say_goodbye(self) -> None:
        """Let what is queued be sent, for a second at most, and the step that runs end."""
        await self._gateways.close(timeout=GOODBYE_SECONDS)
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
