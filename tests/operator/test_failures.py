"""Why a replica does not start, read off the status of its Pod."""

from __future__ import annotations

from typing import Any

import pytest

from coxswain_operator.cluster.failures import Failure, failure_of


def status(state: dict[str, Any], last: dict[str, Any] | None = None, *, ready: bool = False) -> dict[str, Any]:
    container = {"name": "engine", "image": "worker:1", "ready": ready, "state": state, "lastState": last or {}}
    return {"phase": "Running", "containerStatuses": [container]}


def ended(message: str = "", **fields: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": 1, "message": message} | fields}


def test_a_replica_says_itself_why() -> None:
    said = '{"reason": "ModelNotFound", "field": "spec.model.uri", "message": "there is no /models/x"}'
    found = failure_of(status({"waiting": {"reason": "CrashLoopBackOff"}}, ended(said)))
    assert found == Failure("ModelNotFound", "there is no /models/x", "spec.model.uri")
    assert found.sentence() == "spec.model.uri: there is no /models/x"


@pytest.mark.parametrize("said", ["", "Traceback", "{}", '{"reason": "Invented"}', "[1]", '{"reason": 3}'])
def test_what_is_no_such_message_is_a_crash_with_its_exit_code(said: str) -> None:
    found = failure_of(status(ended(said)))
    assert found is not None
    assert found.reason == "Crashed"
    assert "exit code 1" in found.message


def test_out_of_memory_is_said_by_the_kubelet() -> None:
    found = failure_of(status({"waiting": {}}, ended(reason="OOMKilled", exitCode=137)))
    assert found is not None
    assert found.reason == "OutOfMemory"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("ImagePullBackOff", "ImagePullFailed"), ("CreateContainerConfigError", "ContainerConfigError")],
)
def test_what_the_kubelet_waits_for(reason: str, expected: str) -> None:
    found = failure_of(status({"waiting": {"reason": reason, "message": "because"}}))
    assert found == Failure(expected, "because")


def test_a_pod_that_fits_nowhere() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    assert failure_of({"phase": "Pending", "conditions": [condition]}) == Failure("Unschedulable", "0/3 nodes")


def test_no_failure_of_what_runs_starts_or_was_told_to_end() -> None:
    assert failure_of(status({"running": {}}, ended("{}"), ready=True)) is None
    assert failure_of(status({"waiting": {"reason": "ContainerCreating"}})) is None
    assert failure_of(status({"running": {}}, ended(exitCode=0))) is None
    assert failure_of({}) is None
