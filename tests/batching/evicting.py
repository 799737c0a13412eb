"""In which order a pool would give up what nobody holds."""

from __future__ import annotations

from coxswain_scheduler.batching import BlockPool


def evictions(pool: BlockPool) -> list[tuple[int, int | None]]:
    """Each block that is not held, with its name where it has one. The pool stays as it is."""
    blank: list[tuple[int, int | None]] = [(block, None) for block in reversed(pool._blank)]
    for run in pool._idle:
        blank += zip(reversed(run.blocks), reversed(run.hashes), strict=True)
    return blank
