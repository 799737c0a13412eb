"""Operators that come after one another: ended, killed, deposed, started again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.operator.conftest import LEASE, Namespace, Operator, eventually

pytestmark = pytest.mark.apiserver


def test_an_operator_that_starts_with_an_invalid_spec_leaves_what_runs_alone(
    namespace: Namespace, operators: Callable[..., Operator]
) -> None:
    first = operators("first").ready().leading()
    generation = namespace.apply({"scaling": {"replicas": 2}})["metadata"]["generation"]
    eventually(lambda: len(namespace.pod_names()) == 2, "two replicas")
    eventually(first.is_quiet, "no more requests")
    first.kill(signal.SIGTERM)
    namespace.apply({"scaling": {"replicas": 1}, "model": {"uri": "file:///etc/models"}})
    second = operators("second").ready().leading()
    eventually(lambda: namespace.conditions().get("Accepted", {}).get("status") == "False", "Accepted=False")
    eventually(second.is_quiet, "no more requests")
    assert len(namespace.pod_names()) == 2
    assert namespace.conditions()["WorkloadsReady"]["observedGeneration"] == generation


def test_another_operator_takes_over_at_once_when_one_ends_and_within_the_lease_when_one_dies(
    namespace: Namespace, operators: Callable[..., Operator]
) -> None:
    first = operators("first").ready().leading()
    second = operators("second").ready()
    namespace.apply()
    eventually(namespace.pod_names, "a replica")
    uid = namespace.pods()[0]["metadata"]["uid"]
    assert second.metric("coxswain_leader") == 0

    began = time.monotonic()
    assert first.kill(signal.SIGTERM) == 0
    second.leading()
    assert time.monotonic() - began < 5

    third = operators("third").ready()
    began = time.monotonic()
    second.kill(signal.SIGKILL)
    third.leading()
    assert time.monotonic() - began < 20
    lease = namespace.get(LEASE.format(namespace=namespace.name)) or {}
    assert lease["spec"]["holderIdentity"] == "third"
    assert [pod["metadata"]["uid"] for pod in namespace.pods()] == [uid]


def test_an_operator_whose_lease_is_taken_ends_with_an_error(namespace: Namespace, own: Operator) -> None:
    path = LEASE.format(namespace=namespace.name)
    patch = {"spec": {"holderIdentity": "somebody"}}
    assert namespace.client.request("PATCH", path, patch, kind="application/merge-patch+json")[0] == 200
    assert own.process is not None
    assert own.process.wait(timeout=15) == 1
    assert any("the lease is held by somebody" in line["message"] for line in own.lines())


def test_a_restarted_operator_changes_nothing(namespace: Namespace, operators: Callable[..., Operator]) -> None:
    first = operators("first").ready().leading()
    namespace.apply({"scaling": {"replicas": 2}})
    eventually(lambda: len(namespace.pod_names()) == 2, "two replicas")
    eventually(first.is_quiet, "no more requests")
    before = namespace.service()["metadata"]["resourceVersion"]
    first.kill(signal.SIGTERM)
    second = operators("second").ready().leading()
    eventually(lambda: second.metric("coxswain_reconcile_total") >= 1, "a pass")
    eventually(second.is_quiet, "no more requests")
    assert second.patches() == 0
    assert namespace.service()["metadata"]["resourceVersion"] == before
