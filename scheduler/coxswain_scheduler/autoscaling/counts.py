"""Numbers of engines of each role.

`Scaled` runs services that are not split; for one that is, whoever starts its engines takes both counts from
`Autoscaler.decide`.
"""

from __future__ import annotations

from typing import NamedTuple


class Counts(NamedTuple):
    """Engines of each role. A service that is not split has `serve` alone."""

    serve: int = 0
    prefill: int = 0
    decode: int = 0

    @property
    def total(self) -> int:
        """Engines in all."""
        return sum(self)

    def at_least(self, other: Counts) -> Counts:
        """The larger of both in each role."""
        return Counts(*map(max, zip(self, other, strict=True)))

    def within(self, most: int) -> Counts:
        """Scaled down pro rata to at most `most` engines; a role that has any keeps one. Raises ValueError where
        `most` is less than the roles that have any."""
        if self.total <= most:
            return self
        kept = [min(1, count) for count in self]
        if sum(kept) > most:
            raise ValueError(f"{self} cannot be had with {most} engines")
        while sum(kept) < most:
            role = max(range(len(self)), key=lambda i: self[i] / (kept[i] + 1) if self[i] > kept[i] else 0.0)
            kept[role] += 1
        return Counts(*kept)

    def __str__(self) -> str:
        parts = [f"{count} {name}" for name, count in zip(("serve", "prefill", "decode"), self, strict=True) if count]
        return " + ".join(parts) or "none"


NO_ENGINES = Counts()
