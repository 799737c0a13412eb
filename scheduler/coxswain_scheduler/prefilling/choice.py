"""Why a prompt is computed where it is: figures when it is chosen, words when they are read."""

from __future__ import annotations

from typing import NamedTuple

from librt.vecs import vec


class Candidate(NamedTuple):
    """One engine that was considered, in seconds and tokens."""

    engine: int
    cached: int
    wait: float
    prefill: float
    step: float
    cost: float


class Choice:
    """Why a prompt is computed where it is. Worded when it is read."""

    __slots__ = ("chosen", "considered", "prompt", "rule")

    def __init__(self, rule: str, prompt: int, chosen: int, considered: vec[float]) -> None:
        self.rule = rule
        self.prompt = prompt
        self.chosen = chosen
        self.considered = considered
        """The figures of one candidate after the other: not an object each, for these would be many."""

    @property
    def candidates(self) -> list[Candidate]:
        """Who was considered."""
        return rows(self.considered)

    def __str__(self) -> str:
        looks = "; ".join(
            f"engine {each.engine}: TTFT {each.wait + each.prefill:.3f} s (wait {each.wait:.3f}, {each.cached} of"
            f" {self.prompt} tokens cached), step {each.step * 1e3:.1f} ms, cost {each.cost:.3f}"
            for each in self.candidates
        )
        return f"engine {self.chosen} by {self.rule}: {looks}"


def rows(figures: vec[float]) -> list[Candidate]:
    """Of one candidate after the other."""
    each, count = iter(figures), len(Candidate._fields)
    return [Candidate(int(engine), int(cached), *rest) for engine, cached, *rest in zip(*[each] * count, strict=True)]
