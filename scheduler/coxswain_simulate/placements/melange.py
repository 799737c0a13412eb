"""Mélange's inputs: its solver's own configuration, and tables for several objectives in one file."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from coxswain_scheduler.placement.problem import Kind, Problem
from coxswain_simulate.documents import Document
from coxswain_simulate.errors import InputError
from coxswain_simulate.placements.case import (
    Case,
    Edges,
    Flags,
    Positive,
    Table,
    buckets,
    check_distribution,
    check_shape,
    throughput,
)

_INPUT_EDGES = [25, 100, 250, 500, 1000, 2000, 4000, 8000, 12000, 16000]
_OUTPUT_EDGES = [25, 100, 250, 500, 1000, 2000]
_PREFIX = "profiles_"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Gpu(_Model):
    """One kind of GPU: dollars per hour and requests per second."""

    cost: Positive
    tputs: Table


Gpus = Annotated[dict[str, Gpu], Field(min_length=1)]


class Configuration(_Model):
    """What Mélange's solver is started with."""

    gpu_info: Gpus
    workload_distribution: Table
    total_request_rate: Positive
    slice_factor: Annotated[int, Field(ge=1)] | None = None


class Profiles(_Model):
    """Tables for several objectives: one field `profiles_…` for each."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    __pydantic_extra__: dict[str, Gpus]

    about: str = ""
    input_edges: Edges = _INPUT_EDGES
    output_edges: Edges = _OUTPUT_EDGES
    workload_distribution: Table


def read_configuration(document: Document, flags: Flags) -> Case:
    """Mélange's own configuration. Raises InputError."""
    if flags.profile is not None:
        raise InputError(f"{document.path} has one table only: leave --profile out")
    file = document.checked(Configuration)
    warnings = check_distribution(document, "workload_distribution", file.workload_distribution)
    rows, columns = len(file.workload_distribution), len(file.workload_distribution[0])
    problem = _problem(
        document,
        ("gpu_info",),
        file.gpu_info,
        file.workload_distribution,
        rate=flags.rate or file.total_request_rate,
        edges=(_edges(_INPUT_EDGES, rows), _edges(_OUTPUT_EDGES, columns)),
        parts=flags.parts(file.slice_factor),
    )
    return Case(problem=problem, warnings=warnings)


def read_profiles(document: Document, flags: Flags) -> Case:
    """Tables for several objectives, one of which `--profile` chooses. Raises InputError."""
    file = document.checked(Profiles)
    tables = file.__pydantic_extra__
    for name in tables:
        if not name.startswith(_PREFIX):
            raise document.wrong((name,), f"there is no such field; tables are called {_PREFIX}NAME")
    if flags.rate is None:
        raise InputError(f"{document.path} names no rate: add --rate with requests per second")
    warnings = check_distribution(document, "workload_distribution", file.workload_distribution)
    shape = len(file.workload_distribution), len(file.workload_distribution[0])
    for field, edges, count in (
        ("input_edges", file.input_edges, shape[0]),
        ("output_edges", file.output_edges, shape[1]),
    ):
        if len(edges) != count:
            raise document.wrong((field,), f"has {len(edges)} lengths; the distribution has {count}")
    problems = {
        name: _problem(
            document,
            (name,),
            tables[name],
            file.workload_distribution,
            rate=flags.rate,
            edges=(file.input_edges, file.output_edges),
            parts=flags.parts(None),
        )
        for name in tables
    }
    chosen = _chosen(document, list(tables), flags.profile)

    def others() -> str:
        served = [name.removeprefix(_PREFIX) for name, problem in problems.items() if not problem.unserved()]
        return f"all can be served as in {', '.join(served)}" if served else "no table of this file serves all"

    return Case(problem=problems[chosen], warnings=warnings, nearest=others)


def _problem(
    document: Document,
    field: tuple[str, ...],
    gpus: dict[str, Gpu],
    distribution: Table,
    *,
    rate: float,
    edges: tuple[list[int], list[int]],
    parts: int | None,
) -> Problem:
    for name, gpu in gpus.items():
        check_shape(document, (*field, name, "tputs"), gpu.tputs, distribution)
    kinds = [Kind(accelerator=name, price=gpu.cost, throughput=throughput(gpu.tputs)) for name, gpu in gpus.items()]
    return Problem(buckets=buckets(distribution, rate, *edges), kinds=tuple(kinds), slice_factor=parts)


def _edges(usual: list[int], count: int) -> list[int]:
    """Mélange's lengths, as far as a table has that many; else just numbers."""
    return usual[:count] if count <= len(usual) else list(range(1, count + 1))


def _chosen(document: Document, names: list[str], asked: str | None) -> str:
    """A table by its name, with or without what all names begin with, or by how it ends."""
    short = [name.removeprefix(_PREFIX) for name in names]
    if not names:
        raise InputError.at(document.path, 1, f"has no table: a field {_PREFIX}NAME is missing")
    if asked is None:
        if len(names) == 1:
            return names[0]
        raise InputError(f"{document.path} has tables for {', '.join(short)}: choose one with --profile")
    found = [name for name in names if name.removeprefix(_PREFIX) == asked.removeprefix(_PREFIX)]
    found = found or [name for name in names if name.endswith(f"_{asked}")]
    if len(found) != 1:
        raise InputError(f"{document.path} has no table {asked!r}; --profile is one of {', '.join(short)}")
    return found[0]
