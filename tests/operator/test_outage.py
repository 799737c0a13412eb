"""The API server goes away and comes back: one of its own, so that the tests beside these notice nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from e2e.cluster.control_plane import ControlPlane
from tests.crds.conftest import Client
from tests.operator.conftest import MANIFESTS, Namespace, Operator, eventually

pytestmark = pytest.mark.apiserver


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with ControlPlane(controllers=False) as plane:
        plane.kubectl("apply", "--server-side", "-f", str(MANIFESTS))
        plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(MANIFESTS))
        plane.kubectl("create", "serviceaccount", "default", "-n", "default")
        client = Client(plane)
        yield Namespace(plane, client, "default")
        client.close()


def test_an_outage_ends_the_leader_and_replaces_nothing(
    namespace: Namespace, operators: Callable[..., Operator]
) -> None:
    """The leader ends when its Lease runs out, as its Pod would be restarted; who starts meanwhile waits."""
    first = operators("first").ready().leading()
    namespace.apply({"scaling": {"replicas": 2}})
    eventually(lambda: len(namespace.pod_names()) == 2, "two replicas")
    eventually(lambda: first.metric("coxswain_queue_depth") == 0, "nothing to be due")
    before = {pod["metadata"]["uid"] for pod in namespace.pods()}

    namespace.plane.stop_api_server(signal.SIGKILL)
    try:
        assert first.process is not None
        assert first.process.wait(timeout=30) == 1
        assert any("could not be renewed" in line["message"] for line in first.lines())
        second = operators("second")
        eventually(lambda: second.page("/live")[0] == 200, "the second operator to be alive")
        eventually(lambda: any("no answer" in line["message"] for line in second.lines()), "a message about it")
        assert second.page("/ready")[0] == 503
    finally:
        namespace.plane.start_api_server()
        namespace.client.close()
    second.ready().leading()
    eventually(lambda: second.metric("coxswain_reconcile_total") >= 1, "a pass")
    assert {pod["metadata"]["uid"] for pod in namespace.pods()} == before
    namespace.apply({"scaling": {"replicas": 3}})
    eventually(lambda: len(namespace.pod_names()) == 3, "the operator to act again")


def test_a_standby_lives_through_an_outage_with_its_cache(
    namespace: Namespace, operators: Callable[..., Operator]
) -> None:
    operators("leader").ready().leading()
    standby = operators("standby").ready()
    namespace.plane.stop_api_server(signal.SIGKILL)
    namespace.plane.start_api_server()
    namespace.client.close()
    namespace.apply()
    eventually(namespace.pod_names, "a replica", timeout=60)
    eventually(lambda: standby.metric("coxswain_watch_events_total") > 0, "the standby to watch again")
    assert standby.process is not None
    assert standby.process.poll() is None


def test_kinds_that_the_api_server_did_not_know_at_first_are_watched_later(
    namespace: Namespace, operators: Callable[..., Operator]
) -> None:
    """As of an API server that has just started: for a moment it has neither all groups nor says so."""
    plane = namespace.plane
    plane.stop_api_server(signal.SIGKILL)
    plane.api_server_flags = ("--runtime-config=policy/v1=false",)
    plane.start_api_server()
    operator, other = operators("first"), operators("second")
    lines = [operator.lines, other.lines]
    eventually(lambda: all(any("PodDisruptionBudget" in each["message"] for each in said()) for said in lines), "both")
    assert operator.page("/ready")[0] == 503
    assert other.kill(signal.SIGTERM) == 0
    plane.stop_api_server(signal.SIGKILL)
    plane.api_server_flags = ()
    plane.start_api_server()
    namespace.client.close()
    operator.ready().leading()
    namespace.apply({"scaling": {"replicas": 2}})
    watched = 'coxswain_watch_events_total{kind="PodDisruptionBudget"}'
    eventually(lambda: operator.metric(watched) > 0, "a budget to be seen")
