"""Everything of a service but its Secret and its replicas, ready to be applied."""

from __future__ import annotations

from typing import Any

from coxswain_operator.desired.budget import budget
from coxswain_operator.desired.coordinator import coordinator
from coxswain_operator.desired.digest import stamped
from coxswain_operator.desired.gateway import gateway
from coxswain_operator.desired.ownership import Owner
from coxswain_operator.desired.services import client_service, coordinator_service, gateways_service
from coxswain_operator.settings import Settings

Object = dict[str, Any]


def children(owner: Owner, settings: Settings) -> tuple[Object, ...]:
    """Services first, so that names resolve before anybody looks them up."""
    return (
        stamped(gateways_service(owner)),
        stamped(coordinator_service(owner)),
        stamped(client_service(owner)),
        stamped(gateway(owner, settings)),
        stamped(coordinator(owner, settings)),
        stamped(budget(owner)),
    )
