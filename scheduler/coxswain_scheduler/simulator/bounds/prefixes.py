"""How many prompt tokens a prefix cache can spare, by its size and by how well it forgets.

Requests come one by one in order of arrival, and each leaves its whole prompt in the cache: what is spared here is the
most that a cache of that kind has to offer, whatever the cluster does in between. The unit is the trace's chunk.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Sequence

from coxswain_scheduler.simulator.trace import Trace, TraceRequest

_NEVER = 2**62


def infinite_cache(trace: Trace, *, block_size: int = 1) -> list[int]:
    """Prompt tokens of each request that earlier ones had too, in whole blocks, never its last token."""
    seen: set[int] = set()
    cached = []
    for request in trace.requests:
        known = next((i for i, chunk in enumerate(request.chunks) if chunk not in seen), len(request.chunks))
        cached.append(_tokens(request, known, trace.chunk_tokens, block_size))
        seen.update(request.chunks[known:])
    return cached


def pooled_lru(trace: Trace, tokens: int, *, block_size: int = 1) -> list[int]:
    """The same with one cache of `tokens` tokens that forgets what was used least recently, ends before beginnings."""
    held: OrderedDict[int, None] = OrderedDict()
    room = tokens // trace.chunk_tokens
    cached = []
    for request in trace.requests:
        known = next((i for i, chunk in enumerate(request.chunks) if chunk not in held), len(request.chunks))
        cached.append(_tokens(request, known, trace.chunk_tokens, block_size))
        for chunk in reversed(request.chunks):
            held[chunk] = None
            held.move_to_end(chunk)
        while len(held) > room:
            held.popitem(last=False)
    return cached


def pooled_belady(trace: Trace, tokens: int, *, block_size: int = 1) -> list[int]:
    """The same with a cache that knows the future and forgets what is needed last.

    No rule of eviction spares more chunks (Belady, 1966): a chunk is never needed before the one it follows, so with
    ends forgotten before beginnings what is held are always whole prefixes, and each held chunk counts when needed.
    """
    following = _next_uses(trace)
    room = tokens // trace.chunk_tokens
    needed: dict[int, int] = {}
    latest: list[tuple[int, int, int]] = []  # (-next use, -depth, chunk), some out of date
    cached = []
    for request, uses in zip(trace.requests, following, strict=True):
        known = next((i for i, chunk in enumerate(request.chunks) if chunk not in needed), len(request.chunks))
        cached.append(_tokens(request, known, trace.chunk_tokens, block_size))
        for depth, (chunk, use) in enumerate(zip(request.chunks, uses, strict=True)):
            if use == _NEVER:
                needed.pop(chunk, None)
            else:
                needed[chunk] = use
                heapq.heappush(latest, (-use, -depth, chunk))
        while len(needed) > room:
            use, _, chunk = heapq.heappop(latest)
            if needed.get(chunk) == -use:
                del needed[chunk]
    return cached


def token_share(trace: Trace, cached: Sequence[int]) -> float:
    """The cached tokens as a share of all prompt tokens."""
    return sum(cached) / max(1, sum(request.prompt_tokens for request in trace.requests))


def _tokens(request: TraceRequest, chunks: int, chunk_tokens: int, block_size: int) -> int:
    """Tokens of that many chunks in whole blocks; the last token must be computed, for it yields the first output."""
    return min(chunks * chunk_tokens, request.prompt_tokens - 1) // block_size * block_size


def _next_uses(trace: Trace) -> list[list[int]]:
    """For each request and chunk, the position of the next request with that chunk."""
    coming: dict[int, int] = {}
    uses: list[list[int]] = []
    for position in range(len(trace.requests) - 1, -1, -1):
        chunks = trace.requests[position].chunks
        uses.append([coming.get(chunk, _NEVER) for chunk in chunks])
        coming.update(dict.fromkeys(chunks, position))
    uses.reverse()
    return uses
