"""The operator against a real API server without nodes: a thousand services, their children, changes, memory.

Beside it, in the same run and on as many objects of the same kind in another namespace, a plain kopf handler. Both see
the same changes in turns; while one works the other is idle.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import aiohttp
from rich.console import Console

from benchmarks.api_client import Client, Stored, connected
from benchmarks.processes import Measured, running
from benchmarks.rows import Row, Section
from coxswain_crds import names
from coxswain_operator.cluster.kinds import CHILDREN, PODS, SERVICES
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.ports import free_ports

OURS, PEER = "ours", "peer"
PEER_NAME = "kopf handler without children"
DEADLINE_SECONDS = 300.0
CHILDREN_PER_SERVICE = {"Secret": 1, "Service": 3, "Deployment": 2, "PodDisruptionBudget": 1}
REPLICAS = 1

CRDS = Path(__file__).parents[1] / "crds" / "manifests"
SERVICE: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.LLM_SERVICE,
    "spec": {"model": {"uri": "pvc://models/tiny"}, "scaling": {"replicas": REPLICAS}},
}


@dataclass(frozen=True)
class Taken:
    """What bringing every service up to date took."""

    seconds: float
    cpu_seconds: float
    writes: int
    """Changes of the services themselves by the operator, the benchmark's own not counted."""


@dataclass
class Side:
    """One of the two, and what was measured of it."""

    process: Measured
    namespace: str
    idle_mib: float = 0.0
    full_mib: float = 0.0
    created: Taken = Taken(0.0, 0.0, 0)
    changed: list[Taken] = field(default_factory=list)

    def median(self, figure: Literal["seconds", "cpu_seconds", "writes"]) -> float:
        """Of all rounds of changes."""
        return statistics.median(float(getattr(one, figure)) for one in self.changed)


async def measure(*, services: int, rounds: int, console: Console) -> Section:
    """Start everything, run all measurements, end it."""
    with ControlPlane(controllers=False, services="10.96.0.0/16", console=console) as plane:
        plane.kubectl("apply", "--server-side", "-f", str(CRDS))
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all")
        for namespace in (OURS, PEER):
            plane.kubectl("create", "namespace", namespace)
            plane.kubectl("create", "serviceaccount", "default", "-n", namespace)
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(connected(plane.kubeconfig))
            port = free_ports(1)[0]
            ours = await stack.enter_async_context(running("operator", _operator(plane.kubeconfig, port)))
            peer = await stack.enter_async_context(running("kopf", _kopf(), env={"KUBECONFIG": str(plane.kubeconfig)}))
            return await _measure(client, ours, peer, port, services=services, rounds=rounds, console=console)


async def _measure(
    client: Client, ours: Measured, peer: Measured, port: int, *, services: int, rounds: int, console: Console
) -> Section:
    await _leads(client, ours, port)
    sides = [Side(ours, OURS), Side(peer, PEER)]
    for side in sides:
        console.print(f"operator: create {services} services, {side.process.name}")
        await side.process.settled()
        side.idle_mib = side.process.memory_mib()
        side.created = await _take(client, side, _create(client, side.namespace, services))
        side.full_mib = side.process.memory_mib()
    await _check_children(client, services)
    for number in range(1, rounds + 1):
        for side in sides:
            console.print(f"operator: change {services} services, round {number} of {rounds}, {side.process.name}")
            side.changed.append(await _take(client, side, _change(client, side.namespace, services, seconds=number)))
    return Section(
        title="Operator",
        workload=(
            f"etcd and API server on the same machine, no controllers, no nodes; {services} LLMServices of {REPLICAS} "
            f"replica ({sum(CHILDREN_PER_SERVICE.values()) + REPLICAS} children each, checked). A change is one of "
            "spec.objectives, reconciled when status.observedGeneration says so; median of "
            f"{rounds} interleaved rounds. CPU is the operator's alone. The peer's handler makes no children and "
            "writes one status field."
        ),
        rows=_rows(services, *sides),
    )


