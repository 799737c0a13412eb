"""Where a generation may go: which of the open members can run it, and keep the promise made to its client best."""

from __future__ import annotations

from collections.abc import Callable

from coxswain_gateway.generation import Generation
from coxswain_gateway.members import Member, Members
from coxswain_scheduler.resuming import best_places


class Places:
    """The engines of `members`, by the numbers that `engine_of` gives them (None: it can be sent no work).

    `exact` promises that a replayed generation goes on with the tokens it would have had anyway.
    """

    def __init__(self, members: Members, *, exact: bool, engine_of: Callable[[Member], int | None]) -> None:
        self._members = members
        self._exact = exact
        self._engine_of = engine_of

    def best(self, generation: Generation) -> frozenset[int]:
        """The engines that keep the promise best; notes in `Generation.faithful` whether they keep it."""
        candidates = self._candidates(generation)
        infos = {key: member.info for key, member in candidates.items()}
        names, generation.faithful = best_places(generation.origin, infos, exact=self._exact)
        engines = [self._engine_of(candidates[name]) for name in names]
        return frozenset(engine for engine in engines if engine is not None)

    def _candidates(self, generation: Generation) -> dict[str, Member]:
        """Members that could run it, those that have proved themselves if there are any."""
        needed = len(generation.log.prompt) + generation.log.sampling.max_tokens
        able = [
            member
            for member in self._members.open()
            if member.info.tokenizer_digest == generation.tokenizer and member.info.max_model_len >= needed
        ]
        able = [member for member in able if member is not generation.avoid] or able
        return {m.key: m for m in able if m.proved} or {m.key: m for m in able}
