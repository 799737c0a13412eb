"""Why a prompt is computed where it is: figures when it is chosen, words when they are read."""

from __future__ import annotations

from typing import NamedTuple

from librt.vecs import append, vec


class Candidate(NamedTuple):
    """One engine that was considered, in seconds and tokens."""

    engine: int
    cached: int
    wait: float
    prefill: float
    step: float
    cost: float


class Considered:
    """The candidates of one choice, as numbers in a row: an object for each of these would be many."""

    __slots__ = ("_figures",)

    def __init__(self) -> None:
        self._figures: vec[float] = vec[float]()

    def add(self, engine: float, cached: float, *, wait: float, prefill: float, step: float, cost: float) -> None:
        """One more (see `Candidate`)."""
        figures = append(self._figures, engine)
        figures = append(figures, cached)
        figures = append(figures, wait)
        figures = append(figures, prefill)
        figures = append(figures, step)
        self._figures = append(figures, cost)

    def rows(self) -> list[Candidate]:
        """All, in order."""
        figures = iter(self._figures)
        rows = zip(*[figures] * len(Candidate._fields), strict=True)
        return [Candidate(int(engine), int(cached), *seconds) for engine, cached, *seconds in rows]


class Choice:
    """Why a prompt is computed where it is. Worded when it is read."""

    __slots__ = ("chosen", "considered", "prompt", "rule")

    def __init__(self, rule: str, prompt: int, chosen: int, considered: Considered) -> None:
        self.rule = rule
        self.prompt = prompt
        self.chosen = chosen
        self.considered = considered

    @property
    def candidates(self) -> list[Candidate]:
        """Who was considered."""
        return self.considered.rows()

    def __str__(self) -> str:
        looks = "; ".join(
            f"engine {each.engine}: TTFT {each.wait + each.prefill:.3f} s (wait {each.wait:.3f}, {each.cached} of"
            f" {self.prompt} tokens cached), step {each.step * 1e3:.1f} ms, cost {each.cost:.3f}"
            for each in self.candidates
        )
        return f"engine {self.chosen} by {self.rule}: {looks}"
