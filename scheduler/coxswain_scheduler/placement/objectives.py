"""The nearest objectives that can be met, for those that cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from coxswain_scheduler.interface import Objectives

_MOST = 1e4
_HALVINGS = 40


def nearest(asked: Objectives, meets: Callable[[Objectives], bool]) -> Objectives | None:
    """The objectives that `meets` accepts and that are the least looser than those `asked`.

    One of the two is loosened if that is enough, the one which needs less of it; else both by the same factor. None
    where ten thousand times looser is not enough. `meets` must not refuse objectives looser than some it accepts.
    """
    singly = [_loosened(asked, (name,), meets) for name in ("inter_token", "ttft")]
    found = singly if any(singly) else [_loosened(asked, ("inter_token", "ttft"), meets)]
    return min(filter(None, found), key=lambda each: _looser(asked, each), default=None)


def _looser(asked: Objectives, given: Objectives) -> float:
    return max(given.inter_token / asked.inter_token, given.ttft / asked.ttft)


def _loosened(asked: Objectives, names: tuple[str, ...], meets: Callable[[Objectives], bool]) -> Objectives | None:
    def scaled(factor: float) -> Objectives:
        return replace(asked, **{name: getattr(asked, name) * factor for name in names})

    low, high = 1.0, _MOST
    if not meets(scaled(high)):
        return None
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if meets(scaled(middle)) else (middle, high)
    return _rounded(scaled(high), meets)


def _rounded(exact: Objectives, meets: Callable[[Objectives], bool]) -> Objectives:
    """Four digits, where they do."""
    short = replace(exact, ttft=float(f"{exact.ttft:.4g}"), inter_token=float(f"{exact.inter_token:.4g}"))
    if meets(short):
        return short
    return replace(
        exact, ttft=float(f"{exact.ttft * 1.0005:.4g}"), inter_token=float(f"{exact.inter_token * 1.0005:.4g}")
    )
