"""The peer of the operator's benchmark: kopf used the usual way, with a handler that does as little as it can.

Run by `benchmarks.reconciling` with `kopf run`. It makes no children; it only says which generation it has seen.
"""

from __future__ import annotations

from typing import Any

import kopf

from coxswain_crds import names


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """No events: Coxswain makes none here either."""
    settings.posting.enabled = False


@kopf.on.resume(names.GROUP, names.VERSION, names.LLM_SERVICES)
@kopf.on.create(names.GROUP, names.VERSION, names.LLM_SERVICES)
@kopf.on.update(names.GROUP, names.VERSION, names.LLM_SERVICES)
async def handle(meta: kopf.Meta, patch: kopf.Patch, **_: Any) -> None:
    """The whole of its work."""
    patch.status["observedGeneration"] = meta["generation"]
