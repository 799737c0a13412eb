"""Our own format: kinds of engine by accelerator, role and tensor parallelism, with tables or with cost models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from coxswain_scheduler import interface
from coxswain_scheduler.costs.profiles import profile
from coxswain_scheduler.costs.transfer import Link
from coxswain_scheduler.placement.capacity import capacity
from coxswain_scheduler.placement.objectives import nearest
from coxswain_scheduler.placement.problem import Bucket, Kind, Present, Problem
from coxswain_simulate import quantities
from coxswain_simulate.documents import Document
from coxswain_simulate.errors import InputError
from coxswain_simulate.placements.case import (
    Case,
    Edges,
    Flags,
    Number,
    Positive,
    Table,
    buckets,
    check_distribution,
    check_shape,
    throughput,
)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} has no unit")  # noqa: TRY004 - pydantic reports ValueErrors
    return value


Seconds = Annotated[float, BeforeValidator(lambda value: quantities.seconds(_text(value))), Field(gt=0)]
Bandwidth = Annotated[float, BeforeValidator(lambda value: quantities.bytes_per_second(_text(value)))]
Share = Annotated[float, BeforeValidator(lambda value: quantities.share(str(value)))]
Count = Annotated[int, Field(ge=0)]
Parallel = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel, populate_by_name=True)


class Lengths(_Model):
    """Shares of the requests by prompt (rows) and answer (columns) of up to so many tokens."""

    input_edges: Edges
    output_edges: Edges
    distribution: Table


class Objectives(_Model):
    """Means, both."""

    ttft: Seconds
    inter_token: Seconds

    def asked(self) -> interface.Objectives:
        """For the library."""
        return interface.Objectives(ttft=self.ttft, inter_token=self.inter_token)


class Accelerator(_Model):
    """What one costs, and how many there are."""

    price: Positive
    stock: Count | None = None


class Measured(_Model):
    """A table measured at these objectives."""

    ttft: Seconds
    inter_token: Seconds
    requests_per_second: Table


class Engine(_Model):
    """A kind of engine: measured, or by the cost model of a profile."""

    accelerator: Name
    role: Literal["Serve", "Prefill", "Decode"] = "Serve"
    tensor_parallel: Parallel = 1
    measured: Annotated[list[Measured], Field(min_length=1)] | None = None
    profile: Name | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Engine:
        if (self.measured is None) == (self.profile is None):
            raise ValueError("give either measured, with tables, or profile, with the name of a cost model")
        return self


class Current(_Model):
    """What runs now, and what changes cost."""

    mix: dict[str, Count]
    start: Number = 0.0
    stop: Number = 0.0
    hours: Positive = 1.0
    tolerance: Share = 0.0


class File(_Model):
    """One file."""

    rate: Positive | None = None
    objectives: Objectives
    lengths: Lengths
    accelerators: Annotated[dict[str, Accelerator], Field(min_length=1)]
    engines: Annotated[list[Engine], Field(min_length=1)]
    budget: Number | None = None
    slice_factor: Parallel | None = None
    link: Bandwidth = float("inf")
    current: Current | None = None


def read_ours(document: Document, flags: Flags) -> Case:
    """Our own format. Raises InputError."""
    if flags.profile is not None:
        raise InputError(f"{document.path} names its profiles itself: leave --profile out")
    file = document.checked(File)
    if (rate := flags.rate or file.rate) is None:
        raise document.wrong(("rate",), "is missing: requests per second, here or with --rate")
    warnings = check_distribution(document, "lengths.distribution", file.lengths.distribution)
    _check(document, file)
    lengths = buckets(file.lengths.distribution, rate, file.lengths.input_edges, file.lengths.output_edges)
    asked = file.objectives.asked()

    def problem(objectives: interface.Objectives) -> Problem:
        kinds = [_kind(file, engine, lengths, objectives) for engine in file.engines]
        return _problem(document, file, lengths, kinds, parts=flags.parts(file.slice_factor))

    def others() -> str:
        found = nearest(asked, lambda objectives: not problem(objectives).unserved())
        if found is None:
            return "no objectives make it possible: some requests do not fit into any engine"
        return (
            f"the nearest objectives that can be met are TTFT {found.ttft:g} s and inter-token {found.inter_token:g} s"
        )

    return Case(problem=problem(asked), warnings=warnings, nearest=others)


def _check(document: Document, file: File) -> None:
    """What the fields say about each other."""
    lengths = file.lengths
    check_shape(
        document,
        ("lengths", "distribution"),
        lengths.distribution,
        [[0.0] * len(lengths.output_edges)] * len(lengths.input_edges),
    )
    seen: set[tuple[str, str, int]] = set()
    for index, engine in enumerate(file.engines):
        if engine.accelerator not in file.accelerators:
            there = ", ".join(file.accelerators)
            raise document.wrong(("engines", index, "accelerator"), f"{engine.accelerator} is not among {there}")
        if (key := (engine.accelerator, engine.role, engine.tensor_parallel)) in seen:
            raise document.wrong(("engines", index), "this accelerator, role and tensorParallel are there already")
        seen.add(key)
        _check_source(document, index, engine, lengths.distribution)


def _check_source(document: Document, index: int, engine: Engine, distribution: Table) -> None:
    for place, measured in enumerate(engine.measured or ()):
        field = ("engines", index, "measured", place, "requestsPerSecond")
        check_shape(document, field, measured.requests_per_second, distribution)
    if engine.profile is None:
        return
    try:
        gpus = profile(engine.profile).gpus
    except ValueError as error:
        raise document.wrong(("engines", index, "profile"), str(error)) from None
    if gpus != engine.tensor_parallel:
        raise document.wrong(
            ("engines", index, "profile"), f"runs on {gpus}, tensorParallel is {engine.tensor_parallel}"
        )


def _kind(file: File, engine: Engine, lengths: tuple[Bucket, ...], objectives: interface.Objectives) -> Kind:
    return Kind(
        accelerator=engine.accelerator,
        role=engine.role,
        tensor_parallel=engine.tensor_parallel,
        price=file.accelerators[engine.accelerator].price * engine.tensor_parallel,
        throughput=_modelled(file, engine, lengths, objectives)
        if engine.profile
        else _measured(engine, len(lengths), objectives),
    )


def _modelled(
    file: File, engine: Engine, lengths: tuple[Bucket, ...], objectives: interface.Objectives
) -> tuple[float, ...]:
    model, link = profile(engine.profile or ""), Link(file.link, 0.0)
    return tuple(
        capacity(model, bucket, objectives, role=engine.role, link=link) if bucket.rate > 0 else 0.0
        for bucket in lengths
    )


def _measured(engine: Engine, count: int, objectives: interface.Objectives) -> tuple[float, ...]:
    """Of the tables whose objectives are at least as tight as those asked for, the best figure for each bucket."""
    tables = [
        throughput(table.requests_per_second)
        for table in engine.measured or ()
        if (engine.role == "Decode" or table.ttft <= objectives.ttft)
        and (engine.role == "Prefill" or table.inter_token <= objectives.inter_token)
    ]
    return tuple(max((table[b] for table in tables), default=0.0) for b in range(count))


def _problem(
    document: Document, file: File, lengths: tuple[Bucket, ...], kinds: list[Kind], *, parts: int | None
) -> Problem:
    stock = {name: each.stock for name, each in file.accelerators.items() if each.stock is not None}
    try:
        return Problem(
            buckets=lengths,
            kinds=tuple(kinds),
            stock=stock,
            budget=file.budget,
            slice_factor=parts,
            present=_present(document, file.current, {kind.name for kind in kinds}),
        )
    except ValueError as error:
        raise document.wrong((), str(error)) from None


def _present(document: Document, current: Current | None, names: set[str]) -> Present | None:
    if current is None:
        return None
    fields: Mapping[str, Any] = current.model_dump(exclude={"mix"})
    for name in current.mix:
        if name not in names:
            raise document.wrong(
                ("current", "mix", name), f"there is no such engine; they are {', '.join(sorted(names))}"
            )
    return Present(engines=current.mix, **fields)
