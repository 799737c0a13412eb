"""Why a replica does not start, read off its Pod.

A replica that cannot start says so itself, as JSON in its termination log. What dies before it could, the kubelet and
the scheduler explain in their own words, which are put into the same closed set of reasons.
"""

from __future__ import annotations

from typing import Any

import msgspec

from coxswain_crds.reasons import StartFailure

Object = dict[str, Any]

MAX_MESSAGE = 1024

_WAITING = {
    "ErrImagePull": StartFailure.IMAGE_PULL_FAILED,
    "ImagePullBackOff": StartFailure.IMAGE_PULL_FAILED,
    "InvalidImageName": StartFailure.IMAGE_PULL_FAILED,
    "ErrImageNeverPull": StartFailure.IMAGE_PULL_FAILED,
    "CreateContainerConfigError": StartFailure.CONTAINER_CONFIG_ERROR,
    "CreateContainerError": StartFailure.CONTAINER_CONFIG_ERROR,
    "RunContainerError": StartFailure.CONTAINER_CONFIG_ERROR,
}


class Failure(msgspec.Struct, frozen=True):
    """One reason of `StartFailure`, the field of the LLMService that it is about, and a sentence."""

    reason: str
    message: str
    field: str = ""

    def sentence(self) -> str:
        """Field and message, as they go into a condition."""
        return f"{self.field}: {self.message}" if self.field else self.message


class _Said(msgspec.Struct):
    """What a replica writes to its termination log."""

    reason: str
    message: str = ""
    field: str = ""


def failure_of(status: Object) -> Failure | None:
    """What keeps a Pod from running, by its status; None when nothing does."""
    if status.get("phase") == "Failed" and status.get("reason"):
        return Failure(StartFailure.CRASHED, f"the Pod failed: {status['reason']}: {status.get('message', '')}")
    for container in status.get("containerStatuses") or []:
        failure = _of_container(container)
        if failure is not None:
            return failure
    return _unscheduled(status)


def _of_container(container: Object) -> Failure | None:
    if container.get("ready"):
        return None
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason", "")
    if reason in _WAITING:
        return Failure(_WAITING[reason], waiting.get("message", reason)[:MAX_MESSAGE])
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    return _ended(ended, image=container.get("image", "")) if ended else None


def _ended(ended: Object, *, image: str) -> Failure | None:
    code = ended.get("exitCode", 0)
    said = _said(ended.get("message", ""))
    if said is not None:
        return said
    if ended.get("reason") == "OOMKilled":
        return Failure(StartFailure.OUT_OF_MEMORY, "the container was killed for using more memory than its limit")
    if code == 0:
        return None
    last = ended.get("message", "").strip()[-MAX_MESSAGE:]
    message = f"the container ({image}) ended with exit code {code}" + (f": {last}" if last else "")
    return Failure(StartFailure.CRASHED, message)


def _said(text: str) -> Failure | None:
    """The failure that a replica wrote itself; None when it is not one."""
    try:
        said = msgspec.json.decode(text, type=_Said)
        reason = StartFailure(said.reason)
    except (msgspec.MsgspecError, ValueError):
        return None
    return Failure(reason, said.message[:MAX_MESSAGE], said.field)


def _unscheduled(status: Object) -> Failure | None:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return Failure(StartFailure.UNSCHEDULABLE, condition.get("message", "")[:MAX_MESSAGE])
    return None
