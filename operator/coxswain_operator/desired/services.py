"""The three Services: for clients, for replicas to find all gateways, for whoever asks the coordinator."""

from __future__ import annotations

from typing import Any

from coxswain_crds import names
from coxswain_operator.desired.ownership import Owner

Object = dict[str, Any]


def client_service(owner: Owner) -> Object:
    """Port 80, to any gateway that is ready."""
    spec = {
        "type": "ClusterIP",
        "selector": names.component_selector(owner.name, names.GATEWAY),
        "ports": [_port(names.PORT_NAME_HTTP, names.SERVICE_PORT, names.HTTP_PORT)],
    }
    return _service(owner, owner.name, names.GATEWAY, spec)


def gateways_service(owner: Owner) -> Object:
    """Every gateway by address, ready or not: a replica introduces itself to all of them."""
    ports = [
        _port(names.PORT_NAME_REPLICAS, names.REPLICA_PORT, names.REPLICA_PORT),
        _port(names.PORT_NAME_STATUS, names.STATUS_PORT, names.STATUS_PORT),
    ]
    spec = _headless(names.component_selector(owner.name, names.GATEWAY), ports)
    return _service(owner, names.gateway_service(owner.name), names.GATEWAY, spec)


def coordinator_service(owner: Owner) -> Object:
    """The coordinator by address."""
    ports = [_port(names.PORT_NAME_STATUS, names.STATUS_PORT, names.STATUS_PORT)]
    spec = _headless(names.component_selector(owner.name, names.COORDINATOR), ports)
    return _service(owner, names.coordinator(owner.name), names.COORDINATOR, spec)


def _headless(selector: dict[str, str], ports: list[Object]) -> Object:
    return {
        "type": "ClusterIP",
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector,
        "ports": ports,
    }


def _port(name: str, port: int, target: int) -> Object:
    return {"name": name, "port": port, "targetPort": target, "protocol": "TCP"}


def _service(owner: Owner, name: str, component: str, spec: Object) -> Object:
    return {"apiVersion": "v1", "kind": "Service", "metadata": owner.metadata(name, component), "spec": spec}
