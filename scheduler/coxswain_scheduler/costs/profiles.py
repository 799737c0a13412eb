"""Engines by name: what one costs, holds and takes, for the simulator and for placement.

A name is `<accelerator>-<model>`, as in `h100-llama-3-8b`, with what differs from the usual behind it, in this order:
`-fp8` or `-int4` for weights, `-tp4` for four GPUs, `-trtllm` or `-sglang` for other software than vLLM. `mocker` is
the mocked engine of NVIDIA Dynamo 1.6.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from coxswain_scheduler.costs.engine import EngineTiming
from coxswain_scheduler.costs.hardware import ACCELERATORS, Accelerator
from coxswain_scheduler.costs.model_shape import SHAPES, ModelShape
from coxswain_scheduler.costs.polynomial import PolynomialTiming, whole
from coxswain_scheduler.costs.software import SOFTWARE
from coxswain_scheduler.costs.timing import Timing

_MEMORY_SHARE = 0.9
"""Of a GPU's memory, as vLLM's default."""
_WORKSPACE_BYTES = 3 * 1024**3
"""Activations, graphs and communication buffers."""
_BLOCK_SIZE = 64
_MAX_NUM_SEQS = 256
_BOOT_SECONDS = 40.0
"""A container's start and an engine's warm-up."""
_LOADING_RATE = 2e9
"""Bytes per second of weights onto one GPU."""
_WEIGHT_BYTES = {"fp8": 1.0, "int4": 0.5}
_LARGE_MEMORY = 70 * 1024**3

_MOCKER = {
    "prefill": {"a": 4.209989e-07, "b": 0.01518344, "c": 16.50142},
    "decode": {"a": -25.74, "b": 54.01, "c": 5.74},
    "num_gpu_blocks": 16384,
    "block_size": 64,
    "max_num_seqs": 256,
    "max_num_batched_tokens": 8192,
}
"""Its defaults, times in milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProfile:
    """One engine: its times and its limits."""

    name: str
    timing: Timing
    total_blocks: int
    block_size: int
    max_num_seqs: int
    step_tokens: int
    kv_bytes_per_token: float
    startup_seconds: float
    price: float
    """Dollars per hour, of all its GPUs."""
    accelerator: str
    gpus: int = 1
    validated: bool = True
    """Whether measurements stand behind its times. If not, at least a part is roofline and assumed efficiency."""


@cache
def profile(name: str) -> EngineProfile:
    """The profile called `name`.

    Raises:
        ValueError: There is no such accelerator, model or software, or the model does not fit.
    """
    if name == "mocker":
        return profile_of_timing_file(_MOCKER, name=name)
    accelerator, shape, parts, software = _parsed(name)
    weights = shape.bytes_per_gpu(parts)
    room = _MEMORY_SHARE * accelerator.memory_bytes - weights - _WORKSPACE_BYTES
    blocks = int(room / (_BLOCK_SIZE * shape.kv_bytes_per_gpu(parts)))
    if blocks < 1:
        raise ValueError(
            f"{name}: {weights / 1e9:.0f} GB of weights do not fit into the {accelerator.memory_bytes / 1e9:.0f} GB of"
            f" one {accelerator.name}; take more GPUs (-tp2, -tp4, -tp8) or smaller weights (-fp8, -int4)"
        )
    return EngineProfile(
        name=name,
        timing=EngineTiming(shape, accelerator, tensor_parallel=parts, software=SOFTWARE[software]),
        total_blocks=blocks,
        block_size=_BLOCK_SIZE,
        max_num_seqs=_MAX_NUM_SEQS,
        step_tokens=8192 if accelerator.memory_bytes > _LARGE_MEMORY else 2048,
        kv_bytes_per_token=shape.kv_bytes_per_token,
        startup_seconds=_BOOT_SECONDS + weights / _LOADING_RATE,
        price=accelerator.price * parts,
        accelerator=accelerator.name,
        gpus=parts,
        validated=accelerator.validated and not shape.experts,
    )


def profile_of_timing_file(document: Mapping[str, object], *, name: str = "timing file") -> EngineProfile:
    """The engine of a parsed timing file: see `PolynomialTiming.from_mapping`, and `max_num_seqs` and
    `max_num_batched_tokens` beside its fields.

    Raises:
        ValueError: A field is missing or wrong; the message begins with its name.
    """
    return EngineProfile(
        name=name,
        timing=PolynomialTiming.from_mapping(document),
        total_blocks=whole(document, "num_gpu_blocks"),
        block_size=whole(document, "block_size"),
        max_num_seqs=whole(document, "max_num_seqs"),
        step_tokens=whole(document, "max_num_batched_tokens"),
        kv_bytes_per_token=128 * 1024,
        startup_seconds=_BOOT_SECONDS,
        price=1.0,
        accelerator="mocker",
    )


def _parsed(name: str) -> tuple[Accelerator, ModelShape, int, str]:
    models, software = "|".join(map(re.escape, SHAPES)), "|".join(SOFTWARE)
    pattern = rf"({'|'.join(ACCELERATORS)})-({models})(?:-(fp8|int4))?(?:-tp(\d+))?(?:-({software}))?"
    if (found := re.fullmatch(pattern, name)) is None or found[4] == "0":
        raise ValueError(
            f"no engine profile {name!r}: it is mocker, or <accelerator>-<model>[-fp8|-int4][-tpN][-<software>]"
            f" with one of {', '.join(ACCELERATORS)}; {', '.join(SHAPES)}; {', '.join(SOFTWARE)}"
        )
    shape = SHAPES[found[2]]
    if found[3]:
        shape = shape.quantised(_WEIGHT_BYTES[found[3]])
    return ACCELERATORS[found[1]], shape, int(found[4] or 1), found[5] or "vllm"
