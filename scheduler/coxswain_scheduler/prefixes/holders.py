"""Who holds how much of one prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar, overload

from mypy_extensions import i64, mypyc_attr

from coxswain_scheduler.prefixes.seating import Seating
from coxswain_scheduler.prefixes.seats import WORD, SeatSet, lowest

_Default = TypeVar("_Default")


@mypyc_attr(acyclic=True)
class Level:
    """Those that hold equally much of a prompt."""

    __slots__ = ("seats", "tokens")

    def __init__(self, tokens: i64, seats: SeatSet) -> None:
        self.tokens = tokens
        self.seats = seats


class Holders(Mapping[int, int]):
    """Tokens of one prompt that each engine holds, those that hold most first, as it was when asked for.

    Who is asked about is looked for in the sets: of a thousand engines that share a system prompt a policy asks about
    a few.
    """

    __slots__ = ("_levels", "_seating")

    def __init__(self, levels: list[Level], seating: Seating | None = None) -> None:
        """`levels`: with falling tokens; no seat is in two. `seating`: of all that count; None where engines are named
        by their seats."""
        self._levels = levels
        self._seating = seating

    def held(self, engine: int) -> int:
        """Tokens that it holds, none included."""
        seat: i64 = engine if self._seating is None else self._seating.seat(engine)
        if seat >= 0:
            for level in self._levels:
                if level.seats.has(seat):
                    return level.tokens
        return 0

    @overload
    def get(self, engine: int, /) -> int | None: ...
    @overload
    def get(self, engine: int, /, default: int) -> int: ...
    @overload
    def get(self, engine: int, /, default: _Default) -> int | _Default: ...
    def get(self, engine: int, /, default: object = None) -> object:
        """Tokens that it holds."""
        return self.held(engine) or default

    def __getitem__(self, engine: int) -> int:
        tokens = self.held(engine)
        if not tokens:
            raise KeyError(engine)
        return tokens

    def __contains__(self, engine: object) -> bool:
        return isinstance(engine, int) and self.held(engine) > 0

    @property
    def top(self) -> int:
        """The most that any holds, those included that do not count."""
        return self._levels[0].tokens if self._levels else 0

    @property
    def common(self) -> int:
        """What all hold that hold any."""
        return self._levels[-1].tokens if self._levels else 0

    def most(self, count: int, *, over: int = 0) -> list[tuple[int, int]]:
        """The first so many of those that hold more than `over`, with what they hold."""
        seating = self._seating
        found: list[tuple[int, int]] = []
        for level in self._levels:
            if level.tokens <= over:
                break
            words = level.seats.words
            for place in range(len(words)):
                word = words[place]
                while word:
                    if len(found) >= count:
                        return found
                    seat = place * WORD + lowest(word)
                    word &= word - 1
                    engine = seat if seating is None else seating.engine(seat)
                    if engine >= 0:
                        found.append((engine, level.tokens))
        return found

    def __iter__(self) -> Iterator[int]:
        return iter([engine for engine, _ in self.most(1 << 60)])

    def __len__(self) -> int:
        return len(self.most(1 << 60))
