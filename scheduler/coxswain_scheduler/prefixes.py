"""Which engine holds the KV of which prompt prefix, as far as anybody was told.

Block hashes are chained (each covers everything before it), so equal hashes mean equal prefixes; and an engine that
holds a block practically holds all before it, since it gives up the end of a prefix first. So the deeper a block, the
fewer hold it, and the depths at which holders fall away are found by halving, not by asking for every block. Of an
engine that gave up a middle block too much may be believed, which costs a prediction and nothing else.

Holders of a block are the bits of one integer. Blocks stored in a run share that integer, and a dictionary from
integers to integers is nothing that the garbage collector looks into, however large it grows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar, overload

_Default = TypeVar("_Default")
_SLACK: Final = 1024
"""Blocks given up that an engine's list may name before it is written anew."""


class _Held:
    """What one engine was said to store, to be able to forget all of it: eight bytes a block."""

    __slots__ = ("bit", "blocks", "live")

    def __init__(self, seat: int) -> None:
        self.bit = 1 << seat
        self.blocks = array("Q")
        self.live = 0


class PrefixIndex:
    """Holders of KV blocks by 64-bit hash (not negative). Engines are small integers: their masks' bits."""

    def __init__(self) -> None:
        self._holders: dict[int, int] = {}
        self._held: dict[int, _Held] = {}
        self._usual = 1
        """The depth up to which all holders held what was asked for last: a system prompt's, and likely the next's."""

    def __len__(self) -> int:
        """Different blocks known."""
        return len(self._holders)

    @property
    def entries(self) -> int:
        """Blocks known, once for each engine that holds them."""
        return sum(held.live for held in self._held.values())

    def stored(self, seat: int, hashes: Sequence[int]) -> None:
        """`seat` can now reuse these blocks. Cheapest in chain order, where neighbours have the same holders."""
        held = self._held.get(seat)
        if held is None:
            held = self._held[seat] = _Held(seat)
        holders, bit = self._holders, held.bit
        get = holders.get
        before, after, live = 0, bit, held.live
        for block in hashes:
            mask = get(block, 0)
            if mask != before:
                before, after = mask, mask | bit
            if mask != after:
                holders[block] = after
                live += 1
        held.live = live
        held.blocks.extend(hashes)
        self._tidy(held)

    def removed(self, seat: int, hashes: Iterable[int]) -> None:
        """`seat` has given these blocks up; those it never had are ignored."""
        held = self._held.get(seat)
        if held is not None:
            self._forget(held, hashes)
            self._tidy(held)

    def replace(self, seat: int, hashes: Sequence[int]) -> None:
        """`seat` holds exactly these blocks."""
        self.drop(seat)
        self.stored(seat, hashes)

    def drop(self, seat: int) -> None:
        """Nothing is known of `seat` any more."""
        held = self._held.pop(seat, None)
        if held is not None:
            self._forget(held, held.blocks)

    def levels(self, hashes: Sequence[int]) -> list[tuple[int, int]]:
        """(depth, mask) with falling depth: the engines that hold so many leading blocks and not one more."""
        widest = self._holders.get(hashes[0], 0) if hashes else 0
        if not widest:
            return []
        depth, mask = self._deepest(hashes, len(hashes), widest, unlike=0)
        levels, seen = [(depth, mask)], mask
        while mask != widest:
            depth, mask = self._deepest(hashes, depth - 1, widest, unlike=mask)
            if new := mask & ~seen:
                levels.append((depth, new))
                seen |= new
        self._usual = depth
        return levels

    def _deepest(self, hashes: Sequence[int], end: int, widest: int, *, unlike: int) -> tuple[int, int]:
        """The greatest depth up to `end` that others than `unlike` hold, and who; `widest` hold the first block."""
        holders, depth, others, middle = self._holders, 1, widest, self._usual
        while depth < end:
            if not depth < middle <= end:
                middle = (depth + end + 1) >> 1
            found = holders.get(hashes[middle - 1], 0)
            if found != unlike:
                depth, others = middle, found
                middle = depth + 1 if depth == self._usual else 0
            else:
                end = middle - 1
        return depth, others

    def _forget(self, held: _Held, hashes: Iterable[int]) -> None:
        holders, bit = self._holders, held.bit
        get = holders.get
        before, after, live = bit, 0, held.live
        for block in hashes:
            mask = get(block, 0)
            if mask & bit:
                if mask != before:
                    before, after = mask, mask ^ bit
                live -= 1
                if after:
                    holders[block] = after
                else:
                    del holders[block]
        held.live = live

    def _tidy(self, held: _Held) -> None:
        """Write the list of what an engine holds anew when more than half of it is no longer true."""
        if len(held.blocks) > 2 * held.live + _SLACK:
            get, bit = self._holders.get, held.bit
            held.blocks = array("Q", (block for block in dict.fromkeys(held.blocks) if get(block, 0) & bit))


