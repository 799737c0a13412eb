"""Addresses and links: each node a namespace, all on one bridge in a namespace of its own, no route out.

Only one link per cluster shows in the host's namespace, and no firewall rule. Addresses are of 198.18.0.0/15, which
is set aside for benchmarks (RFC 2544), so they collide with no real network.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster.commands import run
from e2e.cluster.errors import ClusterError

RANGE = ipaddress.IPv4Network("198.18.0.0/15")
SLOT_PREFIX = 20
SLOTS = 2 ** (SLOT_PREFIX - RANGE.prefixlen)
MAX_NODES = 14


@dataclass(frozen=True)
class Subnets:
    """The addresses of one cluster: a /20 of the range, cut into sixteen /24."""

    slot: int

    @property
    def network(self) -> ipaddress.IPv4Network:
        """All of them."""
        return list(RANGE.subnets(new_prefix=SLOT_PREFIX))[self.slot]

    @property
    def host(self) -> str:
        """This machine, as the nodes see it: the API server listens here."""
        return str(self._part(0)[1])

    @property
    def services(self) -> str:
        """Of cluster IPs."""
        return str(self._part(1))

    @property
    def dns(self) -> str:
        """The cluster IP of CoreDNS."""
        return str(self._part(1)[10])

    def node(self, index: int) -> str:
        """Address of a node, numbered from 1."""
        return str(self._part(0)[10 + index])

    def pods(self, index: int) -> str:
        """The subnet of a node's Pods."""
        return str(self._part(1 + index))

    def _part(self, number: int) -> ipaddress.IPv4Network:
        return list(self.network.subnets(new_prefix=24))[number]


def used_slots() -> set[int]:
    """Slots of which this machine has addresses or routes."""
    found = set()
    for link in json.loads(run("ip", "-j", "-4", "address")):
        found |= {_slot(each["local"]) for each in link.get("addr_info", ())}
    found |= {_slot(route["dst"].partition("/")[0]) for route in json.loads(run("ip", "-j", "-4", "route"))}
    return {slot for slot in found if slot is not None}


def _slot(address: str) -> int | None:
    try:
        number = int(ipaddress.IPv4Address(address)) - int(RANGE.network_address)
    except ValueError:
        return None
    slot = number >> (32 - SLOT_PREFIX)
    return slot if 0 <= slot < SLOTS else None


@dataclass(frozen=True)
class Lan:
    """The wire between this machine and the nodes of the cluster `name`."""

    name: str
    subnets: Subnets

    @property
    def namespace(self) -> str:
        """Holds the bridge."""
        return f"{prefix(self.name)}lan"

    @property
    def link(self) -> str:
        """This machine's end."""
        return f"cxs{self.subnets.slot}"

    def create(self) -> None:
        """Lay the wire, and plug this machine in."""
        run("ip", "netns", "add", self.namespace)
        _quiet(self.namespace)
        self._ip("link", "add", "br0", "type", "bridge")
        self._ip("link", "set", "br0", "up")
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "host", "netns", self.namespace)
        self._ip("link", "set", "host", "master", "br0", "up")
        run("ip", "address", "add", f"{self.subnets.host}/24", "dev", self.link)
        run("ip", "link", "set", self.link, "up")

    def join(self, node: str, index: int, peers: Iterable[int]) -> None:
        """Make the namespace of node number `index`, plug it in, and route to the Pods of its peers and back."""
        namespace, address = self.node_namespace(node), self.subnets.node(index)
        run("ip", "netns", "add", namespace)
        _quiet(namespace)
        _forward(namespace)
        mac = "02:c5:" + ":".join(f"{int(part):02x}" for part in address.split("."))  # the same when the node returns
        peer = ("peer", "name", node, "netns", self.namespace)
        run("ip", "-n", namespace, "link", "add", "eth0", "address", mac, "type", "veth", *peer)
        self._ip("link", "set", node, "master", "br0")
        run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            run("ip", "-n", namespace, "link", "set", link, "up")
        self.connect(node)
        for other in peers:
            if other != index:
                run("ip", "-n", namespace, "route", "add", self.subnets.pods(other), "via", self.subnets.node(other))
        run("ip", "route", "replace", self.subnets.pods(index), "via", address)

    def node_namespace(self, node: str) -> str:
        """The network namespace of a node."""
        return f"{prefix(self.name)}{node}"

    def connect(self, node: str) -> None:
        """Put the node's plug in."""
        self._ip("link", "set", node, "up")

    def cut(self, node: str) -> None:
        """Pull the node's plug: silence, no FIN or RST."""
        self._ip("link", "set", node, "down")

    def connected(self, node: str) -> bool:
        """Whether the plug is in."""
        return any(link["ifname"] == node and "UP" in link["flags"] for link in self._links())

    def leave(self, node: str) -> None:
        """Take the node's plug and namespace away."""
        here = namespaces()
        if self.namespace in here and self._has(node):  # now, and not whenever the kernel tidies the namespace up
            self._ip("link", "delete", node)
        if (namespace := self.node_namespace(node)) in here:
            run("ip", "netns", "delete", namespace)

    def delete(self) -> None:
        """Take the wire and all namespaces away, as far as they are there."""
        if self.link in links():
            run("ip", "link", "delete", self.link)
        delete_namespaces(self.name)

    def _has(self, node: str) -> bool:
        return any(link["ifname"] == node for link in self._links())

    def _links(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._ip("-j", "link"))
        return found

    def _ip(self, *args: str) -> str:
        return run("ip", "-n", self.namespace, *args)


def prefix(name: str) -> str:
    """What the namespaces of a cluster are called: a dot ends its name, since that may hold hyphens."""
    return f"coxswain.{name}."


def delete_namespaces(name: str) -> None:
    """Take the network namespaces of a cluster away, and with them every link that ends in one."""
    for namespace in namespaces():
        if namespace.startswith(prefix(name)):
            run("ip", "netns", "delete", namespace)


def namespaces() -> list[str]:
    """Named network namespaces of this machine."""
    return sorted(path.name for path in Path("/run/netns").glob("*"))


def links() -> list[str]:
    """Links in the host's namespace."""
    return [each["ifname"] for each in json.loads(run("ip", "-j", "link"))]


def choose_slot(taken: set[int]) -> int:
    """The first slot that no cluster has. Raises ClusterError when there is none."""
    free = (slot for slot in range(SLOTS) if slot not in taken)
    if (slot := next(free, None)) is None:
        raise ClusterError(f"all {SLOTS} parts of {RANGE} are taken by other clusters on this machine")
    return slot


def _quiet(namespace: str) -> None:
    """No IPv6 here: its neighbour and router discovery would only be noise."""
    _write(namespace, "net/ipv6/conf/default/disable_ipv6", "1", optional=True)


def _forward(namespace: str) -> None:
    _write(namespace, "net/ipv4/ip_forward", "1")


def _write(namespace: str, setting: str, value: str, *, optional: bool = False) -> None:
    path = f"/proc/sys/{setting}"
    guard = f"[ ! -e {path} ] || " if optional else ""
    run("nsenter", f"--net=/run/netns/{namespace}", "sh", "-c", f"{guard}echo {value} > {path}")
