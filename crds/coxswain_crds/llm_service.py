"""The LLMService: one model, served. Attribute docstrings are what `kubectl explain` prints."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Interval, MaxLen, MinLen
from pydantic import ConfigDict, Field

from coxswain_crds import durations, names
from coxswain_crds.schema import SUBDOMAIN, WHOLE, ListMap, Model, Rule, StringMap, lacks, matches

_PATH = "[A-Za-z0-9._@+=/-]*"
_REPOSITORY = "[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"

Duration = Annotated[
    str,
    MaxLen(16),
    matches(durations.PATTERN, "must be a whole number and one of ms, s, m, h, such as 500ms, 2s or 5m"),
]


def _within(shortest: str, longest: str) -> Rule:
    """The duration is in the closed interval. Text that is no duration is left to the rule of `Duration`."""

    def holds(text: str) -> bool:
        return durations.seconds(shortest) <= durations.seconds(text) <= durations.seconds(longest)

    bounds = f"duration(self) >= duration('{shortest}') && duration(self) <= duration('{longest}')"
    guard = f"!self.matches(r'^(?:{durations.PATTERN})$')"
    return Rule(f"{guard} || ({bounds})", f"must be between {shortest} and {longest}", holds)


class ModelSource(Model):
    """Where the model comes from and what clients call it."""

    uri: Annotated[
        str,
        MinLen(1),
        MaxLen(512),
        matches(
            f"hf://{_REPOSITORY}|pvc://{SUBDOMAIN}(/{_PATH})?|file:///{_PATH}",
            "must be hf://ORG/NAME, pvc://CLAIM/PATH or file:///PATH",
        ),
        lacks("/[.][.](/|$)", "must not contain .. as a part of its path"),
    ]
    """A directory in Hugging Face format: config.json, safetensors, tokenizer.json.
    hf://ORG/NAME is downloaded, pvc://CLAIM/PATH is read from a PersistentVolumeClaim of the same namespace,
    file:///PATH is read from the node, if the chart's modelSources.allowedFilePrefixes allows it."""
    revision: (
        Annotated[
            str,
            MaxLen(128),
            matches(
                "[A-Za-z0-9][A-Za-z0-9._/-]*",
                "must start with a letter or digit and hold only letters, digits and . _ / -",
            ),
        ]
        | None
    ) = None
    """Of hf://: branch, tag or commit. Of pvc:// and file://: any name for what the path holds now.
    Changing it replaces the replicas one after another; their streams move without loss."""
    served: (
        Annotated[
            str,
            MaxLen(128),
            matches(
                "[A-Za-z0-9][A-Za-z0-9._:/-]*",
                "must start with a letter or digit and hold only letters, digits and . _ : / -",
            ),
        ]
        | None
    ) = None
    """The name of the model in the OpenAI API. Left out: the name of this object."""


class Engine(Model):
    """What runs the model."""

    type: Literal["Native"] = "Native"
    """Native is Coxswain's own engine for Llama- and Qwen-family checkpoints."""
    image: (
        Annotated[
            str,
            MaxLen(512),
            matches("[A-Za-z0-9][A-Za-z0-9._:/@-]*", "must be a container image, such as registry/name:tag"),
        ]
        | None
    ) = None
    """Container image of the replicas. Left out: the image that the chart was installed with."""
    args: Annotated[list[Annotated[str, MaxLen(1024)]], MaxLen(64)] = Field(default_factory=list)
    """More flags for the engine, such as --max-num-seqs=64 or --arithmetic=fast."""


class AcceleratorChoice(Model):
    """One kind of accelerator that a role may run on."""

    class_: Annotated[
        str,
        MinLen(1),
        MaxLen(253),
        matches(SUBDOMAIN, "must be the name of an AcceleratorClass: lowercase letters, digits, - and ."),
    ] = Field(alias="class")
    """Name of an AcceleratorClass. Each replica gets one accelerator of it."""


class TemplateMetadata(Model):
    """Labels and annotations to add; those that Coxswain sets itself win."""

    labels: StringMap = Field(default_factory=dict)
    """Labels to add."""
    annotations: StringMap = Field(default_factory=dict)
    """Annotations to add."""


