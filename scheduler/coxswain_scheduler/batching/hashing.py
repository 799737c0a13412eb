"""Chained hashes of token blocks: equal hash means equal tokens from the first one on.

Engines name reusable KV blocks by them and gateways compute the same ones from a prompt, so they must not depend on
process, platform or version: BLAKE2b with an eight-byte digest over the parent's hash and the token ids, little endian.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence as Tokens
from hashlib import blake2b
from typing import Final

ROOT: Final = 0
"""Parent of a sequence's first block."""

_SWAP = sys.byteorder == "big"


def block_hash(parent: int, tokens: Tokens[int]) -> int:
    """64-bit hash of one full block that follows the block (or `ROOT`) named by `parent`. Token ids are below 2^32."""
    packed = array("I", tokens)
    if _SWAP:
        packed.byteswap()
    return int.from_bytes(blake2b(packed, digest_size=8, key=parent.to_bytes(8, "little")).digest(), "little")


def block_hashes(tokens: Tokens[int], *, block_size: int) -> list[int]:
    """Hashes of every full block of `tokens`; a last block that is not full has none."""
    hashes: list[int] = []
    parent = ROOT
    for end in range(block_size, len(tokens) + 1, block_size):
        parent = block_hash(parent, tokens[end - block_size : end])
        hashes.append(parent)
    return hashes
