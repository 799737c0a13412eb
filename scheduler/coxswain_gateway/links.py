"""The port on which replicas dial in: hello, token, tokenizer, then frames until the connection ends.

Reading is a protocol callback that handles whole messages and never waits for a client, so no slow reader of a stream
can hold up a step.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from typing import cast

from coxswain_gateway.fleet import Fleet
from coxswain_gateway.members import Member
from coxswain_gateway.settings import Settings
from coxswain_gateway.texts import Texts
from coxswain_gateway.tokenizer import TokenizerError
from coxswain_protocol.framing import FrameError, encode, from_replica
from coxswain_protocol.messages import (
    PROTOCOL_VERSION,
    Beat,
    Blocks,
    FromGateway,
    FromReplica,
    Hello,
    Leaving,
    Refused,
    Step,
    Tokenizer,
    Welcome,
)

log = logging.getLogger(__name__)

HELLO_SECONDS = 10.0
BEAT_SECONDS = 1.0


class ReplicaLink(asyncio.Protocol):
    """One replica's connection."""

    def __init__(self, listener: ReplicaListener) -> None:
        self._listener = listener
        self._decoder = from_replica()
        self._transport: asyncio.Transport | None = None
        self._hello: Hello | None = None
        self._member: Member | None = None
        self._loading: asyncio.Task[None] | None = None
        self._early: list[FromReplica] = []
        """What came while its tokenizer was still being read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._listener.links.add(self)
        self._deadline = asyncio.get_running_loop().call_later(HELLO_SECONDS, self._hello_missing)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio.Protocol."""
        self._transport = None
        self._deadline.cancel()
        self._listener.links.discard(self)
        if self._loading is not None:
            self._loading.cancel()
        if self._member is not None:
            self._listener.fleet.closed(self._member, self)

    def data_received(self, data: bytes) -> None:
        """Part of asyncio.Protocol."""
        try:
            for message in self._decoder.feed(data):
                self._receive(message)
        except FrameError as error:
            self._refuse(str(error))

    def send(self, message: FromGateway) -> None:
        """Queue one message."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(message))

    def close(self) -> None:
        """Close after what is queued."""
        if self._transport is not None:
            self._transport.close()

    def _receive(self, message: FromReplica) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._hello is None:
            self._greet(message)
        elif isinstance(message, Tokenizer):
            self._load(message)
        elif self._member is None:
            self._early.append(message)
        else:
            self._dispatch(self._member, message)

    def _dispatch(self, member: Member, message: FromReplica) -> None:
        fleet = self._listener.fleet
        match message:
            case Step():
                fleet.step(member, message)
            case Beat():
                fleet.beat(member, message)
            case Blocks():
                fleet.blocks(member, message)
            case Leaving():
                fleet.leaving(member, message)
            case Hello():
                self._refuse("hello came twice")

    def _greet(self, message: FromReplica) -> None:
        if not isinstance(message, Hello):
            self._refuse("the first message must be hello")
            return
        reason = self._listener.objection(message)
        if reason:
            self._refuse(reason)
            return
        self._deadline.cancel()
        self._hello = message
        known = self._listener.texts.knows(message.info.tokenizer_digest)
        self.send(Welcome(self._listener.settings.gateway, wants_tokenizer=not known))
        if known:
            self._join()

    def _load(self, message: Tokenizer) -> None:
        if self._member is None and self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._learn(message))

    async def _learn(self, message: Tokenizer) -> None:
        try:
            await self._listener.texts.learn(message)
        except TokenizerError as error:
            self._refuse(f"its tokenizer is unusable: {error}")
            return
        self._join()

    def _join(self) -> None:
        hello = cast(Hello, self._hello)
        if not self._listener.texts.knows(hello.info.tokenizer_digest):
            self._refuse(f"it sent another tokenizer than the announced {hello.info.tokenizer_digest}")
            return
        self._member = self._listener.fleet.joined(hello, self)
        early, self._early = self._early, []
        for message in early:
            self._dispatch(self._member, message)

    def _refuse(self, reason: str) -> None:
        name = self._hello.replica if self._hello else "unknown"
        log.warning("replica refused: %s", reason, extra={"replica": name})
        self.send(Refused(reason))
        self.close()

    def _hello_missing(self) -> None:
        self._refuse(f"no hello within {HELLO_SECONDS:g} s")


class ReplicaListener:
    """Listens for replicas, checks who they are, and sends them this gateway's heartbeat."""

    def __init__(self, *, settings: Settings, fleet: Fleet, texts: Texts) -> None:
        self.settings = settings
        self.fleet = fleet
        self.texts = texts
        self.links: set[ReplicaLink] = set()
        self._server: asyncio.Server | None = None
        self._beats = 0

    async def start(self) -> int:
        """Listen; returns the port."""
        loop = asyncio.get_running_loop()
        host, port = self.settings.host, self.settings.replica_port
        self._server = await loop.create_server(lambda: ReplicaLink(self), host, port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
        for link in list(self.links):
            link.close()

    def objection(self, hello: Hello) -> str:
        """Why this replica is not accepted; empty if it is."""
        if hello.protocol != PROTOCOL_VERSION:
            return f"protocol version {hello.protocol} is not {PROTOCOL_VERSION}"
        if not hmac.compare_digest(hello.token.encode(), self.settings.token.encode()):
            return "the token is not this service's"
        if self.fleet.members.is_superseded(hello):
            return "a newer incarnation of this replica has taken over"
        return ""

    def beat(self) -> None:
        """Send a heartbeat on every connection; to be called every BEAT_SECONDS."""
        self._beats += 1
        for link in list(self.links):
            link.send(Beat(self._beats))