class PodTemplatePatch(Model):
    """A patch of the Pods that Coxswain makes for a role."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations to add; those that Coxswain sets itself win."""
    spec: dict[str, Any] = Field(default_factory=dict)
    """Any part of a PodSpec, laid over the one that Coxswain makes: objects are merged, lists of named items
    (containers, volumes, env, …) are merged by name, every other value replaces. The container of the engine is
    called engine."""


class Role(Model):
    """One part of the service that has Pods of its own."""

    name: Literal["Serve"]
    """Serve does both prefill and decode."""
    accelerators: Annotated[list[AcceleratorChoice], MaxLen(1), ListMap("class")] = Field(default_factory=list)
    """What to run on. Left out: the CPU."""
    template: PodTemplatePatch = PodTemplatePatch()
    """A patch of the Pods that Coxswain makes for this role: requests and limits, tolerations, volumes."""


class Objective(Model):
    """So many per cent of requests are to be at least as fast as the target."""

    percentile: Annotated[int, Interval(ge=1, le=99), WHOLE] = 95
    """Per cent of requests that are to be as fast as the target."""
    target: Annotated[Duration, _within("1ms", "10m")]
    """The latency they are not to exceed, such as 500ms. Refused below what one measured step of the engine takes."""


class Objectives(Model):
    """Latencies that the service is to keep to."""

    ttft: Objective | None = None
    """Time from a request to its first token."""
    inter_token: Objective | None = None
    """Time from one token of a stream to the next."""


class Scaling(Model):
    """How many replicas."""

    replicas: Annotated[int, Interval(ge=0, le=1000)] = 1
    """Replicas to run; this is what `kubectl scale` sets. 0 keeps the gateways, which answer 503."""


class Resilience(Model):
    """What happens to streams when their replica leaves or dies."""

    on_drain: Literal["Migrate", "Finish"] = "Migrate"
    """Migrate moves the streams of a leaving replica at once. Finish lets them end there, until drainTimeout."""
    drain_timeout: Annotated[Duration, _within("0s", "24h")] = "300s"
    """How long a leaving replica may take; what still runs then is moved."""
    replay: Literal["Seamless", "Exact", "Disabled"] = "Seamless"
    """How streams of a lost replica go on elsewhere. Seamless continues from the tokens already sent. Exact also
    promises the very tokens that would have come anyway, within one accelerator class, and costs some speed.
    Disabled ends them with an error."""


class LLMServiceSpec(Model):
    """What is wanted."""

    model: ModelSource
    """Where the model comes from and what clients call it."""
    engine: Engine = Engine()
    """What runs the model."""
    roles: Annotated[list[Role], MaxLen(1), ListMap("name")] = Field(default_factory=list)
    """Parts of the service with Pods of their own. Left out: one role, Serve, on the CPU."""
    objectives: Objectives = Objectives()
    """Latencies to keep to. They are measured and reported in status; the condition ObjectivesMet judges them."""
    scaling: Scaling = Scaling()
    """How many replicas."""
    resilience: Resilience = Resilience()
    """What happens to streams when their replica leaves or dies."""

    @property
    def serve(self) -> Role:
        """The role Serve, whether it is written out or not."""
        return next(iter(self.roles), Role(name="Serve"))


class ServiceMetadata(Model):
    """The part of an object's metadata that Coxswain reads; the API server owns the rest."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[
        str,
        matches(
            f"[a-z]([-a-z0-9]{{0,{names.MAX_NAME_LENGTH - 2}}}[a-z0-9])?",
            f"must start with a letter, hold only lowercase letters, digits and -, and have at most "
            f"{names.MAX_NAME_LENGTH} characters: Services are named after it",
        ),
    ]
    namespace: str = ""
    uid: str = ""
    generation: int = 0


class LLMService(Model):
    """One large language model, served over the OpenAI API by as many replicas as are asked for."""

    api_version: Literal["coxswain.dev/v1alpha1"]
    kind: Literal["LLMService"]
    metadata: ServiceMetadata
    spec: LLMServiceSpec
    """What is wanted."""
    status: dict[str, Any] = Field(default_factory=dict)
    """What was observed; written by the operator, described by `LLMServiceStatus`, and never a reason to refuse."""
