"""A recording is replayed as it was; what the simulator itself recorded comes out exactly."""

from __future__ import annotations

import json
import random
from pathlib import Path

import msgspec
import pytest

from coxswain_protocol.messages import StepEvent
from coxswain_protocol.recording import Begun, Recorded, RecordedEngine, RecordedRequest, RecordedStep
from coxswain_scheduler.costs.line import LineTiming, fit_line
from coxswain_scheduler.costs.timing import Work
from coxswain_scheduler.policies.registry import create
from coxswain_scheduler.simulator.setup import EngineSpec, Setup
from coxswain_scheduler.simulator.simulation import Simulation
from coxswain_scheduler.simulator.trace import Trace, TraceRequest
from coxswain_simulate.__main__ import main

TIMING = LineTiming(step=0.004, prefill_token=2e-4, decode=5e-4, context_token=1e-6)
BLOCK = 16
ENGINE = EngineSpec(timing=TIMING, total_blocks=512, block_size=BLOCK, max_num_seqs=16, step_tokens=256)
NAMES = ("replica-0", "replica-1")


def trace() -> Trace:
    rng, now, requests = random.Random(1), 0.0, []
    for number in range(60):
        now += rng.expovariate(8.0)
        blocks = rng.randrange(2, 30)
        shared = tuple(range(1, 9)) if number % 2 else ()
        chunks = (*shared, *(1000 * (number + 1) + place for place in range(blocks)))
        tokens = len(chunks) * BLOCK
        requests.append(
            TraceRequest(
                id=number, arrival=now, prompt_tokens=tokens, output_tokens=rng.randrange(2, 60), chunks=chunks
            )
        )
    return Trace("own", tuple(requests), chunk_tokens=BLOCK)


def steps() -> list[RecordedStep]:
    """Steps of all kinds, as long as the engines' cost model says."""
    rng, at, made = random.Random(2), 100.0, []
    for number in range(1, 200):
        prefill, decodes = rng.choice((0, 0, 64, 200)), rng.randrange(1, 16)
        context = decodes * rng.randrange(50, 400) + prefill
        pairs = prefill * (prefill + 1) // 2
        seconds = TIMING.seconds(Work(prefill, pairs, decodes, context - prefill))
        at += seconds
        made.append(RecordedStep(NAMES[0], at, number, seconds, prefill, decodes, context))
    return made


def recorded(path: Path) -> Path:
    """A run of the simulator as a gateway would have recorded it."""
    setup = Setup(engines=(ENGINE, ENGINE), link_bytes_per_second=0.0)
    run = trace()
    outcomes = Simulation(run, setup, create("coxswain")).run().outcomes
    lines: list[Recorded] = [Begun("coxswain", setup.objectives.ttft, setup.objectives.inter_token)]
    lines += [RecordedEngine(name, 0.0, "cpu", 512, BLOCK, 16, 256) for name in NAMES]
    lines += steps()
    lines += [
        RecordedRequest(
            arrival=100 + one.arrival,
            prompt_tokens=asked.prompt_tokens,
            hashes=asked.chunks,
            output_tokens=0 if one.shed else asked.output_tokens,
            first_token=None if one.first_token is None else 100 + one.first_token,
            last_token=None if one.ended is None else 100 + one.ended,
            replica="",
            cached=one.cached,
            attempts=1,
            outcome="shed" if one.shed else "length",
        )
        for asked, one in zip(run.requests, outcomes, strict=True)
    ]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return path


def test_what_the_simulator_recorded_comes_out_exactly(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert main(["validate", "--recording", str(recorded(tmp_path / "own.jsonl")), "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["requests"] == 60
    assert figures["cached_share"]["simulated"] == figures["cached_share"]["live"] > 0
    for run in (figures, figures["at_recorded_speed"]):
        for name in ("ttft_s", "inter_token_s"):
            assert run[name]["live"]["p50"] > 0
            for share in ("p50", "p90"):
                assert run[name]["error"][share] == pytest.approx(0, abs=1e-5)


def test_a_line_is_found_again_and_scaled_to_the_time_that_passed() -> None:
    events = [StepEvent(s.number, s.seconds, s.prefill_tokens, s.decodes, s.context) for s in steps()]
    found = fit_line(events, between_seconds=0.001)
    assert found.step == pytest.approx(TIMING.step + 0.001, rel=1e-6)
    for name in ("prefill_token", "decode", "context_token"):
        assert getattr(found, name) == pytest.approx(getattr(TIMING, name), rel=1e-6)
    held_up = [
        msgspec.structs.replace(event, seconds=event.seconds * (10 if n % 10 else 1)) for n, event in enumerate(events)
    ]
    whole = fit_line(held_up)
    passed = sum(event.seconds for event in held_up)
    again = sum(
        whole.step
        + whole.prefill_token * e.prefill_tokens
        + whole.decode * e.decode_sequences
        + whole.context_token * e.context
        for e in held_up
    )
    assert again == pytest.approx(passed)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"type":"step","replica":3}', "own.jsonl:2: is not a line of a recording"),
        ("", "own.jsonl: has no engine"),
    ],
)
def test_what_is_no_recording_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"type":"begun","policy":"coxswain","ttft_seconds":2,"inter_token_seconds":null}\n' + line)
    assert main(["validate", "--recording", str(path)]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