def _rows(services: int, ours: Side, peer: Side) -> list[Row]:
    def row(name: str, unit: str, figure: Callable[[Side], float]) -> Row:
        return Row(name=f"operator_{name}", value=figure(ours), unit=unit, peer=PEER_NAME, peer_value=figure(peer))

    return [
        row("reconciles_per_cpu_second", "1/s", lambda side: services / side.median("cpu_seconds")),
        row("reconciles_per_second", "1/s", lambda side: services / side.median("seconds")),
        row("writes_per_reconcile", "PATCHes", lambda side: side.median("writes") / services),
        row("memory_0_services", "MiB", lambda side: side.idle_mib),
        row(f"memory_{services}_services", "MiB", lambda side: side.full_mib),
        row("creations_per_second", "services/s", lambda side: services / side.created.seconds),
        row("creation_cpu", "ms/service", lambda side: side.created.cpu_seconds / services * 1e3),
    ]


async def _take(client: Client, side: Side, changes: Iterable[Awaitable[Stored]]) -> Taken:
    """Send all changes, and wait until the status of each says that it was acted on."""
    watcher = asyncio.create_task(_watch(client, side.namespace, len(sending := list(changes))))
    await asyncio.sleep(0.5)  # the watch is established; events before the changes are none
    process = side.process
    cpu, started = process.cpu_seconds(), time.perf_counter()
    sent = asyncio.gather(*sending)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await sent
        ended, events = await watcher
    await process.settled()
    return Taken(ended - started, process.cpu_seconds() - cpu, events - len(sending))


async def _watch(client: Client, namespace: str, services: int) -> tuple[float, int]:
    """When the last service was up to date, and how many changes of services there were until things were quiet."""
    settled: set[str] = set()
    events, ended = 0, 0.0
    changes = client.events(SERVICES, namespace)
    while True:
        try:
            # Once all are settled, a straggling write (kopf's second) still comes within a second.
            async with asyncio.timeout(2.0 if len(settled) == services else None):
                one = await anext(changes)
        except TimeoutError:
            return ended, events
        events += 1
        if one.status.observed_generation >= one.metadata.generation:
            if one.metadata.name not in settled:
                ended = time.perf_counter()
            settled.add(one.metadata.name)


def _create(client: Client, namespace: str, services: int) -> Iterable[Awaitable[Stored]]:
    path = SERVICES.path(namespace=namespace)
    return [client.send("POST", path, SERVICE | {"metadata": {"name": _name(one)}}) for one in range(services)]


def _change(client: Client, namespace: str, services: int, *, seconds: int) -> Iterable[Awaitable[Stored]]:
    body = {"spec": {"objectives": {"ttft": {"target": f"{seconds}s"}}}}
    paths = [SERVICES.path(namespace=namespace, name=_name(one)) for one in range(services)]
    return [client.send("PATCH", path, body, kind="application/merge-patch+json") for path in paths]


async def _check_children(client: Client, services: int) -> None:
    """Raises RuntimeError when there are not as many of each kind as there must be."""
    wanted = {CHILDREN[kind]: count for kind, count in CHILDREN_PER_SERVICE.items()} | {PODS: REPLICAS}
    for kind, count in wanted.items():
        found = await client.count(kind, OURS)
        if found != count * services:
            raise RuntimeError(f"{found} objects of kind {kind.kind} were made, not {count * services}")


async def _leads(client: Client, operator: Measured, port: int) -> None:
    """Wait until the operator holds its Lease."""
    async with asyncio.timeout(60):
        while True:
            operator.cpu_seconds()  # raises when it has ended
            try:
                async with client.session.get(f"http://127.0.0.1:{port}/metrics") as response:
                    if "coxswain_leader 1.0" in await response.text():
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.1)


def _operator(kubeconfig: Path, port: int) -> list[str]:
    flags = ["--worker-image=none/none:none", f"--kubeconfig={kubeconfig}", f"--metrics-port={port}"]
    return [
        sys.executable,
        "-m",
        "coxswain_operator",
        "run",
        *flags,
        f"--watch-namespace={OURS}",
        "--namespace=default",
    ]


def _kopf() -> list[str]:
    peer = Path(__file__).with_name("kopf_peer.py")
    return [sys.executable, "-m", "kopf", "run", "--standalone", "--quiet", f"--namespace={PEER}", str(peer)]


def _name(number: int) -> str:
    return f"service-{number:04}"
