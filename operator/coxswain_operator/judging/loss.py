"""Which replicas are lost, and which only look it.

A node that the control plane does not hear from may be dead, or cut off from the control plane alone while its
replicas serve everybody; or the control plane itself was away and knows nothing yet. Gateways hear a heartbeat from
every replica ten times a second, so they are asked first:

- what still beats to any gateway is not lost, whatever its node's condition says;
- what gateways heard before and hear no more, on a node that is down, is lost at once;
- what no gateway can speak for (none answers, or the replica was still starting) is lost only after its node has been
  down for `GRACE_SECONDS` on our own clock, longer than nodes need to report back after an API server's outage;
- when every node is down, that says more about the control plane than about nodes: nothing is lost.
"""

from __future__ import annotations

from collections.abc import Mapping

from coxswain_operator.observing.view import Hearing

GRACE_SECONDS = 30.0


class NodeWatch:
    """Since when each node has been down, on a clock of our own. A node that does not exist counts as down."""

    def __init__(self) -> None:
        self._down_since: dict[str, float] = {}
        self._ready: Mapping[str, bool] = {}

    def observe(self, ready: Mapping[str, bool], *, now: float) -> None:
        """All nodes as they are known now, by name."""
        self._ready = ready
        for name, is_ready in ready.items():
            if is_ready:
                self._down_since.pop(name, None)
            else:
                self._down_since.setdefault(name, now)

    def all_down(self) -> bool:
        """No node is ready (a cluster without nodes included)."""
        return not any(self._ready.values())

    def down(self, name: str) -> bool:
        """The node is not ready, or does not exist. A Pod without a node is not on one that is down."""
        return bool(name) and not self._ready.get(name, False)

    def down_for(self, name: str, *, now: float) -> float:
        """Seconds since the node was first seen down; 0 while it is up."""
        return now - self._down_since.setdefault(name, now) if self.down(name) else 0.0


def is_lost(*, node: str, hearing: Hearing, nodes: NodeWatch, now: float) -> bool:
    """Whether a Pod that is neither leaving nor failed is to be replaced."""
    if not nodes.down(node) or hearing is Hearing.BEATING or nodes.all_down():
        return False
    return hearing is Hearing.SILENT or nodes.down_for(node, now=now) >= GRACE_SECONDS


def undecided(*, node: str, hearing: Hearing, nodes: NodeWatch, now: float) -> bool:
    """Whether the judgement may change by time alone."""
    return nodes.down(node) and hearing is Hearing.UNKNOWN and nodes.down_for(node, now=now) < GRACE_SECONDS
