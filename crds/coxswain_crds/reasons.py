"""Condition types of an LLMService and, for each, the closed set of reasons it may carry, a sentence for each.

Reasons are API: scripts match on them, so one is never renamed and never reused with another meaning. Standard library
only: replicas import `StartFailure` to say why they could not start.
"""

from __future__ import annotations

from enum import StrEnum


class Condition(StrEnum):
    """Types in `status.conditions`: True, False or Unknown, each with the generation it was observed at."""

    READY = "Ready"
    """This generation has served a token lately, to a client or to the gateway's canary."""
    ACCEPTED = "Accepted"
    """The spec is valid and acted on; when False, what ran before keeps running."""
    WORKLOADS_READY = "WorkloadsReady"
    """All wanted replicas of this generation are known to the gateways as ready."""
    ROUTER_READY = "RouterReady"
    """At least one gateway takes requests."""
    OBJECTIVES_MET = "ObjectivesMet"
    """Measured latencies are within `spec.objectives`."""
    PROGRESSING = "Progressing"
    """The operator is bringing Pods towards the spec."""
    DEGRADED = "Degraded"
    """Something is broken that the operator is repairing or that a human must."""
    DRAINING = "Draining"
    """At least one replica is leaving and its streams are moving or finishing."""


class Accepted(StrEnum):
    """Reasons of `Accepted`."""

    VALID = "Valid"
    """Every field was understood and is acted on."""
    INVALID_SPEC = "InvalidSpec"
    """At least one field is wrong; the message has a line for each, with its path."""
    MODEL_SOURCE_NOT_ALLOWED = "ModelSourceNotAllowed"
    """`spec.model.uri` is a file:// path outside the chart's `modelSources.allowedFilePrefixes`."""
    OBJECTIVE_IMPOSSIBLE = "ObjectiveImpossible"
    """An objective is below what one measured engine step takes; the message names the nearest one that can be met."""
    ACCELERATOR_CLASS_NOT_FOUND = "AcceleratorClassNotFound"
    """A role names an AcceleratorClass that does not exist."""


class Ready(StrEnum):
    """Reasons of `Ready`; a reason of `StartFailure` appears here too when it is what keeps it from serving."""

    SERVING = "Serving"
    """A token was served lately."""
    NOT_ACCEPTED = "NotAccepted"
    """The spec was refused, and nothing of an earlier one serves."""
    SCALED_TO_ZERO = "ScaledToZero"
    """No replica is wanted."""
    REPLICAS_STARTING = "ReplicasStarting"
    """No replica is ready yet; the message counts them."""
    REPLICAS_LOST = "ReplicasLost"
    """There were ready replicas, and now there are none."""
    GATEWAYS_STARTING = "GatewaysStarting"
    """No gateway takes requests yet."""
    NO_TOKEN_LATELY = "NoTokenLately"  # noqa: S105
    """Gateways and replicas are up, but neither a client nor the canary has had a token lately."""
    CANARY_FAILED = "CanaryFailed"
    """The one-token request of a gateway failed; the message holds its error."""
    STATUS_UNREACHABLE = "StatusUnreachable"
    """Neither coordinator nor gateways answer the operator, so what they serve is unknown."""


class WorkloadsReady(StrEnum):
    """Reasons of `WorkloadsReady`; a reason of `StartFailure` appears here too."""

    ALL_READY = "AllReady"
    """Every wanted replica is ready."""
    SCALED_TO_ZERO = "ScaledToZero"
    """No replica is wanted, and none is left."""
    NOT_ACCEPTED = "NotAccepted"
    """The spec was refused, so no replica was made from it."""
    WAITING_FOR_REPLICAS = "WaitingForReplicas"
    """Some wanted replicas are still starting; the message counts them."""
    REPLICAS_LOST = "ReplicasLost"
    """Some replicas died and their replacements are not ready yet."""
    STATUS_UNREACHABLE = "StatusUnreachable"
    """Neither coordinator nor gateways answer the operator, so the replicas' state is unknown."""


class RouterReady(StrEnum):
    """Reasons of `RouterReady`."""

    ALL_READY = "AllReady"
    """Every gateway takes requests."""
    SOME_READY = "SomeReady"
    """Some gateways take requests; clients notice nothing."""
    WAITING_FOR_GATEWAYS = "WaitingForGateways"
    """No gateway takes requests yet."""
    NOT_ACCEPTED = "NotAccepted"
    """The spec was refused, so no gateway was made from it."""


class ObjectivesMet(StrEnum):
    """Reasons of `ObjectivesMet`."""

    MET = "Met"
    """The attainment is at least `spec.objectives.attainmentPercent`."""
    MISSED = "Missed"
    """At least one objective is missed; the message holds measured and wanted values."""
    NO_OBJECTIVES = "NoObjectives"
    """The spec states none."""
    NO_TRAFFIC = "NoTraffic"
    """Too few requests were measured to tell."""
    STATUS_UNREACHABLE = "StatusUnreachable"
    """Neither coordinator nor gateways answer the operator, so nothing is measured."""


