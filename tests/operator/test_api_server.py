"""The operator against etcd and a real API server, without nodes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.operator.conftest import GROUP, Namespace, Operator, eventually

pytestmark = pytest.mark.apiserver

CHILDREN = {
    "chat": "/api/v1/namespaces/{0}/services/chat",
    "chat-gateways": "/api/v1/namespaces/{0}/services/chat-gateways",
    "chat-coordinator": "/api/v1/namespaces/{0}/services/chat-coordinator",
    "gateway": "/apis/apps/v1/namespaces/{0}/deployments/chat-gateway",
    "coordinator": "/apis/apps/v1/namespaces/{0}/deployments/chat-coordinator",
    "budget": "/apis/policy/v1/namespaces/{0}/poddisruptionbudgets/chat",
    "token": "/api/v1/namespaces/{0}/secrets/chat-token",
}


def child(namespace: Namespace, name: str) -> dict[str, Any] | None:
    return namespace.get(CHILDREN[name].format(namespace.name))


def test_everything_a_service_needs_appears_owned_by_it(namespace: Namespace, operator: Operator) -> None:
    uid = namespace.apply({"scaling": {"replicas": 3}})["metadata"]["uid"]
    eventually(lambda: len(namespace.pod_names()) == 3, "three replicas")
    for name in CHILDREN:
        found = eventually(partial(child, namespace, name), name)
        (owner,) = found["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (uid, True)
    assert namespace.pod_names() == {"chat-serve-0-1", "chat-serve-1-1", "chat-serve-2-1"}
    conditions = eventually(namespace.conditions, "conditions")
    assert conditions["Accepted"]["status"] == "True"
    assert conditions["Ready"]["status"] == "False"
    status = namespace.service()["status"]
    assert status["url"] == f"http://chat.{namespace.name}.svc"
    assert status["replicas"] == 3


def test_the_service_itself_is_left_alone(namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    eventually(namespace.conditions, "conditions")
    metadata = namespace.service()["metadata"]
    assert "finalizers" not in metadata
    assert "annotations" not in metadata


def test_scaling_and_the_scale_subresource(namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    eventually(lambda: len(namespace.pod_names()) == 1, "one replica")
    namespace.plane.kubectl("scale", "-n", namespace.name, "llms/chat", "--replicas=3")
    eventually(lambda: len(namespace.pod_names()) == 3, "three replicas")
    path = f"{GROUP}/namespaces/{namespace.name}/llmservices/chat/scale"
    scale = eventually(lambda: (found := namespace.get(path)) and found["status"].get("replicas") == 3 and found, "3")
    _, selected = namespace.client.request(
        "GET", f"/api/v1/namespaces/{namespace.name}/pods", labelSelector=scale["status"]["selector"]
    )
    assert {pod["metadata"]["name"] for pod in selected["items"]} == namespace.pod_names()
    namespace.plane.kubectl("scale", "-n", namespace.name, "llms/chat", "--replicas=1")
    eventually(lambda: len(namespace.pod_names()) == 1, "one replica again")


def test_the_budget_lets_one_replica_go_at_a_time(namespace: Namespace, operator: Operator) -> None:
    namespace.apply({"scaling": {"replicas": 3}})
    for name in eventually(lambda: len(found := namespace.pod_names()) == 3 and found, "three replicas"):
        namespace.become_ready(name)

    def status() -> dict[str, Any]:
        return dict((child(namespace, "budget") or {}).get("status", {}))

    eventually(lambda: status().get("disruptionsAllowed") == 1, "one allowed disruption")
    assert (status()["expectedPods"], status()["desiredHealthy"]) == (3, 2)
    namespace.plane.kubectl("scale", "-n", namespace.name, "llms/chat", "--replicas=1")
    eventually(lambda: status().get("desiredHealthy") == 0, "a budget for one replica")


def test_a_changed_model_rolls_out_with_one_replica_more(namespace: Namespace, operator: Operator) -> None:
    namespace.apply({"scaling": {"replicas": 2}})
    eventually(lambda: len(namespace.pod_names()) == 2, "two replicas")
    old = namespace.pod_names()
    for name in old:
        namespace.become_ready(name)
    eventually(lambda: namespace.service()["status"].get("readyReplicas") == 2, "two ready replicas")
    namespace.apply({"scaling": {"replicas": 2}, "model": {"uri": "pvc://models/other"}})
    (new,) = eventually(lambda: namespace.pod_names() - old, "a successor")
    assert namespace.pod_names() >= old
    namespace.become_ready(new)
    (second,) = eventually(lambda: namespace.pod_names() - old - {new}, "a second successor")
    assert len(namespace.pod_names()) == 3
    namespace.become_ready(second)
    eventually(lambda: namespace.pod_names() == {new, second}, "the old ones to be gone")


def test_an_invalid_spec_is_refused_and_what_runs_keeps_running(namespace: Namespace, operator: Operator) -> None:
    namespace.apply({"scaling": {"replicas": 2}})
    eventually(lambda: len(namespace.pod_names()) == 2, "two replicas")
    running = {pod["metadata"]["uid"] for pod in namespace.pods()}
    namespace.apply({"scaling": {"replicas": 1}, "model": {"uri": "file:///etc/models"}})
    accepted = eventually(
        lambda: (c := namespace.conditions().get("Accepted")) and c["status"] == "False" and c, "Accepted=False"
    )
    assert accepted["reason"] == "ModelSourceNotAllowed"
    assert "spec.model.uri" in accepted["message"]
    assert {pod["metadata"]["uid"] for pod in namespace.pods()} == running
    namespace.apply({"scaling": {"replicas": 1}})
    eventually(lambda: len(namespace.pod_names()) == 1, "the corrected spec to be acted on")


def test_a_missing_accelerator_class_is_waited_for(namespace: Namespace, operator: Operator) -> None:
    kind = f"gpu-{namespace.name}"
    namespace.apply({"roles": [{"name": "Serve", "accelerators": [{"class": kind}]}]})
    eventually(lambda: namespace.conditions().get("Accepted", {}).get("status") == "False", "Accepted=False")
    assert namespace.conditions()["Accepted"]["reason"] == "AcceleratorClassNotFound"
    assert not namespace.pods()
    body = {
        "apiVersion": "coxswain.dev/v1alpha1",
        "kind": "AcceleratorClass",
        "metadata": {"name": kind},
        "spec": {"resourceName": "example.com/gpu", "nodeSelector": {"model": "big"}},
    }
    assert namespace.client.request("POST", f"{GROUP}/acceleratorclasses", body)[0] == 201
    try:
        (pod,) = eventually(namespace.pods, "a replica")
        assert pod["spec"]["containers"][0]["resources"]["limits"] == {"example.com/gpu": "1"}
        assert pod["spec"]["nodeSelector"] == {"model": "big"}
    finally:
        namespace.client.request("DELETE", f"{GROUP}/acceleratorclasses/{kind}")


def test_a_deleted_replica_comes_back_under_another_name(namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    eventually(lambda: namespace.pod_names() == {"chat-serve-0-1"}, "a replica")
    namespace.plane.kubectl("delete", "pod", "-n", namespace.name, "chat-serve-0-1", "--grace-period=0", "--force")
    eventually(lambda: namespace.pod_names() == {"chat-serve-0-2"}, "its replacement")


def test_what_somebody_changes_or_deletes_is_put_right(namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    path = CHILDREN["gateway"].format(namespace.name)
    eventually(lambda: namespace.get(path), "the gateways")
    namespace.plane.kubectl("scale", "-n", namespace.name, "deployment/chat-gateway", "--replicas=5")
    eventually(lambda: (namespace.get(path) or {})["spec"]["replicas"] == 2, "two gateways again")
    token = eventually(partial(child, namespace, "token"), "the Secret")["data"]
    for kind in ("service/chat", "secret/chat-token", "pdb/chat"):
        namespace.plane.kubectl("delete", "-n", namespace.name, kind)
    for name in ("chat", "token", "budget"):
        eventually(partial(child, namespace, name), name)
    assert (namespace.get(CHILDREN["token"].format(namespace.name)) or {})["data"] == token


def test_an_object_of_somebody_else_is_not_taken_over(namespace: Namespace, operator: Operator) -> None:
    namespace.plane.kubectl("create", "service", "clusterip", "chat", "-n", namespace.name, "--tcp=1234")
    namespace.apply()
    eventually(lambda: namespace.conditions().get("Accepted", {}).get("status") == "False", "Accepted=False")
    assert "Service chat" in namespace.conditions()["Accepted"]["message"]
    theirs = namespace.get(CHILDREN["chat"].format(namespace.name)) or {}
    assert [port["port"] for port in theirs["spec"]["ports"]] == [1234]


def test_a_replica_that_cannot_start_says_why_in_the_conditions(namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    eventually(namespace.pod_names, "a replica")
    said = '{"reason": "WeightsCorrupt", "field": "spec.model.uri", "message": "model.safetensors is truncated"}'
    ended = {"exitCode": 1, "message": said, "startedAt": None, "finishedAt": None}
    container = {
        **{"name": "engine", "image": "worker:1", "imageID": "", "ready": False, "restartCount": 1},
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": ended},
    }
    namespace.patch_pod_status("chat-serve-0-1", {"phase": "Running", "containerStatuses": [container]})
    eventually(lambda: namespace.is_degraded("True"), "Degraded")
    conditions = namespace.conditions()
    assert conditions["Degraded"]["reason"] == "WeightsCorrupt"
    assert conditions["Degraded"]["message"] == "spec.model.uri: model.safetensors is truncated"
    assert conditions["Progressing"]["reason"] == "BackingOff"
    assert namespace.pod_names() == {"chat-serve-0-1"}


def test_a_pod_that_the_api_server_refuses_is_reported_and_tried_again(
    namespace: Namespace, operator: Operator
) -> None:
    namespace.apply({"roles": [{"name": "Serve", "template": {"spec": {"hostNetwork": True}}}]})
    eventually(lambda: namespace.conditions().get("Degraded", {}).get("reason") == "PodRefused", "PodRefused")
    assert "PodSecurity" in namespace.conditions()["Degraded"]["message"]
    namespace.apply({"roles": [{"name": "Serve"}]})
    eventually(namespace.pod_names, "a replica of the corrected spec")
    eventually(lambda: namespace.is_degraded("False"), "not Degraded")


def test_deleting_a_service_deletes_everything_of_it(namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    eventually(namespace.conditions, "a status")
    namespace.delete()
    eventually(lambda: not namespace.pods(), "no Pod")
    eventually(lambda: not any(child(namespace, name) for name in CHILDREN), "nothing of it")
    namespace.apply()
    eventually(lambda: len(namespace.pod_names()) == 1, "a replica of the new service")


def test_once_at_rest_a_pass_writes_nothing_and_a_change_of_status_is_one_patch(
    namespace: Namespace, own: Operator
) -> None:
    namespace.apply()
    eventually(lambda: namespace.conditions().get("Accepted"), "a status")
    eventually(own.is_quiet, "no more requests")
    before = own.patches()
    namespace.become_ready("chat-serve-0-1")
    eventually(lambda: namespace.service()["status"].get("readyReplicas") == 1, "a ready replica")
    eventually(own.is_quiet, "no more requests")
    assert own.patches() == before + 1


def test_a_rollout_restart_of_the_gateways_is_not_undone(namespace: Namespace, own: Operator) -> None:
    namespace.apply()
    path = CHILDREN["gateway"].format(namespace.name)
    eventually(lambda: namespace.get(path), "the gateways")
    eventually(own.is_quiet, "no more requests")
    namespace.plane.kubectl("rollout", "restart", "-n", namespace.name, "deployment/chat-gateway")
    eventually(own.is_quiet, "no more requests")
    found = (namespace.get(path) or {})["spec"]["template"]["metadata"]["annotations"]
    assert "kubectl.kubernetes.io/restartedAt" in found


def test_events_are_counted_not_repeated(namespace: Namespace, own: Operator) -> None:
    namespace.apply()
    eventually(lambda: _events(namespace) == [("ReplicaCreated", "made chat-serve-0-1")], "an event")
    for _ in range(3):
        (name,) = namespace.pod_names()
        namespace.plane.kubectl("delete", "pod", "-n", namespace.name, name, "--grace-period=0", "--force")
        eventually(partial(_is_replaced, namespace, name), "a replacement")
    eventually(own.is_quiet, "no more requests")
    assert len(_events(namespace)) <= 2


def _is_replaced(namespace: Namespace, name: str) -> bool:
    found = namespace.pod_names()
    return bool(found) and name not in found


def _events(namespace: Namespace) -> list[tuple[str, str]]:
    listed = namespace.get(f"/apis/events.k8s.io/v1/namespaces/{namespace.name}/events") or {}
    ours = [event for event in listed["items"] if event["regarding"]["kind"] == "LLMService"]
    return sorted((event["reason"], event["note"]) for event in ours)
