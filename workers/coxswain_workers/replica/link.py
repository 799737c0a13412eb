"""The connection to one gateway, from hello to the last frame.

Writing never waits: what a gateway does not read piles up to a limit, then the gateway is dropped, because neither a
step nor this process's memory may depend on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from coxswain_protocol.framing import FrameError, encode, from_gateway
from coxswain_protocol.messages import Abort, FromGateway, FromReplica, Refused, Request, Submit, Welcome


class Host(Protocol):
    """What a link needs of the replica it belongs to. All calls come from the network thread."""

    def hello(self) -> FromReplica:
        """The first frame."""

    def tokenizer(self) -> FromReplica:
        """The tokenizer's files, for a gateway that lacks them."""

    def welcomed(self, link: GatewayLink) -> None:
        """The gateway has accepted this replica."""

    def submitted(self, link: GatewayLink, request: Request) -> None:
        """The gateway wants this run."""

    def aborted(self, link: GatewayLink, request_id: str) -> None:
        """The gateway wants this stopped."""

    def closed(self, link: GatewayLink) -> None:
        """The connection is gone."""


class GatewayLink(asyncio.Protocol):
    """One connection. `live` once the snapshot of blocks is sent: from then on it is told of every step."""

    def __init__(self, host: Host, *, max_backlog: int, clock: Callable[[], float]) -> None:
        self._host = host
        self._max_backlog = max_backlog
        self._clock = clock
        self._decoder = from_gateway()
        self._transport: asyncio.Transport | None = None
        self.gateway = ""
        """Its name, once it has said welcome."""
        self.refused = ""
        """Why it will not have this replica, when it will not."""
        self.dropped = ""
        """Why this end closed the connection, when it did."""
        self.live = False
        self.heard_at = clock()
        self.requests: set[str] = set()
        """Ids that this gateway submitted and that are not finished."""
        self.done = asyncio.Event()
        """Set when the connection is closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it
        self.heard_at = self._clock()
        self.send(self._host.hello())

    def data_received(self, data: bytes) -> None:
        """Act on every message that is complete."""
        self.heard_at = self._clock()
        try:
            for message in self._decoder.feed(data):
                if self._transport is not None:
                    self._handle(message)
        except FrameError as error:
            self.drop(f"it spoke nonsense: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the replica, which aborts this gateway's requests."""
        self._transport = None
        self.live = False
        self._host.closed(self)
        self.done.set()

    def send(self, message: FromReplica) -> None:
        """Encode and queue one message."""
        self.write(encode(message))

    def write(self, frame: bytes) -> None:
        """Queue one frame, or drop a gateway that has stopped reading."""
        if self._transport is None:
            return
        backlog = self._transport.get_write_buffer_size()
        if backlog > self._max_backlog:
            self.drop(f"it does not read, {backlog} bytes wait for it")
        else:
            self._transport.write(frame)

    def drop(self, reason: str) -> None:
        """Close at once; what is queued is lost."""
        transport, self._transport = self._transport, None
        self.live = False
        if transport is not None:
            self.dropped = reason
            transport.abort()

    def close(self) -> None:
        """Close after what is queued."""
        if self._transport is not None:
            self._transport.close()

    def _handle(self, message: FromGateway) -> None:
        match message:
            case Submit(request=request):
                self._host.submitted(self, request)
            case Abort(id=request_id):
                self._host.aborted(self, request_id)
            case Welcome(gateway=gateway, wants_tokenizer=wanted):
                self._welcome(gateway, wants_tokenizer=wanted)
            case Refused(reason=reason):
                self.refused = reason
                self.close()

    def _welcome(self, gateway: str, *, wants_tokenizer: bool) -> None:
        self.gateway = gateway
        if wants_tokenizer:
            tokenizer = encode(self._host.tokenizer())
            self._max_backlog += len(tokenizer)  # it may take a while, and is not the gateway's fault
            self.write(tokenizer)
        self._host.welcomed(self)
