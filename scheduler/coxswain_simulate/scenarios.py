"""Scenarios: what happens in a run besides the trace, as a YAML file. `docs/simulator.md` describes the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from coxswain_scheduler.simulator.setup import Fault
from coxswain_simulate import quantities
from coxswain_simulate.errors import InputError


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
    try:
        text = path.read_text("utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except OSError as error:
        raise InputError.at(path, None, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError.at(path, 1, "is not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError.at(
            path, mark.line + 1 if mark else 1, f"is not YAML: {error.problem or error.context}"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError.at(path, 1, f"is not YAML: {error}") from None
    if root is None:
        raise InputError.at(path, 1, "is empty")
    _refuse_repeated_keys(path, root)
    try:
        return Scenario.model_validate(document)
    except ValidationError as errors:
        first = errors.errors(include_url=False, include_context=False)[0]
        raise InputError.at(path, _line(root, first["loc"]), _told(first)) from None


def _told(error: Mapping[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "there is no such field"
    field = ".".join(map(str, error["loc"]))
    return f"{field}: {message}" if field else message


def _line(node: yaml.Node, path: tuple[int | str, ...]) -> int:
    """The line of the innermost part of `path` that is there."""
    line = int(node.start_mark.line) + 1
    for step in path:
        inner = next((pair for pair in _children(node) if pair[0] == step), None)
        if inner is None:
            break
        _, line, node = inner
    return line


def _children(node: yaml.Node) -> Iterator[tuple[int | str, int, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), int(key.start_mark.line) + 1, value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield index, int(value.start_mark.line) + 1, value


def _refuse_repeated_keys(path: Path, root: yaml.Node) -> None:
    """Each node is looked at once, though aliases may lead to it often, or in circles."""
    queue, known = [root], {id(root)}
    while queue:
        seen: set[int | str] = set()
        for key, line, child in _children(queue.pop()):
            if key in seen:
                raise InputError.at(path, line, f"{key}: is there twice")
            seen.add(key)
            if id(child) not in known:
                known.add(id(child))
                queue.append(child)
