"""What to place: a histogram of request lengths, and the kinds of engine that could serve it.

The model is Mélange's (Griggs et al., arXiv 2404.14527): a kind of engine has, for every bucket of the histogram, the
highest rate at which it serves only that bucket within the objectives; work adds up linearly, so an engine that gets a
third of what it could take of each of two buckets is two thirds loaded. It is carried further in two ways: a request
may be prefilled by one kind of engine and decoded by another, and a kind is an accelerator, a role and a degree of
tensor parallelism, not only an accelerator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from coxswain_scheduler.interface import Role

Vector = NDArray[np.float64]
Counts = NDArray[np.int64]
"""Shapes are named in docstrings: E kinds of engine, B buckets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Requests of about one size: up to so many tokens in and out, and how many of them come per second."""

    input_tokens: int
    output_tokens: int
    rate: float

    def __str__(self) -> str:
        return f"{self.input_tokens} in × {self.output_tokens} out"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of engine that can be started any number of times."""

    accelerator: str
    role: Role = "Serve"
    tensor_parallel: int = 1
    price: float
    """Per hour, of the whole engine: all its accelerators."""
    throughput: tuple[float, ...]
    """Requests per second of each bucket, were there only that one; 0 where the objectives cannot be met."""

    @property
    def name(self) -> str:
        """The accelerator, and what is unusual about the engine."""
        parallel = f" ×{self.tensor_parallel}" if self.tensor_parallel > 1 else ""
        return f"{self.accelerator}{parallel}{'' if self.role == 'Serve' else f' {self.role}'}"


@dataclass(frozen=True, kw_only=True)
class Present:
    """What runs now, and what it costs to change it. An engine's role is only a note on it: to change that is free."""

    engines: Mapping[str, int]
    """By `Kind.name`."""
    start: float = 0.0
    """Once for each accelerator whose engine is started, in the currency of the prices."""
    stop: float = 0.0
    """The same when it is stopped."""
    hours: float = 1.0
    """For how long the new mix is expected to stay: spreads these costs."""
    tolerance: float = 0.0
    """Of the mixes that cost at most this share more than the cheapest, the one with the fewest changes is taken."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A placement to find.

    Raises ValueError for what makes no sense: no bucket, no kind, a table of another length, a name used twice, a
    price of zero or less, numbers below zero, slices together with roles.
    """

    buckets: tuple[Bucket, ...]
    kinds: tuple[Kind, ...]
    stock: Mapping[str, int] = field(default_factory=dict)
    """Accelerators there are; one that is not named is not limited."""
    budget: float | None = None
    """Per hour."""
    slice_factor: int | None = None
    """Each bucket is cut in so many equal parts, and a part goes to one kind as a whole (Mélange). None: no parts."""
    present: Present | None = None

    def __post_init__(self) -> None:
        if not self.buckets or not self.kinds:
            raise ValueError("a placement needs at least one bucket of requests and one kind of engine")
        if len({kind.name for kind in self.kinds}) < len(self.kinds):
            raise ValueError("two kinds of engine have the same accelerator, role and tensor parallelism")
        if any(not 0 <= bucket.rate < np.inf for bucket in self.buckets):
            raise ValueError("a bucket's rate must be a number of requests per second, not below 0")
        for kind in self.kinds:
            _check(kind, buckets=len(self.buckets))
        if self.slice_factor is not None and (self.slice_factor < 1 or self.staged):
            raise ValueError("slice_factor is at least 1, and goes with engines of the role Serve only")

    @property
    def staged(self) -> bool:
        """Whether any kind of engine does only half of the work."""
        return any(kind.role != "Serve" for kind in self.kinds)

    @cached_property
    def prices(self) -> Vector:
        """Of an engine of each kind, per hour. `(E,)`."""
        return np.array([kind.price for kind in self.kinds])

    @cached_property
    def loads(self) -> Vector:
        """Engines of each kind that the whole of a bucket takes, `(E, B)`; infinite where it cannot be served."""
        rates = np.array([bucket.rate for bucket in self.buckets])
        tables = np.array([kind.throughput for kind in self.kinds])
        loads = np.full(tables.shape, np.inf)
        np.divide(rates, tables, out=loads, where=tables > 0)
        loads[:, rates == 0] = 0.0
        return loads

    @cached_property
    def roles(self) -> dict[Role, list[int]]:
        """Indices of the kinds of each role."""
        names: tuple[Role, ...] = ("Serve", "Prefill", "Decode")
        return {role: [e for e, kind in enumerate(self.kinds) if kind.role == role] for role in names}

    @cached_property
    def machines(self) -> dict[tuple[str, int], list[int]]:
        """Indices of the kinds that differ only in their role, by accelerator and tensor parallelism."""
        found: dict[tuple[str, int], list[int]] = {}
        for e, kind in enumerate(self.kinds):
            found.setdefault((kind.accelerator, kind.tensor_parallel), []).append(e)
        return found

    def running(self, machine: list[int]) -> int:
        """Engines of these kinds that run now."""
        engines = self.present.engines if self.present is not None else {}
        return sum(engines.get(self.kinds[e].name, 0) for e in machine)

    def least(self, values: Vector) -> Vector:
        """What each bucket takes at least, were an engine of each kind worth `values` and divisible. `(B,)`."""
        with np.errstate(invalid="ignore"):
            worth = np.where(np.isfinite(self.loads), values[:, None] * self.loads, np.inf)
        whole, first, second = (_lowest(worth, self.roles[role]) for role in ("Serve", "Prefill", "Decode"))
        return np.minimum(whole, first + second)

    def unserved(self) -> list[Bucket]:
        """Buckets with requests that no kind of engine can serve within the objectives."""
        return [self.buckets[b] for b in np.flatnonzero(~np.isfinite(self.least(self.prices)))]

    @property
    def rate(self) -> float:
        """Requests per second, all buckets together."""
        return sum(bucket.rate for bucket in self.buckets)

    def bound(self) -> float:
        """No mix costs less: what it would cost were engines divisible, `Σ_b w_b·min_j c_j/T_jb`."""
        return float(self.least(self.prices).sum())


def _lowest(worth: Vector, rows: list[int]) -> Vector:
    return np.asarray(worth[rows].min(axis=0, initial=np.inf))


def _check(kind: Kind, *, buckets: int) -> None:
    if len(kind.throughput) != buckets:
        raise ValueError(f"{kind.name} has {len(kind.throughput)} throughputs for {buckets} buckets")
    if any(not 0 <= rate < np.inf for rate in kind.throughput):
        raise ValueError(f"{kind.name}: a throughput must be a number of requests per second, not below 0")
    if not 0 < kind.price < np.inf:
        raise ValueError(f"{kind.name} has a price of {kind.price:g} per hour; it must be above 0")
    if kind.tensor_parallel < 1:
        raise ValueError(f"{kind.name}: tensor parallelism is at least 1")
