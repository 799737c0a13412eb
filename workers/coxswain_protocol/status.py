"""What gateways and the coordinator tell the operator about a service: JSON on the status port, one struct each."""

from __future__ import annotations

from typing import Literal

import msgspec

from coxswain_protocol.messages import Load

MemberState = Literal["Ready", "Draining", "Lost"]


class Histogram(msgspec.Struct, frozen=True):
    """Latencies since the process started; bucket i counts seconds in [floor·ratio^i, floor·ratio^(i+1))."""

    floor: float = 0.001
    ratio: float = 1.1
    counts: dict[int, int] = {}


class MemberStatus(msgspec.Struct, frozen=True):
    """One replica as one gateway (or, merged, as all gateways) sees it. Ages are seconds at the time of the reply."""

    replica: str
    incarnation: str
    state: MemberState
    beat_age: float
    weights_digest: str
    accelerator: str
    exact: bool
    step_floor_seconds: float
    streams: int = 0
    token_age: float | None = None
    """Since a token from this replica, client's or canary's; None when none ever came."""
    load: Load = Load()


class GatewayStatus(msgspec.Struct, frozen=True):
    """`GET /internal/status` of a gateway."""

    gateway: str
    members: tuple[MemberStatus, ...] = ()
    streams: int = 0
    waiting: int = 0
    token_age: float | None = None
    canary_error: str = ""
    ttft: Histogram = Histogram()
    inter_token: Histogram = Histogram()
    requests: int = 0
    lost: int = 0
    replays: int = 0
    draining: bool = False


class Recommendation(msgspec.Struct, frozen=True):
    """How many replicas the service needs to keep to its objectives. Nobody has to follow it."""

    replicas: int
    why: str


class ServiceStatus(msgspec.Struct, frozen=True):
    """`GET /internal/status` of the coordinator: all gateways merged, and what it would do next."""

    service: str
    gateways: tuple[GatewayStatus, ...] = ()
    members: tuple[MemberStatus, ...] = ()
    unreachable: tuple[str, ...] = ()
    """Addresses of gateways that did not answer the last poll."""
    departure_order: tuple[str, ...] = ()
    """Replicas in the order in which a scale-down should take them: least to move first."""
    recommended: Recommendation | None = None
    """None without objectives, and until there is enough to go by."""
