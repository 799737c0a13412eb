"""The packaged measurements, and what is read between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.costs import packaged
from coxswain_scheduler.costs.collectives import AllReduce
from coxswain_scheduler.costs.hardware import ACCELERATORS
from coxswain_scheduler.costs.model_shape import Matrix
from coxswain_scheduler.costs.roofline import matmul_floor
from coxswain_scheduler.costs.tables import DecodeAttentionTable, MatmulTable

MEASURED = ["a100", "h100", "l40s"]
DEVICES = sorted(ACCELERATORS)


@pytest.mark.parametrize("name", MEASURED)
def test_a_matrix_product_that_was_measured_takes_what_was_measured(name: str) -> None:
    device, table = ACCELERATORS[name], packaged.matmul_table(name)
    efficiency = table.efficiency(device)
    for rows in (1, 64, 8192):
        measured = table.seconds[list(table.outputs).index(8192), list(table.inputs).index(4096)]
        floor = matmul_floor(device, rows, Matrix(8192, 4096, 1), 2.0)
        found = floor / efficiency(outputs=8192, inputs=4096, rows=rows)
        assert found == pytest.approx(max(floor, measured[list(table.rows).index(rows)]))


@pytest.mark.parametrize("name", MEASURED)
@given(outputs=st.integers(1, 200_000), inputs=st.integers(1, 200_000), rows=st.integers(1, 20_000))
def test_no_matrix_product_attains_more_than_everything(name: str, outputs: int, inputs: int, rows: int) -> None:
    share = packaged.matmul_efficiency(ACCELERATORS[name])(outputs=outputs, inputs=inputs, rows=rows)
    assert 0 < share <= 1


def test_a_place_that_was_not_measured_is_like_its_neighbour() -> None:
    table = MatmulTable.parse("n,k,1,2\n32,32,1,2\n32,64,1,2\n64,32,1,2\n")
    share = table.efficiency(ACCELERATORS["h100"])
    assert share(outputs=64, inputs=64, rows=1) == pytest.approx(share(outputs=64, inputs=32, rows=1))


def test_decode_attention_is_a_line_over_kv_tokens() -> None:
    device = ACCELERATORS["h100"]
    fixed, each = 10e-6, 8 * 512 / (0.8 * device.memory_bandwidth)
    header = "heads,kv,batch,1023,16383,65535\n"
    lines = [
        f"32,8,{batch},{','.join(str((fixed + each * batch * length) * 1e6) for length in (1024, 16384, 65536))}"
        for batch in (1, 16)
    ]
    table = DecodeAttentionTable.parse(header + "\n".join(lines))
    sequences, found_fixed, found_each = table.line(heads=32, kv_heads=8, device=device)
    assert list(sequences) == [1, 16]
    assert found_each == pytest.approx(each, rel=0.05)
    assert found_fixed[0] == pytest.approx(fixed, rel=0.2)


@given(st.sampled_from(DEVICES), st.sampled_from([1, 2, 3, 4, 8, 16]), st.floats(1, 1e10), st.floats(1, 1e10))
def test_a_larger_all_reduce_never_takes_less(name: str, gpus: int, one: float, other: float) -> None:
    reduce = packaged.all_reduce(ACCELERATORS[name])
    small, large = (reduce.seconds(gpus=gpus, size=size) for size in sorted((one, other)))
    assert small <= large * (1 + 1e-9)


def test_one_gpu_has_nothing_to_reduce() -> None:
    assert packaged.all_reduce(ACCELERATORS["h100"]).seconds(gpus=1, size=1e9) == 0


def test_the_best_implementation_counts() -> None:
    reduce = AllReduce.parse("gpus,bytes,nccl,custom\n2,1024,9,4\n2,4096,9,\n", link_bandwidth=1e9)
    assert reduce.seconds(gpus=2, size=1024) == pytest.approx(4e-6)
    assert reduce.seconds(gpus=2, size=4096) == pytest.approx(9e-6)
    assert reduce.seconds(gpus=2, size=8192) == pytest.approx(18e-6)


def test_over_pcie_eight_gpus_reduce_far_slower_than_over_nvlink() -> None:
    size = 64 * 1024**2
    pcie, nvlink = (packaged.all_reduce(ACCELERATORS[name]).seconds(gpus=8, size=size) for name in ("l40s", "h100"))
    assert pcie > 50 * nvlink


@pytest.mark.parametrize("name", MEASURED)
def test_attention_of_prompts_is_never_faster_than_arithmetic(name: str) -> None:
    device = ACCELERATORS[name]
    pairs, seconds = packaged.prefill_attention_table(name).curve(heads=32, kv_heads=8, device=device)
    assert np.all(seconds >= 4 * 128 * 32 * pairs / device.bf16_flops)
