"""Concurrent completions through the `openai` client, as a user would make them, with the time of every token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from openai import AsyncOpenAI, OpenAIError

from e2e.compare import Outcome

PROMPTS = (
    "import os\n\n\ndef ",
    'class Queue:\n    """',
    "    def __init__(self, ",
    "def test_",
    "for name in sorted(",
    "if not isinstance(value, ",
    "try:\n    import ",
    "    return self._",
    "# Copyright ",
    "raise ValueError(",
)


@dataclass(frozen=True)
class Ask:
    """One request of the traffic: what is asked, by name."""

    name: str
    prompt: str
    max_tokens: int
    temperature: float
    seed: int

    def body(self, model: str) -> dict[str, Any]:
        """Arguments of `client.completions.create`."""
        return {
            "model": model,
            "prompt": self.prompt,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "stream": True,
            "extra_body": {"return_token_ids": True, "ignore_eos": True},
            "extra_headers": {"x-request-id": self.name},
        }


@dataclass
class Stream:
    """One request under way: tokens so far, and when each chunk of them came (seconds, monotonic)."""

    ask: Ask
    started: float = 0.0
    times: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish: str | None = None
    error: str = ""

    @property
    def outcome(self) -> Outcome:
        """What the comparison looks at."""
        return Outcome(tuple(self.tokens), self.finish)

    @property
    def ttft(self) -> float | None:
        """Seconds from sending to the first token; None before it."""
        return self.times[0] - self.started if self.times else None

    @property
    def gaps(self) -> list[float]:
        """Seconds between one chunk of tokens and the next."""
        return [later - earlier for earlier, later in pairwise(self.times)]


def mixed(count: int, max_tokens: int) -> list[Ask]:
    """`count` requests, greedy and sampled in turn, each with a seed of its own."""
    return [
        Ask(
            name=f"stream-{number:02d}",
            prompt=f"{PROMPTS[number % len(PROMPTS)]}",
            max_tokens=max_tokens,
            temperature=0.0 if number % 2 == 0 else 0.9,
            seed=1000 + number,
        )
        for number in range(count)
    ]


class Traffic:
    """Requests in flight on one event loop. `changed` is set whenever a token came or a stream ended."""

    def __init__(self, *, url: str, model: str, asks: Sequence[Ask], timeout: float = 180.0) -> None:
        self._url = url
        self._model = model
        self._timeout = timeout
        self.streams = [Stream(ask) for ask in asks]
        self.changed = asyncio.Event()

    async def run(self) -> list[Stream]:
        """Send everything at once and return when every stream has ended, well or not."""
        client = AsyncOpenAI(base_url=f"{self._url}/v1", api_key="none", max_retries=0, timeout=self._timeout)
        async with client, asyncio.TaskGroup() as group:
            for stream in self.streams:
                group.create_task(self._follow(client, stream))
        return self.streams

    async def until(self, condition: Callable[[Stream], bool], *, what: str, timeout: float) -> None:
        """Wait until `condition` holds for every stream. Raises TimeoutError that says `what` was waited for."""
        try:
            async with asyncio.timeout(timeout):
                while not all(condition(stream) for stream in self.streams):
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            behind = [stream.ask.name for stream in self.streams if not condition(stream)]
            raise TimeoutError(f"waited {timeout:g} s for {what}; not so: {', '.join(behind)}") from None

    async def _follow(self, client: AsyncOpenAI, stream: Stream) -> None:
        stream.started = time.monotonic()
        try:
            async for event in await client.completions.create(**stream.ask.body(self._model)):
                for choice in event.choices:
                    self._take(stream, choice)
        except OpenAIError as error:
            stream.error = f"{type(error).__name__}: {error}"
        except Exception as error:  # a broken connection shows as whatever the HTTP library raises: it is a result here
            stream.error = f"{type(error).__name__}: {error}"
        self.changed.set()

    def _take(self, stream: Stream, choice: Any) -> None:
        ids = (choice.model_extra or {}).get("token_ids") or []
        if ids:
            stream.tokens.extend(ids)
            stream.times.append(time.monotonic())
        stream.text += choice.text or ""
        stream.finish = choice.finish_reason or stream.finish
        self.changed.set()


class TrafficError(Exception):
    """Streams to which nothing was done did not end well; the message has what one client saw."""


def run_undisturbed(*, url: str, model: str, asks: Sequence[Ask]) -> dict[str, Outcome]:
    """The same requests with nothing happening to them: what a disturbed run is compared with. Raises TrafficError."""
    streams = asyncio.run(Traffic(url=url, model=model, asks=asks).run())
    if failed := [stream for stream in streams if stream.error]:
        raise TrafficError(f"{len(failed)} of {len(streams)} streams failed undisturbed, the first: {failed[0].error}")
    return {stream.ask.name: stream.outcome for stream in streams}
