"""The status of an LLMService: what the operator saw and did last. Only the operator writes it."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, MaxLen
from pydantic import WithJsonSchema

from coxswain_crds.schema import ListMap, Model

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


class StatusCondition(Model):
    """One aspect of the state of the service."""

    type: Annotated[str, MaxLen(64)]
    """Ready, Accepted, WorkloadsReady, RouterReady, ObjectivesMet, Progressing, Degraded or Draining."""
    status: Literal["True", "False", "Unknown"]
    """Whether it is so."""
    reason: Annotated[str, MaxLen(128)]
    """One word for why; from a closed set for each type."""
    message: Annotated[str, MaxLen(32768)]
    """A sentence for a human; a line for each field when a spec is refused."""
    last_transition_time: Time
    """When the status last changed."""
    observed_generation: Annotated[int, Ge(0)] | None = None
    """The metadata.generation that this was said about."""


class Measured(Model):
    """Latencies over the last minutes, all gateways together."""

    ttft_p95: Annotated[str, MaxLen(16)] | None = None
    """95th percentile of the time to the first token, such as 180ms."""
    inter_token_p95: Annotated[str, MaxLen(16)] | None = None
    """95th percentile of the time between two tokens of a stream."""
    attainment_percent: Annotated[int, Ge(0)] | None = None
    """Per cent of requests as fast as the targets, of the objective that fares worse, rounded down."""
    step_floor: Annotated[str, MaxLen(16)] | None = None
    """The fastest step that the engine was measured to make; an objective below it is refused."""


class LLMServiceStatus(Model):
    """What was observed."""

    observed_generation: Annotated[int, Ge(0)] | None = None
    """The metadata.generation that this status is about."""
    url: Annotated[str, MaxLen(512)] | None = None
    """Where clients inside the cluster reach the OpenAI API."""
    replicas: Annotated[int, Ge(0)] | None = None
    """Replica Pods that exist and are not leaving."""
    ready_replicas: Annotated[int, Ge(0)] | None = None
    """Replicas that the gateways send requests to."""
    updated_replicas: Annotated[int, Ge(0)] | None = None
    """Replica Pods made from the current spec."""
    selector: Annotated[str, MaxLen(512)] | None = None
    """Label selector of the replica Pods, for autoscalers."""
    revision: Annotated[str, MaxLen(128)] | None = None
    """What the replicas serve: spec.model.revision where it is set, else a digest of the weights."""
    measured: Measured | None = None
    """Latencies over the last minutes."""
    last_decision: Annotated[str, MaxLen(1024)] | None = None
    """The last thing that the operator decided, and why, in a sentence."""
    conditions: Annotated[list[StatusCondition], MaxLen(16), ListMap("type")] | None = None
    """The state of the service, one aspect each."""
