"""The measurements that come with the package; `tables/README.md` names their sources and licences."""

from __future__ import annotations

from functools import cache
from importlib import resources

from coxswain_scheduler.costs.collectives import AllReduce
from coxswain_scheduler.costs.hardware import Accelerator
from coxswain_scheduler.costs.tables import (
    DecodeAttentionTable,
    MatmulEfficiency,
    MatmulTable,
    PrefillAttentionTable,
)

_TABLES = resources.files("coxswain_scheduler.costs") / "tables"


@cache
def matmul_table(name: str) -> MatmulTable:
    """Matrix products on accelerator `name`."""
    return MatmulTable.parse(_text(f"{name}_gemm.csv"))


@cache
def matmul_efficiency(accelerator: Accelerator) -> MatmulEfficiency:
    """Shares of `accelerator`'s roofline that matrix products attain on it."""
    return matmul_table(accelerator.name).efficiency(accelerator)


@cache
def prefill_attention_table(name: str) -> PrefillAttentionTable:
    """Attention of prompts on accelerator `name`."""
    return PrefillAttentionTable.parse(_text(f"{name}_prefill_attention.csv"))


@cache
def decode_attention_table(name: str) -> DecodeAttentionTable:
    """Attention of decode steps on accelerator `name`."""
    return DecodeAttentionTable.parse(_text(f"{name}_decode_attention.csv"))


@cache
def all_reduce(accelerator: Accelerator) -> AllReduce:
    """All-reduce among devices of one node, measured where there is a table."""
    text = _text(f"{accelerator.name}_all_reduce.csv") if accelerator.validated else "gpus,bytes\n"
    return AllReduce.parse(text, link_bandwidth=accelerator.link_bandwidth)


def _text(file: str) -> str:
    return (_TABLES / file).read_text(encoding="utf-8")
