"""A gateway for tests: listens, speaks the protocol, remembers everything it was told."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

from coxswain_protocol.framing import encode, from_replica
from coxswain_protocol.messages import (
    Abort,
    Beat,
    Blocks,
    Chunk,
    FromGateway,
    FromReplica,
    Hello,
    Leaving,
    Refused,
    Request,
    Sampling,
    Step,
    Submit,
    Tokenizer,
    Welcome,
)

TOKEN = "a-token-that-both-ends-know"

Message = TypeVar("Message", Hello, Tokenizer, Beat, Step, Blocks, Leaving)


class TestGateway:
    """`async with TestGateway() as gateway`, then dial `gateway.address`."""

    __test__ = False

    def __init__(self, name: str = "gateway-0", *, wants_tokenizer: bool = False, beats: bool = True) -> None:
        self.name = name
        self.address = ""
        self.hellos: list[Hello] = []
        self.connected = False
        self.connections = 0
        self.heard: list[tuple[float, FromReplica]] = []
        """Loop time and message, in order."""
        self._wants_tokenizer = wants_tokenizer
        self._beats = beats
        self._changed = asyncio.Condition()
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None
        self._reading = asyncio.Event()
        self._reading.set()

    async def __aenter__(self) -> TestGateway:
        await self.listen(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def listen(self, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=1024)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Close the connection and the port."""
        assert self._server is not None
        self._server.close()
        self.disconnect()
        self._reading.set()
        await self._server.wait_closed()

    def disconnect(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    def stop_reading(self) -> None:
        """Leave what the replica sends in the socket's buffers."""
        self._reading.clear()

    def send(self, message: FromGateway) -> None:
        assert self._writer is not None
        self._writer.write(encode(message))

    def submit(self, request: Request) -> None:
        self.send(Submit(request))

    def abort(self, request_id: str) -> None:
        self.send(Abort(request_id))

    def all(self, kind: type[Message]) -> list[Message]:
        return [message for _, message in self.heard if isinstance(message, kind)]

    def chunks(self, request_id: str) -> list[Chunk]:
        return [chunk for step in self.all(Step) for chunk in step.chunks if chunk.id == request_id]

    def tokens(self, request_id: str) -> tuple[int, ...]:
        return tuple(token for chunk in self.chunks(request_id) for token in chunk.tokens)

    def finished(self, request_id: str) -> bool:
        return any(chunk.finish for chunk in self.chunks(request_id))

    async def until(self, condition: Callable[[], object], what: str, *, seconds: float = 20.0) -> None:
        """Wait until `condition` holds, looking whenever something arrives. Fails saying what was waited for."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: bool(condition()))
        except TimeoutError:
            kinds: defaultdict[str, int] = defaultdict(int)
            for _, message in self.heard:
                kinds[type(message).__name__] += 1
            raise AssertionError(f"{self.name} waited {seconds} s in vain for {what}; heard {dict(kinds)}") from None

    async def joined(self, *, seconds: float = 20.0) -> Hello:
        """Wait until a replica has said hello and sent its blocks."""
        await self.until(lambda: self.connected and self.all(Blocks), "a replica", seconds=seconds)
        return self.hellos[-1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.connections += 1
        beating = asyncio.create_task(self._beat(writer))
        decoder = from_replica()
        try:
            while data := await reader.read(65536):
                await self._reading.wait()
                for message in decoder.feed(data):
                    await self._take(message)
        except ConnectionError:
            pass
        finally:
            beating.cancel()
            self.connected = False
            writer.transport.abort()
            await self._notify()

    async def _take(self, message: FromReplica) -> None:
        self.heard.append((asyncio.get_running_loop().time(), message))
        if isinstance(message, Hello):
            self._welcome(message)
        await self._notify()

    def _welcome(self, hello: Hello) -> None:
        self.hellos.append(hello)
        if hello.token != TOKEN:
            self.send(Refused("the token is not this service's"))
            return
        self.connected = True
        self.send(Welcome(self.name, wants_tokenizer=self._wants_tokenizer))

    async def _beat(self, writer: asyncio.StreamWriter) -> None:
        number = 0
        while self._beats:
            await asyncio.sleep(1.0)
            number += 1
            writer.write(encode(Beat(number)))

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def request(request_id: str, *, tokens: int = 8, prompt: tuple[int, ...] = tuple(range(10, 40))) -> Request:
    """A greedy request for exactly `tokens` tokens."""
    return Request(request_id, prompt, Sampling(seed=1, temperature=0.0, max_tokens=tokens, ignore_eos=True))
