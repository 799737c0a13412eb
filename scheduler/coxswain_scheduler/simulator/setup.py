"""What is simulated: engines, what they are connected by, and what is asked of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from coxswain_scheduler.costs.timing import Timing
from coxswain_scheduler.interface import Objectives


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """One kind of engine. The defaults of the sizes are those of Dynamo's mocker."""

    timing: Timing
    accelerator: str = "mocker"
    total_blocks: int = 16384
    block_size: int = 64
    max_num_seqs: int = 256
    step_tokens: int = 8192
    startup_seconds: float = 0.0
    gpus: int = 1
    """Accelerators that one engine takes: for GPU-hours."""
    mocker: bool = False
    """Whether it takes its steps as Dynamo's mocker does, to the detail: see `simulator.mocker`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong with one engine at a time, in seconds after the speed-up."""

    kind: Literal["Kill", "Slow", "Partition"]
    """Kill: the engine dies with all it runs, and is replaced after its start-up time. Slow: its steps take `factor`
    times as long. Partition: the gateway hears nothing from it and takes it for lost; afterwards it is back, empty."""
    engine: int
    at: float
    seconds: float = 0.0
    """How long Slow and Partition last."""
    factor: float = 1.0
    detection_seconds: float = 0.8
    """From the fault until the gateway takes the engine for lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A cluster and its circumstances."""

    engines: tuple[EngineSpec, ...]
    """Those that are there at the start."""
    objectives: Objectives = field(default_factory=Objectives)
    speedup: float = 1.0
    link_bytes_per_second: float = math.inf
    link_latency_seconds: float = 0.0
    kv_bytes_per_token: int = 128 * 1024
    kv_event_lag_seconds: float | None = None
    """How much later the policy learns of cached blocks; None: it sees the caches as they are."""
    faults: tuple[Fault, ...] = ()
    restarts: tuple[float, ...] = ()
    """When the scheduler restarts, with nothing in memory."""
    retry_shed: int = 0
    """How often a client comes back after it was shed."""
    retry_after_seconds: float = 1.0
    kinds: Mapping[str, EngineSpec] = field(default_factory=dict)
    """What `Cluster.start` may add, by accelerator; by default, the kinds that are there at the start."""
    max_seconds: float = math.inf
    """Virtual time at which to give up."""
