"""Constants of fast plans, as they were measured: a committed table for each device and version of Triton.

Where there is no table, or nothing in it, an operation's own constants hold. Invariant plans never ask here: bits are
not to depend on what was measured where.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
import triton

from coxswain_kernels.launching.plans import Plan
from coxswain_kernels.launching.targets import TARGETS

Constants = Mapping[str, int]
"""By name, as the operation calls them."""

FOLDER = Path(__file__).with_name("tuned")
_NOTHING: Constants = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What one device is fast with."""

    device: str
    triton: str
    target: str
    """For which of `targets.TARGETS` its plans are."""
    date: str
    constants: Mapping[str, Mapping[str, Constants]] = field(default_factory=dict)
    """By operation and case."""

    @property
    def file_name(self) -> str:
        """Where it is kept in FOLDER."""
        name = re.sub(r"[^A-Za-z0-9]+", "-", self.device).strip("-")
        return f"{name}-{self.triton}.json"

    def as_json(self) -> str:
        """The file's content."""
        parts = {name: getattr(self, name) for name in ("device", "triton", "target", "date", "constants")}
        return json.dumps(parts, indent=1, sort_keys=True) + "\n"


def read(path: Path) -> Table:
    """Raises ValueError, naming the file, when it holds no table."""
    try:
        parts: Any = json.loads(path.read_text(encoding="utf-8"))
        table = Table(**parts)
        numbers = [number for cases in table.constants.values() for some in cases.values() for number in some.values()]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no table of constants: {error}") from None
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError(f"{path}: constants are to be whole numbers")
    if path.name != table.file_name:
        raise ValueError(f"{path} is of {table.device} and Triton {table.triton}: name it {table.file_name}")
    return table


@dataclass(slots=True)
class Trial:
    """Constants to be measured instead of a table's."""

    operation: str
    constants: Constants
    cases: set[str] = field(default_factory=set)
    """For which they were asked."""


_trials: list[Trial] = []


def tuned(operation: str, case: str, device: torch.device) -> Constants:
    """Constants of a fast plan that are to replace the operation's own, on `device`; none for most."""
    for trial in _trials:
        if trial.operation == operation:
            trial.cases.add(case)
            return trial.constants
    cases = _of_device(device).get(operation)
    return _NOTHING if cases is None else cases.get(case, _NOTHING)


@contextmanager
def trying(operation: str, constants: Constants) -> Iterator[Trial]:
    """`tuned` answers with these, for one operation, in this process."""
    trial = Trial(operation, constants)
    _trials.append(trial)
    try:
        yield trial
    finally:
        _trials.remove(trial)


def case_of(plan: Plan, rows: int) -> str:
    """What a table calls a plan for so many rows, or for those up to the next power of 2."""
    return f"{plan.name}; {1 << max(rows - 1, 0).bit_length()} rows"


def varied(plan: Plan, constants: Constants) -> Plan:
    """The plan with other constants; `warps` and `stages` are those of the launch, and what it has not is left out."""
    known = {name: number for name, number in sorted(constants.items()) if name in {*plan.constants, "warps", "stages"}}
    if not known:
        return plan
    return replace(
        plan,
        name=", ".join((plan.name, *(f"{name} {number}" for name, number in known.items()))),
        warps=known.pop("warps", plan.warps),
        stages=known.pop("stages", plan.stages),
        constants={**plan.constants, **known},
    )


def faster(operation: str, plan: Plan, rows: int, device: torch.device) -> Plan:
    """A fast plan as the device's table has it for so many rows."""
    return varied(plan, tuned(operation, case_of(plan, rows), device))


def committed(operation: str, plans: Iterable[Plan]) -> tuple[Plan, ...]:
    """What all tables make of an operation's fast plans, each once: they can be selected too, so they are compiled."""
    tables = [read(path) for path in sorted(FOLDER.glob("*.json"))]
    made = {}
    for plan, table in product(plans, tables):
        others = {target.name: "unsupported: tuned for another" for target in TARGETS if target.name != table.target}
        for case, constants in table.constants.get(operation, {}).items():
            one = varied(plan, constants)
            if case.startswith(f"{plan.name}; ") and one is not plan:
                made[table.target, one.name] = replace(one, notes={**one.notes, **others})
    return tuple(made.values())


@cache
def _of_device(device: torch.device) -> Mapping[str, Mapping[str, Constants]]:
    if device.type == "cpu":
        return {}
    name = torch.cuda.get_device_name(device)
    path = FOLDER / Table(device=name, triton=triton.__version__, target="", date="").file_name
    return read(path).constants if path.exists() else {}
