"""One HTTP request being answered: its sequences, and the signal that there is something to write."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import randbits

import msgspec

from coxswain_gateway.api.choices import Choice
from coxswain_gateway.fleet import Fleet
from coxswain_gateway.generation import Generation
from coxswain_gateway.token_log import TokenLog
from coxswain_gateway.tokenizer import ModelText
from coxswain_protocol.messages import Sampling

_SEED_MASK = 2**63 - 1
_serials = itertools.count(randbits(48))


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the sequences of a call have in common beside their sampling."""

    n: int = 1
    stops: tuple[str, ...] = ()
    include_stop: bool = False
    skip_special: bool = True
    priority: int = 0
    """As `Generation.priority`."""


class Call:
    """The choices of one request, started together; `close` ends what has not ended."""

    def __init__(self, *, request_id: str, fleet: Fleet, text: ModelText) -> None:
        self.request_id = request_id
        self.created = int(time.time())
        self.text = text
        self.choices: list[Choice] = []
        self.writing_since: float | None = None
        """Monotonic time since which the client has not taken what was written."""
        self._fleet = fleet
        self._event = asyncio.Event()

    def start(self, prompts: Sequence[tuple[int, ...]], samplings: Sequence[Sampling], wanted: Wanted) -> None:
        """Open `wanted.n` sequences for each prompt; those of one prompt have successive seeds."""
        for prompt, sampling in zip(prompts, samplings, strict=True):
            for number in range(wanted.n):
                seeded = msgspec.structs.replace(sampling, seed=(sampling.seed + number) & _SEED_MASK)
                self.choices.append(self._choice(len(self.choices), prompt, seeded, wanted))
        for choice in self.choices:
            self._fleet.streams.start(choice.generation)

    async def changed(self) -> None:
        """Until something may have become new."""
        await self._event.wait()
        self._event.clear()

    @property
    def over(self) -> bool:
        """Every choice has ended, or one has failed."""
        return self.error is not None or all(choice.over for choice in self.choices)

    @property
    def error(self) -> str | None:
        """Why it failed, for the client; None if it has not."""
        return next((choice.generation.error for choice in self.choices if choice.generation.error), None)

    @property
    def shed(self) -> bool:
        """Refused before it began, because not all that waits could be in time."""
        return any(choice.generation.shed for choice in self.choices)

    @property
    def predicted_wait(self) -> float:
        """Seconds after which a new request may expect its turn."""
        return self._fleet.predicted_wait()

    @property
    def held(self) -> bool:
        """Waiting for a replica."""
        return any(choice.generation.held for choice in self.choices)

    def close(self) -> None:
        """Whatever still runs has lost its client."""
        for choice in self.choices:
            self._fleet.streams.stop(choice.generation, outcome="client_gone")

    def _choice(self, index: int, prompt: tuple[int, ...], sampling: Sampling, wanted: Wanted) -> Choice:
        choice = Choice(
            index,
            detokenizer=self.text.detokenizer(skip_special=wanted.skip_special),
            stops=wanted.stops,
            include_stop=wanted.include_stop,
            wake=self._event.set,
            stop=lambda generation: self._fleet.streams.stop(generation, outcome="stop"),
        )
        log = TokenLog(f"{self.request_id}.{next(_serials):x}", prompt, sampling)
        choice.generation = Generation(
            log, choice, tokenizer=self.text.digest, now=self._fleet.clock(), priority=wanted.priority
        )
        return choice
