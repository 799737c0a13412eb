"""Kernels compiled ahead of time, for accelerators that need not be there, and what the compilers say of the result."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.compiler import ASTSource

from coxswain_kernels.launching.plans import Plan
from coxswain_kernels.launching.targets import Target

_BINARIES = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_MATRIX_INSTRUCTIONS = ("HGMMA", "QGMMA", "IGMMA", "HMMA", "IMMA", "QMMA", "v_mfma")


@dataclass(frozen=True, slots=True)
class Binary:
    """One plan compiled for one target."""

    registers: int
    """Of a thread; of AMD's, vector registers."""
    spilled_bytes: int
    """Of a thread, to memory and back; of AMD's, registers that were spilled, in bytes."""
    shared_bytes: int
    """Of a block of threads."""
    matrix_instruction: str
    """The widest that multiplies matrices; empty where there is none, and where nobody looked for one."""


def compile_plan(plan: Plan, target: Target) -> Binary:
    """Compile `plan`. Raises what Triton raises where it cannot."""
    names = plan.kernel.arg_names
    constants = {name: value for name, value in plan.constants.items() if name in names}
    signature = {name: plan.types.get(name, "constexpr") for name in names}
    aligned = [name for name, kind in plan.types.items() if kind.startswith("*") or name in plan.aligned]
    source = ASTSource(
        plan.kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    options = {"num_warps": plan.warps, "num_stages": plan.stages}
    compiled = triton.compile(source, target=target.gpu, options=options)
    if target.gpu.backend == "hip":
        return _amd(compiled)
    return _nvidia(compiled, target, disassemble=plan.tensor_cores)


def _nvidia(compiled: Any, target: Target, *, disassemble: bool) -> Binary:
    """Disassembling takes longer than all else, so that is done only where it is to show matrix instructions."""
    with tempfile.TemporaryDirectory() as folder:
        ptx, cubin = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        ptx.write_text(compiled.asm["ptx"])
        cubin.write_bytes(compiled.asm["cubin"])
        # What ptxas is asked for has to be what Triton asked for: sm_90a has instructions that sm_90 has not.
        arch = _found(r"\.target (sm_\w+)", compiled.asm["ptx"]) or target.name
        said = _run("ptxas", "-v", f"--gpu-name={arch}", str(ptx), "-o", f"{folder}/again.cubin")
        listing = _run("nvdisasm", str(cubin)) if disassemble else ""
    return Binary(
        registers=int(_found(r"Used (\d+) registers", said)),
        spilled_bytes=sum(int(count) for count in re.findall(r"(\d+) bytes spill (?:stores|loads)", said)),
        shared_bytes=compiled.metadata.shared,
        matrix_instruction=_matrix_instruction(listing),
    )


def _amd(compiled: Any) -> Binary:
    listing = compiled.asm["amdgcn"]
    spilled = int(_found(r"\.vgpr_spill_count:\s*(\d+)", listing))
    return Binary(
        registers=int(_found(r"\.vgpr_count:\s*(\d+)", listing)),
        spilled_bytes=4 * spilled,
        shared_bytes=compiled.metadata.shared,
        matrix_instruction=_matrix_instruction(listing),
    )


def _run(tool: str, *arguments: str) -> str:
    result = subprocess.run([str(_BINARIES / tool), *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{tool}: {result.stderr.strip()}")
    return result.stdout + result.stderr


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match.group(1) if match else ""


def _matrix_instruction(listing: str) -> str:
    return next((name for name in _MATRIX_INSTRUCTIONS if name in listing), "")
