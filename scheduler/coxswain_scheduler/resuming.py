"""Where an interrupted sequence may continue, and whether it is then what it would have been.

The same weights continue it seamlessly. Bit for bit it is continued only by an engine whose arithmetic was checked to
be exact, on the same accelerator class, from an origin of which the same is true.
"""

from __future__ import annotations

from collections.abc import Mapping

from coxswain_protocol.messages import EngineInfo

EXACT = "exact"


def continues_exactly(origin: EngineInfo, target: EngineInfo) -> bool:
    """Whether `target` makes the very tokens that `origin` would have made."""
    return (
        origin.weights_digest == target.weights_digest
        and origin.accelerator == target.accelerator
        and EXACT in origin.features
        and EXACT in target.features
    )


def best_places(
    origin: EngineInfo | None, candidates: Mapping[str, EngineInfo], *, exact: bool
) -> tuple[list[str], bool]:
    """The candidates that keep the promise best, and whether they keep it.

    `origin` is the engine that made the output so far; None when there is no output yet, which any engine may start.
    With `exact` the promise is equal bits, otherwise equal weights. Falls back step by step rather than refusing.
    """
    if origin is None:
        return list(candidates), True
    alike = [name for name, info in candidates.items() if info.weights_digest == origin.weights_digest]
    if not exact:
        return (alike, True) if alike else (list(candidates), False)
    equal = [name for name in alike if continues_exactly(origin, candidates[name])]
    return (equal, True) if equal else (alike or list(candidates), False)
