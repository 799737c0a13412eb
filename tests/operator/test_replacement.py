"""Dead nodes: passes over a real API server, with the gateways' word, the nodes and the time handed in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from coxswain_operator.cluster.api import Api
from coxswain_operator.cluster.cache import Cache, Key
from coxswain_operator.cluster.kinds import NODES
from coxswain_operator.cluster.login import Login
from coxswain_operator.cluster.resync import resync
from coxswain_operator.judging.loss import GRACE_SECONDS
from coxswain_operator.observing.view import UNKNOWN, Member, View
from coxswain_operator.reconciling.events import Events
from coxswain_operator.reconciling.reconcile import Reconciler
from coxswain_operator.settings import Settings
from tests.operator.conftest import Namespace, eventually

pytestmark = pytest.mark.apiserver


@dataclass
class Bench:
    """One service with three ready replicas on nodes a, b, c."""

    namespace: Namespace
    api: Api
    cache: Cache = field(default_factory=Cache)
    view: View = UNKNOWN
    now: float = 0.0
    nodes_version: int = 0

    def __post_init__(self) -> None:
        self.key: Key = (self.namespace.name, "chat")
        self.reconciler = self.started()

    def started(self) -> Reconciler:
        """An operator that remembers nothing."""
        events = Events(self.api, identity="test")
        return Reconciler(
            api=self.api,
            cache=self.cache,
            settings=Settings("worker:1", "gateway:1"),
            view=lambda _: self.view,
            events=events,
            clock=lambda: self.now,
        )

    async def passes(self) -> float | None:
        await resync(self.api, self.cache, lambda _: None, namespaces=[self.namespace.name])
        await self.reconciler.reconcile(self.key)
        await resync(self.api, self.cache, lambda _: None, namespaces=[self.namespace.name])
        return await self.reconciler.reconcile(self.key)

    def nodes(self, **ready: bool) -> None:
        """Nodes as the control plane sees them; the API server has none of its own."""
        self.nodes_version += 1
        for name, is_ready in ready.items():
            condition = {"type": "Ready", "status": "True" if is_ready else "Unknown"}
            metadata = {"name": name, "resourceVersion": str(10**12 + self.nodes_version)}
            self.cache.put(NODES, {"metadata": metadata, "status": {"conditions": [condition]}})

    def gateways_hear(self, **states: str) -> None:
        members = {f"chat-serve-{slot.removeprefix('s')}": Member(state) for slot, state in states.items()}  # type: ignore[arg-type]
        members = {name.replace("_", "-"): member for name, member in members.items()}
        self.view = View(answered=True, coordinator=True, members=members, heard=frozenset(members))

    def bind(self, pod: str, node: str) -> None:
        body = {"metadata": {"name": pod}, "target": {"kind": "Node", "name": node}}
        path = f"/api/v1/namespaces/{self.namespace.name}/pods/{pod}/binding"
        status, answer = self.namespace.client.request("POST", path, body)
        assert status == 201, answer


@pytest.fixture
async def bench(alone: None, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("KUBECONFIG", str(namespace.plane.kubeconfig))
    api = Api(Login(namespace.plane.kubeconfig))
    bench = Bench(namespace, api)
    namespace.apply({"scaling": {"replicas": 3}})
    bench.nodes(a=True, b=True, c=True)
    await bench.passes()
    for slot, node in enumerate("abc"):
        bench.bind(f"chat-serve-{slot}-1", node)
        namespace.become_ready(f"chat-serve-{slot}-1")
    bench.gateways_hear(s0_1="Ready", s1_1="Ready", s2_1="Ready")
    await bench.passes()
    assert namespace.pod_names() == {"chat-serve-0-1", "chat-serve-1-1", "chat-serve-2-1"}
    yield bench
    await api.close()


async def test_what_died_with_its_node_is_replaced_at_once_and_deleted_when_the_replacement_serves(
    bench: Bench,
) -> None:
    bench.nodes(a=False)
    bench.gateways_hear(s0_1="Lost", s1_1="Ready", s2_1="Ready")
    await bench.passes()
    assert bench.namespace.pod_names() == {"chat-serve-0-1", "chat-serve-0-2", "chat-serve-1-1", "chat-serve-2-1"}
    conditions = bench.namespace.conditions()
    assert conditions["Degraded"]["reason"] == "ReplicasLost"
    assert conditions["Progressing"]["reason"] == "Replacing"
    assert "chat-serve-0-1" in bench.namespace.service()["status"]["lastDecision"]
    bench.bind("chat-serve-0-2", "b")
    bench.namespace.become_ready("chat-serve-0-2")
    bench.gateways_hear(s0_1="Lost", s0_2="Ready", s1_1="Ready", s2_1="Ready")
    await bench.passes()
    assert bench.namespace.pod_names() == {"chat-serve-0-2", "chat-serve-1-1", "chat-serve-2-1"}
    assert bench.namespace.conditions()["Degraded"]["status"] == "False"


async def test_a_replica_that_still_beats_is_kept_whatever_its_node_is_said_to_be(bench: Bench) -> None:
    bench.nodes(a=False, b=False)
    for bench.now in (0.0, 60.0, 3600.0):
        await bench.passes()
    assert bench.namespace.pod_names() == {"chat-serve-0-1", "chat-serve-1-1", "chat-serve-2-1"}


async def test_when_all_nodes_are_down_nothing_is_replaced(bench: Bench) -> None:
    bench.nodes(a=False, b=False, c=False)
    bench.gateways_hear(s0_1="Lost", s1_1="Lost", s2_1="Lost")
    for bench.now in (0.0, 60.0, 3600.0):
        await bench.passes()
    assert bench.namespace.pod_names() == {"chat-serve-0-1", "chat-serve-1-1", "chat-serve-2-1"}
    assert bench.namespace.conditions()["Degraded"]["reason"] == "AllNodesNotReady"


async def test_after_an_outage_of_the_api_server_stale_nodes_replace_nothing(bench: Bench) -> None:
    """A new operator, which has not heard from any gateway yet, sees nodes whose leases ran out during the outage."""
    bench.nodes(a=False, b=False)
    bench.view = UNKNOWN
    bench.reconciler = bench.started()
    again_after = await bench.passes()
    assert again_after is not None
    assert again_after <= GRACE_SECONDS
    bench.now = GRACE_SECONDS - 1
    await bench.passes()
    bench.nodes(a=True, b=True)
    bench.now = 10 * GRACE_SECONDS
    await bench.passes()
    assert bench.namespace.pod_names() == {"chat-serve-0-1", "chat-serve-1-1", "chat-serve-2-1"}


async def test_with_no_gateway_to_ask_a_dead_node_is_believed_after_a_while(bench: Bench) -> None:
    bench.nodes(a=False)
    bench.view = UNKNOWN
    await bench.passes()
    assert "chat-serve-0-2" not in bench.namespace.pod_names()
    bench.now = GRACE_SECONDS + 1
    await bench.passes()
    assert "chat-serve-0-2" in bench.namespace.pod_names()


async def test_a_replica_whose_node_comes_back_first_stays_and_the_surplus_goes(bench: Bench) -> None:
    bench.nodes(a=False)
    bench.gateways_hear(s0_1="Lost", s1_1="Ready", s2_1="Ready")
    await bench.passes()
    assert "chat-serve-0-2" in bench.namespace.pod_names()
    bench.nodes(a=True)
    bench.gateways_hear(s0_1="Ready", s1_1="Ready", s2_1="Ready")
    await bench.passes()
    assert bench.namespace.pod_names() == {"chat-serve-0-1", "chat-serve-1-1", "chat-serve-2-1"}


async def test_ready_means_that_a_token_came_lately_from_a_replica_of_this_spec(bench: Bench) -> None:
    assert bench.namespace.conditions()["Ready"]["reason"] == "GatewaysStarting"
    _gateways_ready(bench)
    await bench.passes()
    assert bench.namespace.conditions()["Ready"]["reason"] == "NoTokenLately"
    served = Member("Ready", token_lately=True)
    bench.view = View(answered=True, coordinator=True, members=dict(bench.view.members) | {"chat-serve-1-1": served})
    await bench.passes()
    ready = bench.namespace.conditions()["Ready"]
    assert (ready["status"], ready["reason"]) == ("True", "Serving")
    assert ready["observedGeneration"] == bench.namespace.service()["metadata"]["generation"]
    bench.namespace.apply({"scaling": {"replicas": 3}, "model": {"uri": "pvc://models/new"}})
    await bench.passes()
    assert bench.namespace.conditions()["Ready"]["status"] == "False"


def _gateways_ready(bench: Bench) -> None:
    space = bench.namespace
    for pod in eventually(lambda: len(found := space.pods("gateway")) == 2 and found, "two gateways"):
        space.become_ready(pod["metadata"]["name"])
    path = f"/apis/apps/v1/namespaces/{space.name}/deployments/chat-gateway"
    eventually(lambda: (space.get(path) or {})["status"].get("readyReplicas") == 2, "two ready gateways")
