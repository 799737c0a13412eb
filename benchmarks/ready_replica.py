"""A replica without a model, which has every token ready: all that is measured behind it is the gateway."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from coxswain_protocol.framing import encode, from_gateway
from coxswain_protocol.messages import (
    PROTOCOL_VERSION,
    Abort,
    Beat,
    Chunk,
    EngineInfo,
    Finish,
    Hello,
    Load,
    Request,
    Step,
    StepEvent,
    Submit,
    Welcome,
)
from coxswain_protocol.messages import (
    Tokenizer as TokenizerFiles,
)

TOKEN = "benchmark"
"""Of the service: gateways are to be started with it."""


@dataclass
class Attempt:
    """A request in progress on a ready replica."""

    request: Request
    sent: int = 0


class Replica(Protocol):
    """What measurements need of a replica, whatever it stands behind."""

    running: dict[str, Attempt]
    eager: bool
    """Answer each request with its one token at once, without waiting for a step."""

    def step(self) -> None:
        """Send one token to every request that runs."""


class ReadyReplica(asyncio.Protocol):
    """Speaks the replica's side of the protocol. Each `step` sends one token to every request, in one frame."""

    def __init__(self) -> None:
        tokenizer = _tokenizer()
        self._files = {"tokenizer.json": tokenizer.to_str().encode()}
        self._vocab_size: int = tokenizer.get_vocab_size()
        self._decoder = from_gateway()
        self._number = 0
        self._beats = 0
        self.running: dict[str, Attempt] = {}
        self.eager = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        transport = cast(asyncio.Transport, transport)
        self._transport = transport
        info = EngineInfo(
            engine="ready", model="ready", weights_digest="w", tokenizer_digest="t", vocab_size=self._vocab_size,
            max_model_len=1 << 20, block_size=16, num_blocks=1 << 16, max_num_seqs=1 << 12, eos_ids=(),
        )  # fmt: skip
        transport.write(encode(Hello(PROTOCOL_VERSION, TOKEN, "ready-0", "1", info)))

    def data_received(self, data: bytes) -> None:
        """Take up requests."""
        for message in self._decoder.feed(data):
            match message:
                case Welcome():
                    self._transport.write(encode(TokenizerFiles("t", self._files)))
                case Submit(request):
                    self.running[request.id] = Attempt(request)
                    if self.eager or request.id.startswith("canary"):
                        self.step(only=request.id)
                    else:
                        self._prefill(len(request.prompt))
                case Abort(name):
                    self.running.pop(name, None)

    async def beat(self) -> None:
        """Give signs of life until cancelled."""
        while True:
            self._beats += 1
            self._transport.write(encode(Beat(self._beats)))
            await asyncio.sleep(0.1)

    def step(self, *, only: str | None = None) -> None:
        """One engine step."""
        self._number += 1
        names = [only] if only else list(self.running)
        chunks = tuple(self._chunk(name) for name in names)
        self._transport.write(encode(Step(StepEvent(self._number, 0.01, 0, len(chunks), 0), chunks, load=Load())))

    def _prefill(self, tokens: int) -> None:
        """The step under way when a prompt comes, and the one that computes it; its first token comes with `step`."""
        self._number += 2
        load = Load(running=len(self.running), total_blocks=1 << 16, free_blocks=1 << 15, decoding=len(self.running))
        self._transport.write(encode(Step(StepEvent(self._number, 0.001, tokens, 0, 0), load=load)))

    def _chunk(self, name: str) -> Chunk:
        attempt = self.running[name]
        start, attempt.sent = attempt.sent, attempt.sent + 1
        done = attempt.sent >= attempt.request.sampling.max_tokens
        if done:
            del self.running[name]
        return Chunk(name, start, (300 + start % 200,), finish=Finish("length") if done else None)


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([Path(__file__).read_text()], trainer)
    return tokenizer
