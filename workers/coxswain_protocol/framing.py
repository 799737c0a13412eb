"""Length-prefixed msgpack frames: four bytes, big-endian, then the message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from coxswain_protocol.messages import FromGateway, FromReplica

MAX_FRAME = 64 * 1024 * 1024
HEADER = 4

Message = TypeVar("Message")

_encoder = msgspec.msgpack.Encoder()


class FrameError(ValueError):
    """The bytes are not a frame of this protocol: too long, truncated, or not the expected message."""


def encode(message: FromReplica | FromGateway) -> bytes:
    """One frame, header included."""
    buffer = bytearray(HEADER)
    _encoder.encode_into(message, buffer, HEADER)
    size = len(buffer) - HEADER
    if size > MAX_FRAME:
        raise FrameError(f"a frame of {size} bytes is over the limit of {MAX_FRAME}")
    buffer[:HEADER] = size.to_bytes(HEADER, "big")
    return bytes(buffer)


class Decoder(Generic[Message]):
    """Bytes in as they arrive, whole messages out. One per connection; not safe to share."""

    def __init__(self, codec: msgspec.msgpack.Decoder[Message]) -> None:
        self._codec = codec
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield every message that is complete with `data`. Raises FrameError; the connection is then unusable."""
        self._buffer += data
        offset = 0
        try:
            while (end := self._frame_end(offset)) is not None:
                yield self._decode(memoryview(self._buffer)[offset + HEADER : end])
                offset = end
        finally:
            del self._buffer[:offset]

    def _frame_end(self, offset: int) -> int | None:
        if len(self._buffer) - offset < HEADER:
            return None
        size = int.from_bytes(self._buffer[offset : offset + HEADER], "big")
        if size > MAX_FRAME:
            raise FrameError(f"a frame of {size} bytes is over the limit of {MAX_FRAME}")
        end = offset + HEADER + size
        return end if len(self._buffer) >= end else None

    def _decode(self, body: memoryview) -> Message:
        with body:
            try:
                return self._codec.decode(body)
            except msgspec.MsgspecError as error:
                raise FrameError(f"not a message of this protocol: {error}") from None


def from_replica() -> Decoder[FromReplica]:
    """A decoder for what a gateway reads."""
    return Decoder(msgspec.msgpack.Decoder(FromReplica))


def from_gateway() -> Decoder[FromGateway]:
    """A decoder for what a replica reads."""
    return Decoder(msgspec.msgpack.Decoder(FromGateway))
