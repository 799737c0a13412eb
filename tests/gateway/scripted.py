"""A replica that speaks the real protocol over a real socket, with arithmetic in place of a model, and faults on call.

Its next token is a hash of everything before it (prompt, output so far, seed), so a resumed stream goes on with the
same tokens only if it was resumed with exactly the right log.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

from coxswain_protocol.framing import encode, from_gateway
from coxswain_protocol.messages import (
    PROTOCOL_VERSION,
    Abort,
    Beat,
    Blocks,
    Chunk,
    EngineInfo,
    Finish,
    FromGateway,
    FromReplica,
    Hello,
    Leaving,
    Load,
    Refused,
    Request,
    Sampling,
    Step,
    StepEvent,
    Submit,
    Tokenizer,
    TokenLogprob,
    Welcome,
)

EOS = 0
FIRST_TEXT_TOKEN = 3


class Dice:
    """The next token after everything so far, chained so that each costs the same."""

    def __init__(self, request: Request, vocab_size: int) -> None:
        sampling = request.sampling
        self._choices = vocab_size - FIRST_TEXT_TOKEN
        self._state = blake2b(repr((request.prompt, sampling.seed if sampling.temperature else 0)).encode()).digest()
        for token in request.output:
            self.put(token)

    def put(self, token: int) -> None:
        self._state = blake2b(self._state + token.to_bytes(4, "little")).digest()

    def next(self) -> int:
        """Never a special token."""
        return FIRST_TEXT_TOKEN + int.from_bytes(self._state[:8], "little") % self._choices


def expected(prompt: tuple[int, ...], *, seed: int, tokens: int, vocab_size: int) -> list[int]:
    """What an undisturbed sampled stream of so many tokens consists of."""
    dice = Dice(Request("", prompt, Sampling(seed=seed)), vocab_size)
    output: list[int] = []
    for _ in range(tokens):
        output.append(dice.next())
        dice.put(output[-1])
    return output


@dataclass
class Running:
    """One attempt on a scripted replica."""

    request: Request
    output: list[int]
    dice: Dice
    first: bool = True


@dataclass
class ScriptedReplica:
    """Dial with `connect`; every knob may be turned while it runs."""

    name: str
    info: EngineInfo
    files: dict[str, bytes]
    token: str = "secret"
    incarnation: str = "1"
    step_seconds: float = 0.002
    protocol: int = PROTOCOL_VERSION
    script: Callable[[Request, list[int]], int] | None = None
    """Chooses the tokens instead of the hash."""
    tamper: Callable[[Chunk], list[Chunk]] = field(default=lambda chunk: [chunk])
    """Replaces each chunk: duplicates, gaps, wrong tokens."""
    stuck: bool = False
    """Accepts requests and produces nothing."""
    silent: bool = False
    """Works on, but nothing gets out or in, as in a network partition; what was to go out comes when it ends."""
    running: dict[str, Running] = field(default_factory=dict)
    seen: list[FromGateway] = field(default_factory=list)
    load: Load = field(default_factory=Load)

    def __post_init__(self) -> None:
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._backlog: list[bytes] = []
        self.changed = asyncio.Event()
        self.closed = asyncio.Event()
        self.steps = 0

    async def connect(self, port: int) -> None:
        """Dial a gateway; return once it has answered."""
        reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        self.closed.clear()
        self._send(Hello(self.protocol, self.token, self.name, self.incarnation, self.info))
        self._tasks = [asyncio.create_task(self._read(reader))]
        await self.until(lambda: bool(self.messages(Welcome) or self.messages(Refused)), what="a welcome")

    def messages(self, kind: type[FromGateway]) -> list[FromGateway]:
        """Everything of one kind that the gateway has said."""
        return [message for message in self.seen if isinstance(message, kind)]

    @property
    def submitted(self) -> list[Request]:
        """Every request so far, canaries left out."""
        return [m.request for m in self.seen if isinstance(m, Submit) and not m.request.id.startswith("canary")]

    @property
    def aborted(self) -> list[str]:
        """Ids of every abort so far."""
        return [m.id for m in self.seen if isinstance(m, Abort)]

    async def until(self, condition: Callable[[], bool], *, what: str, timeout: float = 10) -> None:
        """Wait for something to be true of this replica."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name}: waited {timeout:g} s for {what}") from None

    def leave(self, seconds: float, *, finish: bool = False) -> None:
        """Say that it drains."""
        self._send(Leaving(seconds, finish))

    def heal(self) -> None:
        """End a silence: everything that was held up arrives."""
        self.silent = False
        assert self._writer is not None
        self._writer.write(b"".join(self._backlog))
        self._backlog.clear()

    async def kill(self) -> None:
        """Die: the connection breaks, and all that ran is gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
        self.running.clear()
        self.closed.set()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        decoder = from_gateway()
        held: list[FromGateway] = []
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                held += decoder.feed(data)
                if not self.silent:
                    for message in held:
                        self._take(message)
                    held.clear()
                    self.changed.set()
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
        self.closed.set()
        self.changed.set()

    def _take(self, message: FromGateway) -> None:
        self.seen.append(message)
        match message:
            case Welcome():
                if message.wants_tokenizer:
                    self._send(Tokenizer(self.info.tokenizer_digest, self.files))
                self._send(Blocks(()))
                self._tasks += [asyncio.create_task(self._beat()), asyncio.create_task(self._work())]
            case Submit(request):
                self.running[request.id] = Running(request, list(request.output), Dice(request, self.info.vocab_size))
            case Abort(name):
                self.running.pop(name, None)

    async def _beat(self) -> None:
        number = 0
        while True:
            number += 1
            self._send(Beat(number, self.steps, self.load))
            await asyncio.sleep(0.05)

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(self.step_seconds)
            if self.running and self._writer is not None and not self.stuck:
                self._step()

    def _step(self) -> None:
        self.steps += 1
        event = StepEvent(self.steps, self.step_seconds, 0, len(self.running), 0)
        chunks = [piece for attempt in list(self.running.values()) for piece in self.tamper(self._advance(attempt))]
        self._send(Step(event, tuple(chunks), load=self.load))
        self.changed.set()

    def _advance(self, attempt: Running) -> Chunk:
        request, output, start = attempt.request, attempt.output, len(attempt.output)
        token = self.script(request, output) if self.script else attempt.dice.next()
        output.append(token)
        attempt.dice.put(token)
        finish = self._finish(request, output, token)
        if finish:
            self.running.pop(request.id, None)
        logprobs: tuple[TokenLogprob, ...] = ()
        if (count := request.sampling.logprobs) is not None:
            logprobs = (TokenLogprob(-0.5, tuple((token + i, -0.5 - i) for i in range(count))),)
        cached = len(request.prompt) // 2 if attempt.first else 0
        attempt.first = False
        return Chunk(request.id, start, (token,), logprobs, finish, cached)

    def _finish(self, request: Request, output: list[int], token: int) -> Finish | None:
        sampling = request.sampling
        if len(output) > sampling.min_tokens and (
            (token == EOS and not sampling.ignore_eos) or token in sampling.stop_ids
        ):
            return Finish("stop", stop_id=token)
        return Finish("length") if len(output) >= sampling.max_tokens else None

    def _send(self, message: FromReplica) -> None:
        frame = encode(message)
        if self.silent:
            self._backlog.append(frame)
        elif self._writer is not None:
            self._writer.write(frame)
