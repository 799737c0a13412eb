"""Scenarios: what happens in a run besides the trace, as a YAML file. `docs/simulator.md` describes the schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from coxswain_scheduler.simulator.setup import Fault
from coxswain_simulate import quantities
from coxswain_simulate.documents import Document


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} has no unit")  # noqa: TRY004 - pydantic reports ValueErrors
    return value


_Seconds = Annotated[float, BeforeValidator(lambda value: quantities.seconds(_text(value)))]
_Bandwidth = Annotated[float, BeforeValidator(lambda value: quantities.bytes_per_second(_text(value)))]
_Share = Annotated[float, BeforeValidator(lambda value: quantities.share(str(value)))]
_Name = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(ge=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel, populate_by_name=True)


class Engines(_Model):
    """So many engines of one profile."""

    profile: _Name
    """A profile's name or the path of a timing file."""
    count: _Count = 1


class Link(_Model):
    """What KV travels over."""

    bandwidth: _Bandwidth
    latency: _Seconds = 0.0
    kv_bytes_per_token: _Count | None = None


class Workflows(_Model):
    """Chains of requests: each stage arrives when the one before has ended."""

    stages: Annotated[int, Field(ge=2)]
    pause: _Seconds = 0.0
    """Between the end of a stage and the arrival of the next."""
    deadline: _Seconds | None = None
    """For the whole chain; each stage gets an equal part of it."""


class Tenant(_Model):
    """Who sends a share of the requests, and what they want."""

    name: _Name
    share: _Share
    priority: int = 0
    deadline: _Seconds | None = None
    workflows: Workflows | None = None

    @model_validator(mode="after")
    def _one_deadline(self) -> Tenant:
        if self.workflows and self.workflows.deadline is not None and self.deadline is not None:
            raise ValueError("deadline is given twice: for the tenant and for its workflows")
        return self


class Incident(_Model):
    """A fault of one engine."""

    kind: Literal["Kill", "Slow", "Partition"]
    engine: Annotated[int, Field(ge=0)]
    at: _Seconds
    duration: _Seconds | None = None
    factor: Annotated[float, Field(gt=1, le=1e6)] | None = None
    detection: _Seconds = 0.8

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Incident:
        if (self.kind == "Kill") == (self.duration is not None):
            raise ValueError(
                f"duration is {'not for a Kill' if self.kind == 'Kill' else f'missing: how long is the {self.kind}'}"
            )
        if (self.kind == "Slow") == (self.factor is None):
            raise ValueError(
                f"factor is {'missing: how many times slower' if self.kind == 'Slow' else 'only for Slow'}"
            )
        return self

    def fault(self) -> Fault:
        """For the simulator."""
        return Fault(
            kind=self.kind,
            engine=self.engine,
            at=self.at,
            seconds=self.duration or 0.0,
            factor=self.factor or 1.0,
            detection_seconds=self.detection,
        )


class Retries(_Model):
    """What clients do who were refused."""

    times: _Count
    after: _Seconds = 1.0


class Scenario(_Model):
    """One file."""

    engines: tuple[Engines, ...] = Field(default=(), strict=False)
    startup: _Seconds | None = None
    """From asking for an engine to having it; by default the profile's own."""
    link: Link | None = None
    kv_event_lag: _Seconds | None = None
    tenants: tuple[Tenant, ...] = Field(default=(), strict=False)
    faults: tuple[Incident, ...] = Field(default=(), strict=False)
    scheduler_restarts: tuple[_Seconds, ...] = Field(default=(), strict=False)
    retries: Retries | None = None

    @model_validator(mode="after")
    def _tenants_add_up(self) -> Scenario:
        names = [tenant.name for tenant in self.tenants]
        if len(set(names)) < len(names):
            raise ValueError("tenants have the same name twice")
        if (total := sum(tenant.share for tenant in self.tenants)) > 1 + 1e-9:
            raise ValueError(f"tenants have shares of {total:.0%} in all")
        return self


def read_scenario(path: Path) -> Scenario:
    """The scenario in a file. Raises InputError that names file, line and field."""
    return Document(path).checked(Scenario)
