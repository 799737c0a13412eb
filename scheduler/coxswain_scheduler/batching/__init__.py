"""What one engine does with its KV blocks and its next step: pure decisions, shared by engine and simulator."""

from coxswain_scheduler.batching.batch import Batch, Entry, Limits
from coxswain_scheduler.batching.batcher import Batcher
from coxswain_scheduler.batching.hashing import ROOT, block_hash, block_hashes
from coxswain_scheduler.batching.integrity import IntegrityError, check_batcher, check_pool
from coxswain_scheduler.batching.pool import BlockPool, OutOfBlocksError
from coxswain_scheduler.batching.sequence import Sequence, TokenSequence

__all__ = [
    "ROOT",
    "Batch",
    "Batcher",
    "BlockPool",
    "Entry",
    "IntegrityError",
    "Limits",
    "OutOfBlocksError",
    "Sequence",
    "TokenSequence",
    "block_hash",
    "block_hashes",
    "check_batcher",
    "check_pool",
]
