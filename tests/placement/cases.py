"""Placement problems for tests."""

from pathlib import Path

from coxswain_scheduler.interface import Role
from coxswain_scheduler.placement.problem import Bucket, Kind, Problem

DATA = Path(__file__).parents[2] / "benchmarks/data"
MELANGE = DATA / "peer_runs/melange_solver_inputs.json"
PUBLISHED = DATA / "peer_runs/melange_solver_results.jsonl"
EXAMPLE = DATA / "melange/melange_example_input.json"
OURS = Path(__file__).parents[2] / "examples/placement.yaml"


def sizes(*rates: float) -> tuple[Bucket, ...]:
    return tuple(Bucket(input_tokens=100 * (b + 1), output_tokens=100, rate=rate) for b, rate in enumerate(rates))


def kind(accelerator: str, price: float, *throughput: float, role: Role = "Serve", tensor_parallel: int = 1) -> Kind:
    return Kind(accelerator=accelerator, role=role, tensor_parallel=tensor_parallel, price=price, throughput=throughput)


def small_and_large(*, rate: float = 10.0, **more: object) -> Problem:
    """Short requests are cheap on small, long ones impossible; large does both, long ones half as fast."""
    kinds = (kind("small", 1.0, 5.0, 0.0), kind("large", 4.0, 10.0, 5.0))
    return Problem(buckets=sizes(rate / 2, rate / 2), kinds=kinds, **more)  # type: ignore[arg-type]
