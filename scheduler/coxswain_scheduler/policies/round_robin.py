"""Round robin over the engines; with `prefill=N`, over the prefill engines and over the decode engines.

Source: the usual one (Dynamo's `round_robin` router mode does the same, per pool). Reads nothing. No constants.
"""

from __future__ import annotations

from collections.abc import Sequence

from coxswain_scheduler.interface import Request
from coxswain_scheduler.policies.base import Decision, Split


class RoundRobin(Split):
    """Each next request goes to the next engine."""

    def __init__(self, *, prefill: int = 0, seed: int = 0) -> None:
        super().__init__(prefill=prefill, seed=seed)
        self._routed = self._settled = 0

    def route(self, request: Request, candidates: Sequence[int]) -> Decision:
        self._routed += 1
        return _turn(candidates, self._routed - 1)

    def settle_decode(self, request: Request, candidates: Sequence[int]) -> Decision:
        self._settled += 1
        return _turn(candidates, self._settled - 1)


def _turn(candidates: Sequence[int], turn: int) -> Decision:
    return Decision(f"turn {turn} of {len(candidates)} engines", "", {}, sorted(candidates)[turn % len(candidates)])
