"""One view of a service's replicas out of several gateways' views.

Every replica dials every gateway, and every gateway judges it alone: the network between one gateway and one replica
may fail while the replica serves everybody else. So a replica is lost only when all who know it say so, and a replica
that restarted its engine shows up under a new incarnation, of which only the newest counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from coxswain_protocol.status import GatewayStatus, MemberState, MemberStatus


def merge(gateways: Sequence[GatewayStatus]) -> tuple[MemberStatus, ...]:
    """Every replica once, by name, as all the gateways that answered see it.

    A gateway that does not list a replica has no opinion of it. Streams add up, ages are the youngest, the rest comes
    from whoever heard it last.
    """
    views: defaultdict[str, list[MemberStatus]] = defaultdict(list)
    for gateway in gateways:
        for member in gateway.members:
            views[member.replica].append(member)
    return tuple(_joined(_newest(views[replica])) for replica in sorted(views))


def departure_order(members: Iterable[MemberStatus]) -> tuple[str, ...]:
    """Replica names in the order in which a scale-down should take them: least to move first.

    What is lost or already leaving goes first; then fewest streams, least work, least KV. Equals go by name, highest
    slot first, so that the order holds still between two calls.
    """
    by_name = sorted(members, key=lambda member: member.replica, reverse=True)
    return tuple(member.replica for member in sorted(by_name, key=_to_move))


def _newest(views: list[MemberStatus]) -> list[MemberStatus]:
    """Those views that speak of the incarnation heard from last; one that lives beats one that is lost."""
    freshest = min(views, key=_staleness)
    return [view for view in views if view.incarnation == freshest.incarnation]


def _joined(views: list[MemberStatus]) -> MemberStatus:
    freshest = min(views, key=_staleness)
    ages = [view.token_age for view in views if view.token_age is not None]
    return MemberStatus(
        replica=freshest.replica,
        incarnation=freshest.incarnation,
        state=_state(views),
        beat_age=freshest.beat_age,
        weights_digest=freshest.weights_digest,
        accelerator=freshest.accelerator,
        exact=freshest.exact,
        step_floor_seconds=freshest.step_floor_seconds,
        streams=sum(view.streams for view in views),
        token_age=min(ages, default=None),
        load=freshest.load,
    )


def _state(views: list[MemberStatus]) -> MemberState:
    alive = {view.state for view in views if view.state != "Lost"}
    if not alive:
        return "Lost"
    return "Draining" if "Draining" in alive else "Ready"


def _staleness(view: MemberStatus) -> tuple[bool, float]:
    return view.state == "Lost", view.beat_age


def _to_move(member: MemberStatus) -> tuple[int, int, int, int]:
    rank = {"Lost": 0, "Draining": 1, "Ready": 2}[member.state]
    load = member.load
    return rank, member.streams, load.running + load.waiting, load.context
