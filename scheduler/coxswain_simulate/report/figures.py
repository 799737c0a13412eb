"""What pictures are drawn from: the JSON that `replay` writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from coxswain_simulate.errors import InputError


class Quantiles(msgspec.Struct):
    """Seconds; None where nothing was measured."""

    p50: float | None
    p90: float | None
    p99: float | None


class Curves(msgspec.Struct):
    """Seconds at even shares from 0 to 1."""

    ttft_s: list[float | None]
    inter_token_s: list[float | None]


class Objectives(msgspec.Struct):
    """Seconds."""

    ttft_s: float
    inter_token_s: float


class Figures(msgspec.Struct):
    """One run."""

    title: str
    trace: str
    policy: str
    speedup: float
    engines: int
    rate: float | None
    """Requests per second offered."""
    objectives: Objectives
    requests: int
    feasible: int
    bound: int
    good: int
    shed: int
    prefix_reuse: float
    ttft_s: Quantiles
    inter_token_s: Quantiles
    curves: Curves
    load: list[tuple[float, int, int, int]]
    """(seconds, engines, running, waiting)."""

    @property
    def label(self) -> str:
        """Short, for a legend."""
        return f"{self.policy} ×{self.speedup:g}"

    def per_second(self, requests: int) -> float:
        """So many of the requests, per second of the trace; 0 where it has no length."""
        return requests / self.requests * (self.rate or 0.0)


def figures_of(document: Mapping[str, Any]) -> Figures:
    """Of what `replay` has just made."""
    return msgspec.convert(document, Figures)


def read_figures(path: Path) -> Figures:
    """Of what `replay` has written. Raises InputError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Figures)
    except OSError as error:
        raise InputError.at(path, None, f"cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem, _, place = str(error).partition(" - at `$.")
        field = place.rstrip("`")
        told = f"{field}: {problem}" if field else problem
        raise InputError.at(path, 1, f"is not what `replay --json` writes: {told}") from None
