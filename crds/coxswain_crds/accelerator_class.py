"""The AcceleratorClass: a kind of accelerator that the cluster has, named so that services can ask for it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import MaxLen, MinLen
from pydantic import ConfigDict, Field

from coxswain_crds.schema import SUBDOMAIN, Model, StringMap, matches


class AcceleratorClassSpec(Model):
    """How to get an accelerator of this class."""

    resource_name: Annotated[
        str,
        MinLen(1),
        MaxLen(316),
        matches(
            f"{SUBDOMAIN}/[A-Za-z0-9]([A-Za-z0-9._-]{{0,61}}[A-Za-z0-9])?",
            "must be an extended resource such as nvidia.com/gpu: a domain, a slash and a name",
        ),
    ]
    """The extended resource that a device plug-in announces, such as nvidia.com/gpu. A replica asks for one."""
    node_selector: StringMap = Field(default_factory=dict)
    """Labels of the nodes that carry this class, where the resource name alone does not tell them apart."""


class ClassMetadata(Model):
    """The part of an object's metadata that Coxswain reads; the API server owns the rest."""

    model_config = ConfigDict(extra="ignore")

    name: str


class AcceleratorClass(Model):
    """A kind of accelerator in this cluster, such as one model of GPU. Roles of an LLMService name it."""

    api_version: Literal["coxswain.dev/v1alpha1"]
    kind: Literal["AcceleratorClass"]
    metadata: ClassMetadata
    spec: AcceleratorClassSpec
    """How to get an accelerator of this class."""
    status: dict[str, Any] = Field(default_factory=dict)