def seats(mask: int) -> Iterator[int]:
    """The numbers of the bits that are set, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class Holders(Mapping[int, int]):
    """Tokens of one prompt that each engine holds, those that hold most first, as it was when asked for.

    Who is asked about is looked for in the masks: of a thousand engines that share a system prompt a policy asks about
    a few.
    """

    __slots__ = ("_engines", "_levels", "_seats")

    def __init__(
        self,
        levels: list[tuple[int, int]],
        *,
        seats: dict[int, int] | None = None,
        engines: dict[int, int] | None = None,
    ) -> None:
        """`levels`: (tokens, mask) with falling tokens; no engine is in two. `seats`: bits by engine, of all that
        count, and `engines` the other way round; None where engines are named by their bits."""
        self._levels = levels
        self._seats = seats
        self._engines = engines

    @overload
    def get(self, engine: int, /) -> int | None: ...
    @overload
    def get(self, engine: int, /, default: int) -> int: ...
    @overload
    def get(self, engine: int, /, default: _Default) -> int | _Default: ...
    def get(self, engine: int, /, default: object = None) -> object:
        """Tokens that it holds."""
        seat = engine if self._seats is None else self._seats.get(engine)
        if seat is not None:
            for tokens, mask in self._levels:
                if mask >> seat & 1:
                    return tokens
        return default

    def held(self, engine: int) -> int:
        """Tokens that it holds, none included."""
        seats = self._seats
        seat = engine if seats is None else seats.get(engine, -1)
        if seat >= 0:
            for tokens, mask in self._levels:
                if mask >> seat & 1:
                    return tokens
        return 0

    def __getitem__(self, engine: int) -> int:
        tokens = self.get(engine)
        if tokens is None:
            raise KeyError(engine)
        return tokens

    def __contains__(self, engine: object) -> bool:
        return isinstance(engine, int) and self.get(engine) is not None

    @property
    def top(self) -> int:
        """The most that any holds, those included that do not count."""
        for tokens, mask in self._levels:
            if mask:
                return tokens
        return 0

    @property
    def common(self) -> int:
        """What all hold that hold any."""
        return self._levels[-1][0] if self._levels else 0

    def most(self, count: int, *, over: int = 0) -> list[tuple[int, int]]:
        """The first so many of those that hold more than `over`, with what they hold."""
        known = self._engines
        found: list[tuple[int, int]] = []
        for tokens, level in self._levels:
            if tokens <= over:
                break
            mask = level
            while mask and len(found) < count:
                low = mask & -mask
                mask ^= low
                seat = low.bit_length() - 1
                engine = seat if known is None else known.get(seat)
                if engine is not None:
                    found.append((engine, tokens))
        return found

    def __iter__(self) -> Iterator[int]:
        known = self._engines
        for _, level in self._levels:
            mask = level
            while mask:
                low = mask & -mask
                mask ^= low
                seat = low.bit_length() - 1
                if known is None:
                    yield seat
                elif (engine := known.get(seat)) is not None:
                    yield engine

    def __len__(self) -> int:
        return sum(1 for _ in self)
