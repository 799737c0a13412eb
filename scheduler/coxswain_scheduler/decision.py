"""What a choice of an engine was made from, in figures and, when somebody reads it, in a line."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)

Scored = tuple[float, Name, int, float, float, float]
"""Cost, name, cached tokens, and seconds of queue, prefill and the step that yields the first token."""

_SHOWN = 3
"""Engines that an explanation compares the chosen one with."""


@dataclass(frozen=True, slots=True)
class Estimate(Generic[Name]):
    """Predicted seconds to the first token on one engine, by cause, and what the choice went by."""

    member: Name
    queue: float
    prefill: float
    step: float
    """The step that yields the token; also the time between two tokens from then on."""
    cached: int
    prompt: int
    cost: float
    """Seconds that count: those to the first token, and what the rule adds to them."""

    @property
    def ttft(self) -> float:
        """Seconds from now to the first token."""
        return self.queue + self.prefill + self.step


class Decision(Generic[Name]):
    """Where a request goes. Keeps the bare figures; estimates and words are made when asked for."""

    __slots__ = ("_chosen", "_scored", "candidates", "prompt", "rule")

    def __init__(
        self, chosen: Scored[Name], scored: Sequence[Scored[Name]], prompt: int, candidates: int, rule: str
    ) -> None:
        self._chosen = chosen
        self._scored = scored
        self.prompt = prompt
        self.candidates = candidates
        """Engines that were to choose from."""
        self.rule = rule

    @property
    def member(self) -> Name:
        """The engine chosen."""
        return self._chosen[1]

    @property
    def uncached(self) -> int:
        """Prompt tokens to compute there."""
        return self.prompt - self._chosen[2]

    @property
    def chosen(self) -> Estimate[Name]:
        """What is predicted there."""
        return self._estimate(self._chosen)

    @property
    def shortlist(self) -> list[Estimate[Name]]:
        """Everyone who was looked at closely, by rising cost, each once."""
        best: dict[Name, Scored[Name]] = {}
        for one in sorted(self._scored, key=lambda scored: scored[0]):
            best.setdefault(one[1], one)
        return [self._estimate(one) for one in best.values()]

    @property
    def runner_up(self) -> Estimate[Name] | None:
        """The best of the others."""
        return next((one for one in self.shortlist if one.member != self.member), None)

    def explain(self) -> str:
        """One line for logs and people."""
        e = self.chosen
        line = (
            f"{e.member}: first token in {e.ttft * 1e3:.1f} ms = queue {e.queue * 1e3:.1f}"
            f" + prefill {e.prefill * 1e3:.1f} ({e.prompt - e.cached} of {e.prompt} tokens) + step {e.step * 1e3:.1f}"
            f", then {e.step * 1e3:.1f} ms a token, cost {e.cost * 1e3:.1f}; {self.rule}"
        )
        others = [one for one in self.shortlist if one.member != self.member][:_SHOWN]
        if not others:
            return f"{line}; the only one of {self.candidates}"
        return f"{line}; next best of {self.candidates} " + ", ".join(map(_briefly, others))

    def _estimate(self, scored: Scored[Name]) -> Estimate[Name]:
        cost, member, cached, queue, prefill, step = scored
        return Estimate(member, queue, prefill, step, cached, self.prompt, cost)


def _briefly(one: Estimate[Name]) -> str:
    return (
        f"{one.member} {one.ttft * 1e3:.1f} ms ({one.prompt - one.cached} to compute,"
        f" {one.step * 1e3:.1f} a token, cost {one.cost * 1e3:.1f})"
    )
