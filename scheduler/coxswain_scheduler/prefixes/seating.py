"""Which engine sits where, of those that can be sent work."""

from __future__ import annotations

from librt.vecs import append, vec
from mypy_extensions import i64


class Seating:
    """Engines and seats by each other: small integers, of which engines are never given out twice and seats are."""

    def __init__(self) -> None:
        self._seats: vec[i64] = vec[i64]()
        """By engine, -1 without."""
        self._engines: vec[i64] = vec[i64]()
        """By seat, likewise."""

    def add(self, engine: int, seat: int) -> None:
        """An engine sits down."""
        while len(self._seats) <= engine:
            self._seats = append(self._seats, -1)
        while len(self._engines) <= seat:
            self._engines = append(self._engines, -1)
        self._seats[engine], self._engines[seat] = seat, engine

    def remove(self, engine: int) -> None:
        """It stands up."""
        self._engines[self._seats[engine]] = -1
        self._seats[engine] = -1

    def seat(self, engine: i64) -> i64:
        """Of an engine; -1 where it has none."""
        return self._seats[engine] if 0 <= engine < len(self._seats) else -1

    def engine(self, seat: i64) -> i64:
        """In a seat; -1 where there is none."""
        return self._engines[seat] if seat < len(self._engines) else -1