class Progressing(StrEnum):
    """Reasons of `Progressing`."""

    COMPLETE = "Complete"
    """Everything is as the spec wants it."""
    STARTING = "Starting"
    """The first Pods of the service are being brought up."""
    SCALING = "Scaling"
    """Replicas are being added or taken away."""
    ROLLING_OUT = "RollingOut"
    """Replicas of an earlier spec are being replaced by replicas of this one."""
    REPLACING = "Replacing"
    """Lost replicas are being replaced."""
    BACKING_OFF = "BackingOff"
    """A replica cannot start; the next attempt waits, a little longer each time."""
    NOT_ACCEPTED = "NotAccepted"
    """The spec was refused, so there is nothing to do."""


class Degraded(StrEnum):
    """Reasons of `Degraded`; a reason of `StartFailure` appears here too."""

    HEALTHY = "Healthy"
    """Nothing is broken."""
    REPLICAS_LOST = "ReplicasLost"
    """Fewer replicas serve than are wanted because some died."""
    GATEWAYS_LOST = "GatewaysLost"
    """Fewer gateways than wanted take requests."""
    COORDINATOR_LOST = "CoordinatorLost"
    """The coordinator does not answer; serving goes on without it."""
    ALL_NODES_NOT_READY = "AllNodesNotReady"
    """Every node is NotReady, which says more about the control plane than about the nodes: nothing is replaced."""
    UNSCHEDULABLE = "Unschedulable"
    """A Pod fits on no node; the message is the scheduler's."""


class Draining(StrEnum):
    """Reasons of `Draining`."""

    NONE = "NoneDraining"
    """No replica is leaving."""
    REPLICAS_LEAVING = "ReplicasLeaving"
    """Replicas are leaving and their streams are moving or finishing; the message names them."""


class StartFailure(StrEnum):
    """Why a replica did not start: written by it to its termination log, or read off its Pod by the operator."""

    MODEL_NOT_FOUND = "ModelNotFound"
    """There is no such path, volume or repository."""
    MODEL_UNREADABLE = "ModelUnreadable"
    """A file of the model is there, and the replica's user may not read it."""
    REVISION_NOT_FOUND = "RevisionNotFound"
    """The repository exists, the revision does not."""
    MODEL_ACCESS_DENIED = "ModelAccessDenied"
    """The model exists and may not be read."""
    DOWNLOAD_FAILED = "DownloadFailed"
    """The model could not be fetched; trying again may help."""
    CONFIG_INVALID = "ConfigInvalid"
    """config.json is missing, is not JSON, or lacks what the architecture needs."""
    UNSUPPORTED_ARCHITECTURE = "UnsupportedArchitecture"
    """The engine does not know this architecture; the message lists those it knows."""
    WEIGHTS_MISSING = "WeightsMissing"
    """There are no safetensors files, or a tensor of the architecture is in none of them."""
    WEIGHTS_CORRUPT = "WeightsCorrupt"
    """A safetensors file is truncated or its header makes no sense."""
    WEIGHTS_MISMATCH = "WeightsMismatch"
    """A tensor has another shape or type than config.json says."""
    TOKENIZER_MISSING = "TokenizerMissing"
    """tokenizer.json is missing or cannot be read."""
    TOKENIZER_MISMATCH = "TokenizerMismatch"
    """The tokenizer knows token ids that the model has no embedding for."""
    OUT_OF_MEMORY = "OutOfMemory"
    """Weights and KV cache do not fit; also a container killed by the kernel for memory."""
    ARGUMENT_INVALID = "ArgumentInvalid"
    """A flag from `spec.engine.args` is unknown or has a bad value."""
    ACCELERATOR_UNAVAILABLE = "AcceleratorUnavailable"
    """The engine needs a device that the Pod does not see."""
    EXACT_UNAVAILABLE = "ExactUnavailable"
    """`replay: Exact` was asked for, and the arithmetic check at start-up did not hold on this machine."""
    ENGINE_HOST_FAILED = "EngineHostFailed"
    """Ray did not start in the Pod, or its actor died before it was ready."""
    GATEWAY_REFUSED = "GatewayRefused"
    """The gateways refused the replica: another protocol version, or another token."""
    INTERNAL_ERROR = "InternalError"
    """None of the above: an error of Coxswain itself; the message holds it."""
    IMAGE_PULL_FAILED = "ImagePullFailed"
    """The container image cannot be pulled."""
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    """The kubelet cannot make the container: a Secret or a key is missing, or the template patch asks for too much."""
    POD_REFUSED = "PodRefused"
    """The API server refused the Pod: quota, Pod Security, or a template patch that makes no valid Pod."""
    UNSCHEDULABLE = "Unschedulable"
    """The Pod fits on no node; the message is the scheduler's."""
    CRASHED = "Crashed"
    """The container ended without saying why; the message holds its exit code."""


class Event(StrEnum):
    """Reasons of Kubernetes events on an LLMService, beside those above."""

    REPLICA_CREATED = "ReplicaCreated"
    """A replica Pod was made."""
    REPLICA_REMOVED = "ReplicaRemoved"
    """A replica Pod was taken away: scale-down or roll-out."""
    REPLICA_LOST = "ReplicaLost"
    """A replica died or its node did; a replacement is made."""
    REPLICA_FAILED = "ReplicaFailed"
    """A replica could not start."""
    SPEC_REFUSED = "SpecRefused"
    """The spec is not acted on; `Accepted` says why."""
    SERVING = "Serving"
    """The service became Ready."""
    STOPPED_SERVING = "StoppedServing"
    """The service stopped being Ready."""
