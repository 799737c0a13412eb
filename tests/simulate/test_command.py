"""The command does what its flags say, and tells in one line what cannot be used."""

from __future__ import annotations

import gzip
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coxswain_scheduler.policies.registry import POLICIES
from coxswain_simulate.__main__ import main
from coxswain_simulate.traces import Options, load
from tests.simulate.conftest import CONVERSATION

KEYS = {
    "requests", "feasible", "bound", "good", "good_by_quintile", "prefix_reuse", "ttft_s", "inter_token_s",
    "token_gap_p99_s", "shed", "moves", "role_changes", "cpu_s", "virtual_s",
}  # fmt: skip


@pytest.fixture(scope="module")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 400 requests of the conversation trace."""
    path = tmp_path_factory.mktemp("trace") / "minutes.jsonl"
    with gzip.open(CONVERSATION) as lines:
        path.write_bytes(b"".join(itertools.islice(lines, 400)))
    return path


def replayed(trace: Path, out: Path, *flags: str) -> dict[str, Any]:
    assert main(["replay", "--trace", str(trace), "--format", "mooncake", "--json", str(out), *flags]) == 0
    figures: dict[str, Any] = json.loads(out.read_text())
    return figures


def test_replay_answers_with_every_figure(minutes: Path, timing_file: Path, tmp_path: Path) -> None:
    figures = replayed(
        minutes, tmp_path / "out.json", "--speedup", "7", "--engines", "3", "--timing", str(timing_file),
        "--ttft", "2s", "--itl", "50ms", "--policy", "round-robin", "--seed", "1", "--link", "25GB/s",
        "--high-priority", "10%",
    )  # fmt: skip
    assert figures.keys() >= KEYS
    assert figures["requests"] == 400
    assert 0 < figures["good"] <= figures["bound"] <= figures["feasible"] <= 400
    assert sum(figures["good_by_quintile"]) == figures["good"]
    assert sum(figures["feasible_by_quintile"]) == figures["feasible"]
    caches = figures["prefix_bounds"]
    assert 0 < figures["prefix_reuse"] <= caches["pooled_belady"] <= caches["infinite"] < 1
    assert figures["max_speedup"] > 0
    for latency in ("ttft_s", "inter_token_s"):
        assert 0 < figures[latency]["p50"] <= figures[latency]["p90"] <= figures[latency]["p99"]
    assert {name: group["requests"] for name, group in figures["by_priority"].items()} == {"0": 360, "1": 40}


def test_a_seed_makes_a_run_repeatable(minutes: Path, tmp_path: Path) -> None:
    runs = [
        replayed(
            minutes, tmp_path / "out.json", "--engines", "3", "--policy", "random", "--seed", seed, "--speedup", "4"
        )
        for seed in ("1", "1", "2")
    ]
    for run in runs:
        del run["cpu_s"], run["seed"]
    assert runs[0] == runs[1] != runs[2]


def test_mocker_steps_are_dynamos(minutes: Path, tmp_path: Path) -> None:
    """What Dynamo 1.6.1 answers for the same requests: 3 engines prefill, 1 decodes, 3 requests are preempted."""
    cluster = ("--engines", "4", "--speedup", "2", "--policy", "round-robin:prefill=3")
    figures = replayed(minutes, tmp_path / "out.json", *cluster, "--mocker-steps")
    assert (figures["good"], figures["preemptions"]) == (246, 3)
    assert figures["ttft_s"]["p50"] == pytest.approx(1.246966, abs=1e-5)
    assert replayed(minutes, tmp_path / "out.json", *cluster)["good"] == 241


@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_exceeds_the_bound(minutes: Path, tmp_path: Path, policy: str) -> None:
    figures = replayed(minutes, tmp_path / "out.json", "--engines", "3", "--speedup", "3", "--policy", policy)
    assert 0 < figures["good"] <= figures["bound"] <= figures["feasible"]
    assert figures["unfinished"] == 0


def test_policies_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--policy", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in POLICIES)


def test_faults_happen(minutes: Path, tmp_path: Path) -> None:
    faults = tmp_path / "faults.yaml"
    faults.write_text("faults:\n  - {kind: Slow, engine: 0, at: 1s, duration: 100s, factor: 4}\n")
    flags = ("--engines", "2", "--speedup", "3")
    plain = replayed(minutes, tmp_path / "a.json", *flags)
    slowed = replayed(minutes, tmp_path / "b.json", *flags, "--faults", str(faults))
    assert slowed["ttft_s"]["p90"] > 1.2 * plain["ttft_s"]["p90"]


def test_a_scenario_names_engines_and_tenants(minutes: Path, tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text("engines: [{profile: mocker, count: 3}]\ntenants: [{name: a, share: 50%}]\n")
    figures = replayed(minutes, tmp_path / "out.json", "--scenario", str(scenario))
    assert figures["engines"] == 3
    assert figures["by_tenant"].keys() == {"", "a"}


def test_the_trace_for_the_peer_is_the_trace_that_is_replayed(minutes: Path, tmp_path: Path) -> None:
    out = tmp_path / "jittered.jsonl"
    flags = ["--trace", str(minutes), "--format", "mooncake"]
    assert main(["jitter", *flags, "--seed", "2", "--out", str(out)]) == 0
    ours = load(minutes, "mooncake", Options(seed=2)).requests
    peers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(r["timestamp"], tuple(r["hash_ids"])) for r in peers] == [(round(r.arrival * 1e3), r.chunks) for r in ours]


def test_runs_are_drawn(minutes: Path, tmp_path: Path) -> None:
    for number, speedup in enumerate("28"):
        replayed(minutes, tmp_path / f"{number}.json", "--speedup", speedup, "--engines", "2")
    runs = [str(tmp_path / f"{number}.json") for number in range(2)]
    assert main(["plot", *runs, "--out", str(tmp_path / "report")]) == 0
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"ttft.png", "inter_token.png", "goodput.png", "load.png", "report.html"}
    for name in names - {"report.html"}:
        assert (tmp_path / "report" / name).read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert 'src="http' not in page
    assert "coxswain ×2" in page
    assert "coxswain ×8" in page


def test_a_run_with_one_request_is_drawn_too(tmp_path: Path) -> None:
    trace = tmp_path / "one.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 5, "output_length": 1, "hash_ids": [0]}')
    figures = replayed(trace, tmp_path / "out.json", "--plot", str(tmp_path / "report"))
    assert (figures["good"], figures["bound"], figures["inter_token_s"]["p50"]) == (1, 1, None)
    assert (tmp_path / "report" / "report.html").exists()


WRONG_TIMINGS = [
    ('{"prefill": 3}', 1, "prefill"),
    ('{\n"prefill": {"a": 0, "b": 1,\n "c": "x"}}', 3, "prefill.c"),
    ("[]", 1, "object"),
    ('{"a":\n', 2, "JSON"),
]


@pytest.mark.parametrize(("text", "line", "field"), WRONG_TIMINGS)
def test_a_wrong_timing_file_gets_one_line(
    minutes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, line: int, field: str
) -> None:
    path = tmp_path / "timing.json"
    path.write_text(text)
    assert main(["replay", "--trace", str(minutes), "--format", "mooncake", "--timing", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"coxswain-simulate: {path}:{line}: ")
    assert field in said
    assert said.count("\n") == 1


def test_blocks_that_do_not_divide_a_chunk_are_refused(
    minutes: Path, timing_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timing_file.write_text(timing_file.read_text().replace('"block_size": 64', '"block_size": 48'))
    assert main(["replay", "--trace", str(minutes), "--format", "mooncake", "--timing", str(timing_file)]) == 2
    assert "block_size is 48" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        (["replay"], "--trace"),
        (["replay", "--trace", "{trace}"], "--format"),
        (["replay", "--trace", "{trace}", "--format", "parquet"], "parquet"),
        (["replay", "--trace", "{trace}", "--format", "azure"], "TIMESTAMP"),
        (["replay", "--trace", "{none}", "--format", "azure"], "cannot be read"),
        (["replay", "--ttft", "2"], "--ttft"),
        (["replay", "--link", "fast"], "--link"),
        (["replay", "--speedup", "0"], "--speedup"),
        (["replay", "--engines", "-1"], "--engines"),
        (["replay", "--seed", "x"], "--seed"),
        (["replay", "--high-priority", "110%"], "--high-priority"),
        (["replay", "--arrivals", "uniform:3"], "--arrivals"),
        (["replay", "--policy", "magic"], "magic"),
        (["replay", "--policy", "round-robin:prefill=many"], "prefill"),
        (["replay", "--trace", "{trace}", "--format", "mooncake", "--policy", "round-robin:prefill=8"], "prefill"),
        (["replay", "--trace", "{trace}", "--format", "mooncake", "--timing", "abacus"], "abacus"),
        (["replay", "--trace", "{trace}", "--format", "mooncake", "--json", "{none}/out.json"], "cannot be written"),
        (["jitter", "--trace", "{trace}", "--format", "mooncake", "--out", "{none}/x"], "cannot be written"),
        (["plot", "{none}", "--out", "{none}"], "cannot be read"),
        (["plot", "{trace}", "--out", "{none}"], "replay --json"),
        (["fly"], "fly"),
        ([], "COMMAND"),
    ],
)
def test_wrong_flags_get_one_line(
    minutes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], field: str
) -> None:
    given = [flag.format(trace=minutes, none=tmp_path / "none") for flag in flags]
    try:
        status: int | str | None = main(given)
    except SystemExit as leaving:
        status = leaving.code
    said = capsys.readouterr().err
    assert status == 2
    assert field in said
    assert said.count("\n") == 1


def test_the_exit_status_reaches_the_shell(tmp_path: Path) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text('{"timestamp": 0}\n')
    command = [sys.executable, "-m", "coxswain_simulate", "replay", "--trace", str(path), "--format", "mooncake"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"coxswain-simulate: {path}:1: ")
    assert "Traceback" not in done.stderr
