"""What the readers of placement files give, and the tables that all of them have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from coxswain_scheduler.placement.problem import Bucket, Problem
from coxswain_simulate.documents import Document

Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Table = Annotated[list[Annotated[list[Number], Field(min_length=1)]], Field(min_length=1)]
"""Rows by input length, columns by output length."""
Edges = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]

_CANNOT = 1e-4
"""Mélange's tables put this rate where a size cannot be served within the objective."""
_ADDS_UP = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What the command line says beside the file; None where it says nothing."""

    rate: float | None = None
    profile: str | None = None
    slice_factor: int | None = None
    """0: none, whatever the file says."""

    def parts(self, file: int | None) -> int | None:
        """The slice factor that counts."""
        return (file if self.slice_factor is None else self.slice_factor) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A problem to solve."""

    problem: Problem
    warnings: tuple[str, ...] = ()
    nearest: Callable[[], str] = field(default=lambda: "no other objectives are known")
    """Says which objectives could be met, should those asked for not be."""


def throughput(table: Table) -> tuple[float, ...]:
    """A table in the order of the buckets, with 0 for what cannot be served."""
    return tuple(rate if rate > _CANNOT else 0.0 for row in table for rate in row)


def check_shape(document: Document, field: tuple[int | str, ...], table: Table, like: Table) -> None:
    """Raises InputError where `table` does not have the rows and columns of `like`, the distribution."""
    if len(table) != len(like):
        raise document.wrong(
            field, f"has {len(table)} rows; the distribution has {len(like)} (one for an input length)"
        )
    for index, (row, other) in enumerate(zip(table, like, strict=True)):
        if len(row) != len(other):
            raise document.wrong((*field, index), f"has {len(row)} columns; the distribution has {len(other)} there")


def buckets(distribution: Table, rate: float, inputs: list[int], outputs: list[int]) -> tuple[Bucket, ...]:
    """The distribution's cells with their rates."""
    return tuple(
        Bucket(input_tokens=tokens, output_tokens=answer, rate=share * rate)
        for tokens, row in zip(inputs, distribution, strict=True)
        for answer, share in zip(outputs, row, strict=True)
    )


def check_distribution(document: Document, field: str, distribution: Table) -> tuple[str, ...]:
    """A warning where it does not add up to 1. Raises InputError where it is empty or ragged."""
    for index, row in enumerate(distribution):
        if len(row) != len(distribution[0]):
            raise document.wrong((field, index), f"has {len(row)} columns, the first row has {len(distribution[0])}")
    total = sum(map(sum, distribution))
    if total <= 0:
        raise document.wrong((field,), "has no request in any bucket")
    if abs(total - 1) <= _ADDS_UP:
        return ()
    return (f"{document.path}: {field} adds up to {total:.6g}, not 1; the rate is multiplied with it as it is",)
