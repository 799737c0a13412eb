"""What the cost models' benchmark reads and predicts."""

from __future__ import annotations

import statistics

import pytest

from benchmarks.deployments import closed_loop, deployments, predicted
from benchmarks.fit_software import tunes
from benchmarks.kernel_tables import matmuls
from coxswain_scheduler.costs.profiles import profile
from coxswain_scheduler.costs.software import SOFTWARE
from coxswain_scheduler.costs.timing import Work

TIMING = profile("h100-llama-3-8b").timing


def test_a_lone_client_waits_for_its_own_prompt_only() -> None:
    found = closed_loop(TIMING, prompt=1000, output=101, concurrency=1, room=8, mixes=True)
    assert found.ttft == pytest.approx(TIMING.seconds(Work(1000, 1000 * 1001 // 2)))
    assert found.tpot == pytest.approx(TIMING.decode_seconds(1, 1001, 100) / 100)


def test_clients_that_do_not_fit_wait_for_room() -> None:
    wide = closed_loop(TIMING, prompt=1000, output=100, concurrency=8, room=8, mixes=True)
    narrow = closed_loop(TIMING, prompt=1000, output=100, concurrency=8, room=2, mixes=True)
    assert narrow.ttft > 3 * wide.ttft
    assert narrow.tpot < wide.tpot


def test_decodes_that_wait_for_prompts_are_not_sooner() -> None:
    mixed, apart = (
        closed_loop(TIMING, prompt=4000, output=50, concurrency=16, room=16, mixes=mixes, shortest=0.8)
        for mixes in (True, False)
    )
    assert apart.tpot > mixed.tpot


def test_held_out_deployments_of_another_model_and_gpu_are_near() -> None:
    rows = [row for row in deployments() if row.software == "vllm" and row.model == "llama-3-70b"]
    assert len(rows) == 57
    assert not any(tunes(row) for row in rows)
    errors = [abs(predicted(row, SOFTWARE["vllm"]).tpot / row.measured.tpot - 1) for row in rows[::3]]
    assert statistics.median(errors) < 0.15


def test_held_out_matrix_products_are_near() -> None:
    errors = [abs(point.predicted / point.measured - 1) for point in matmuls("h100")]
    assert statistics.median(errors) < 0.05
