"""What is asked of Dynamo's replay, how its answer is read, and what is said where it cannot run."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dynamo_peer import KV_BYTES_PER_TOKEN, Case, Outcome, Pools, replay
from benchmarks.dynamo_wheels import VERSION, PeerError, interpreter

# Of Dynamo 1.6.1 on two requests of 1,000 tokens with 4 and 1 tokens of output, some figures left out.
ANSWER: dict[str, Any] = {
    "cpu_s": 0.00058,
    "summary": {
        "num_requests": 2,
        "goodput_completed_requests": 2,
        "median_ttft_ms": 32.105859,
        "p90_ttft_ms": 32.105859,
        "p99_ttft_ms": 32.105859,
        "median_tpot_ms": 5.791587,
        "p90_tpot_ms": 5.791587,
        "p99_tpot_ms": 5.791587,
        "p99_itl_ms": 5.795027,
        "first_admission_prefix_cache_reused_ratio": 0.0,
        "prefix_cache_reused_ratio": 0.25,
        "duration_ms": 532.105859,
    },
    "requests": [[1000, 32.105859, 5.791587], [1000, 32.105859, None]],
}
TRACE = Path("trace.jsonl")


def test_an_answer_is_read_in_seconds() -> None:
    outcome = Outcome.parse(json.dumps(ANSWER))
    assert (outcome.requests, outcome.good, outcome.cpu_s) == (2, 2, 0.00058)
    assert outcome.ttft_s == pytest.approx({"p50": 0.032105859, "p90": 0.032105859, "p99": 0.032105859})
    assert outcome.inter_token_s["p99"] == pytest.approx(0.005791587)
    assert outcome.token_gap_p99_s == pytest.approx(0.005795027)
    assert outcome.virtual_s == pytest.approx(0.532105859)


def test_recomputation_after_preemption_is_told_apart_in_reuse() -> None:
    outcome = Outcome.parse(json.dumps(ANSWER))
    assert (outcome.prefix_reuse, outcome.prefix_reuse_with_preempted) == (0.0, 0.25)


def test_every_request_comes_with_its_times() -> None:
    several, one = Outcome.parse(json.dumps(ANSWER)).samples
    assert (several.prompt_tokens, several.ttft_s, several.inter_token_s) == pytest.approx(
        (1000, 0.032105859, 0.005791587)
    )
    assert one.inter_token_s is None, "a request with one token has no gap"


@pytest.mark.parametrize(
    "answer", ["", "[]", json.dumps(ANSWER | {"summary": {}}), json.dumps(ANSWER | {"requests": [[1000, None, None]]})]
)
def test_an_answer_of_another_shape_is_refused_in_one_line(answer: str) -> None:
    with pytest.raises(PeerError, match=f"not as {VERSION} gives it") as refused:
        Outcome.parse(answer)
    assert "\n" not in str(refused.value)


def test_engines_for_everything_take_no_roles() -> None:
    case = Case(trace=TRACE, router="kv_router", pools=Pools(both=8), speedup=5.5, link_gb_s=25.0)
    assert case.arguments(TRACE) == {
        "trace_files": ["trace.jsonl"],
        "router_mode": "kv_router",
        "trace_block_size": 512,
        "arrival_speedup_ratio": 5.5,
        "sla_ttft_ms": 2000.0,
        "sla_itl_ms": 50.0,
        "num_workers": 8,
    }


@pytest.mark.parametrize(
    ("link_gb_s", "link"),
    [(None, {}), (25.0, {"kv_transfer_bandwidth": 25.0, "kv_transfer_bytes_per_token": KV_BYTES_PER_TOKEN})],
)
def test_a_split_names_roles_and_link(link_gb_s: float | None, link: dict[str, float]) -> None:
    case = Case(trace=TRACE, router="round_robin", pools=Pools(prefill=5, decode=3), speedup=1.0, link_gb_s=link_gb_s)
    arguments = case.arguments(TRACE)
    assert (arguments["num_prefill_workers"], arguments["num_decode_workers"]) == (5, 3)
    assert arguments["prefill_engine_args"] == {"engine": {"worker_type": "prefill", **link}}
    assert arguments["decode_engine_args"] == {"engine": {"worker_type": "decode", **link}}
    assert str(case.pools) == "5P3D"


def test_an_interpreter_without_the_wheels_is_named_with_the_reason() -> None:
    said: list[str] = []
    assert interpreter(Path(sys.executable), say=said.append) is None
    assert said == [f"no rows of Dynamo: {sys.executable}: ModuleNotFoundError: No module named 'dynamo'"]


def test_a_missing_interpreter_is_named_with_the_reason(tmp_path: Path) -> None:
    said: list[str] = []
    assert interpreter(tmp_path / "python", say=said.append) is None
    assert said == [f"no rows of Dynamo: {tmp_path / 'python'}: No such file or directory"]


def test_a_cache_that_cannot_be_written_leaves_the_rows_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    said: list[str] = []
    assert interpreter(None, say=said.append) is None
    assert said[0].startswith(f"installing ai-dynamo-runtime=={VERSION}")
    assert said[1].startswith(f"no rows of Dynamo: no environment in {file}")


def test_a_replay_that_fails_says_why_in_one_line(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl.gz"
    trace.write_bytes(gzip.compress(b"{}"))
    case = Case(trace=trace, router="round_robin", pools=Pools(both=1), speedup=1.0)
    with pytest.raises(PeerError, match=r"No module named 'dynamo'$"):
        replay(Path(sys.executable), case)
