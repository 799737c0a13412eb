"""The tokenizers a gateway holds, by digest, and the threads that long texts are tokenised in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from coxswain_gateway.tokenizer import ModelText
from coxswain_protocol.messages import Tokenizer

Result = TypeVar("Result")

INLINE_CHARACTERS = 2_000
"""A text up to this long is tokenised faster than a thread is woken."""


class Texts:
    """Tokenizers by digest. Those in use are few: one, or two while a model revision rolls out."""

    def __init__(self) -> None:
        self._texts: dict[str, ModelText] = {}
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="tokenise")

    def knows(self, digest: str) -> bool:
        """Whether it need not be sent."""
        return digest in self._texts

    def get(self, digest: str) -> ModelText:
        """The tokenizer of this digest; it must be known."""
        return self._texts[digest]

    async def learn(self, message: Tokenizer) -> None:
        """Read a tokenizer's files. Raises TokenizerError."""
        text = await self._run(lambda: ModelText(message.digest, message.files))
        self._texts[message.digest] = text

    async def work(self, characters: int, function: Callable[[], Result]) -> Result:
        """Run `function`, which handles so many characters, here or in a thread."""
        return function() if characters <= INLINE_CHARACTERS else await self._run(function)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, function: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)
