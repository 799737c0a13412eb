"""Traces are read fast and whole, in order; what is wrong is told in one line that names file, line and field."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.simulator.trace import Trace, TraceRequest
from coxswain_simulate.errors import InputError
from coxswain_simulate.traces import Options, load, write
from coxswain_simulate.traces.arrivals import Renewal, jittered

DATA = Path(__file__).parents[2] / "benchmarks" / "data"
CONVERSATION = DATA / "mooncake_fast25" / "conversation_trace.jsonl.gz"
AZURE = DATA / "azure_llm_2023" / "AzureLLMInferenceTrace_conv.csv"
DAY = DATA / "servegen" / "deepseek-r1_day_thinned_1in16.csv.gz"
LENGTHS = DATA / "llumnix_osdi24" / "lengths_128_512.csv.gz"

GOOD = '{"timestamp": 1500, "input_length": 513, "output_length": 7, "hash_ids": [4, 5]}'


def test_the_conversation_trace_has_what_its_readme_says() -> None:
    trace = load(CONVERSATION, "mooncake")
    assert len(trace.requests) == 12_031
    assert trace.seconds == pytest.approx(3537, abs=0.5)
    assert sum(r.prompt_tokens for r in trace.requests) / 12_031 == pytest.approx(12_035, abs=1)
    assert all(len(r.chunks) == -(-r.prompt_tokens // trace.chunk_tokens) for r in trace.requests)


def test_the_azure_trace_has_what_its_readme_says() -> None:
    trace = load(AZURE, "azure")
    assert len(trace.requests) == 19_366
    assert trace.seconds == pytest.approx(3501.7, abs=0.05)
    assert (trace.requests[0].prompt_tokens, trace.requests[0].output_tokens) == (374, 44)
    assert trace.requests[1].arrival == pytest.approx(4.314579)


def test_a_day_of_servegen_may_stand_for_copies() -> None:
    once, often = load(DAY, "servegen"), load(DAY, "servegen", Options(copies=3, seed=1))
    assert len(once.requests) == 86_348
    lengths = Counter((r.prompt_tokens, r.output_tokens) for r in often.requests)
    assert lengths == {
        key: 3 * n for key, n in Counter((r.prompt_tokens, r.output_tokens) for r in once.requests).items()
    }
    assert len({r.arrival for r in often.requests}) > 2 * len(once.requests), "copies arrive each at their own time"


@pytest.mark.parametrize(("text", "rate", "variation"), [("poisson:34", 34, 1), ("gamma:26:4", 26, 4)])
def test_lengths_get_arrivals_of_the_process_asked_for(text: str, rate: float, variation: float) -> None:
    trace = load(LENGTHS, "llumnix", Options(arrivals=Renewal.parse(text), seed=3))
    times = [r.arrival for r in trace.requests]
    gaps = [b - a for a, b in zip([0.0, *times], times, strict=False)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert len(gaps) == 10_000
    assert mean == pytest.approx(1 / rate, rel=0.1)
    assert spread / mean == pytest.approx(variation, rel=0.15)


def test_arrivals_of_any_format_can_be_drawn_anew() -> None:
    trace = load(AZURE, "azure", Options(arrivals=Renewal(10.0)))
    assert trace.seconds == pytest.approx(1936.6, rel=0.05)
    assert trace.requests[0].prompt_tokens == 374


def test_a_seed_moves_each_arrival_by_up_to_a_second_and_always_alike() -> None:
    plain = {r.chunks: r.arrival for r in load(CONVERSATION, "mooncake").requests}
    twins = Counter(r.chunks for r in load(CONVERSATION, "mooncake").requests)
    first, again, other = (load(CONVERSATION, "mooncake", Options(seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    moved = [r.arrival - plain[r.chunks] for r in first.requests if twins[r.chunks] == 1]
    assert max(map(abs, moved)) <= 1.0005
    assert min(moved) < -0.95
    assert max(moved) > 0.95
    assert [r.id for r in first.requests] == list(range(12_031))
    assert all(a.arrival <= b.arrival for a, b in zip(first.requests, first.requests[1:], strict=False))


@given(times=st.lists(st.floats(0, 1e6), max_size=50), seed=st.integers(0, 99))
def test_no_time_is_moved_before_the_start_or_further_than_a_second(times: list[float], seed: int) -> None:
    for before, after in zip(times, jittered(times, seed=seed), strict=True):
        assert after >= 0
        assert abs(after - before) <= 1.0005


def test_a_tenth_is_marked_and_which_depends_on_the_seed_alone() -> None:
    marked = [
        {r.prompt_tokens * 10**6 + r.output_tokens for r in load(AZURE, "azure", options).requests if r.priority}
        for options in (
            Options(high_priority=0.1, seed=2),
            Options(high_priority=0.1, seed=2),
            Options(high_priority=0.1),
        )
    ]
    assert marked[0] == marked[1] != marked[2]
    assert sum(r.priority for r in load(AZURE, "azure", Options(high_priority=0.1)).requests) == 1937


def test_what_is_written_for_the_peer_reads_back_the_same(tmp_path: Path) -> None:
    for source, form in ((CONVERSATION, "mooncake"), (AZURE, "azure")):
        trace = load(source, form, Options(seed=4))
        write(trace, tmp_path / "jittered.jsonl")
        back = load(tmp_path / "jittered.jsonl", "mooncake")
        shift = trace.requests[0].arrival
        assert [(r.prompt_tokens, r.output_tokens) for r in back.requests] == [
            (r.prompt_tokens, r.output_tokens) for r in trace.requests
        ]
        assert all(
            a.arrival + shift == pytest.approx(b.arrival, abs=1e-6)
            for a, b in zip(back.requests, trace.requests, strict=True)
        )
        if form == "mooncake":
            assert [r.chunks for r in back.requests] == [r.chunks for r in trace.requests]
        else:
            ids = [chunk for r in back.requests for chunk in r.chunks]
            assert len(set(ids)) == len(ids), "nothing may be shared by accident"


def test_chunks_of_another_size_cannot_be_written(tmp_path: Path) -> None:
    request = TraceRequest(id=0, arrival=0, prompt_tokens=5, output_tokens=1, chunks=(1,))
    with pytest.raises(InputError, match="64 tokens"):
        write(Trace("small", (request,), chunk_tokens=64), tmp_path / "x")


def test_order_ends_of_lines_blanks_and_gzip_do_not_matter(tmp_path: Path) -> None:
    lines = [GOOD, "", GOOD.replace("1500", "500").replace("[4, 5]", "[4, 6]")]
    path = tmp_path / "t.jsonl"
    path.write_bytes(gzip.compress("\r\n".join(lines).encode()))
    trace = load(path, "mooncake")
    assert [(r.arrival, r.chunks) for r in trace.requests] == [(0.0, (4, 6)), (1.0, (4, 5))]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("azure", "\ufeffTimestamp , contexttokens,GENERATEDTOKENS\n2024-05-10 00:00:00.009930+00:00,3,4"),
        ("azure", "GeneratedTokens,extra,TIMESTAMP,ContextTokens\r\n4,x,2023-11-16 18:15:46.6805900,3\r\n"),
        ("servegen", 'arrival_s,"input_tokens",output_tokens\n5e1,3,4'),
    ],
)
def test_headers_may_differ_in_case_order_and_extras(tmp_path: Path, form: str, text: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, newline="")
    (request,) = load(path, form).requests
    assert (request.arrival, request.prompt_tokens, request.output_tokens) == (0, 3, 4)


WRONG = [
    ("mooncake", f"{GOOD}\n" + GOOD.replace('"output_length": 7, ', ""), 2, "output_length"),
    ("mooncake", GOOD.replace("513", "0"), 1, "input_length"),
    ("mooncake", GOOD.replace("513", "-513"), 1, "input_length"),
    ("mooncake", GOOD.replace("513", "513.5"), 1, "input_length"),
    ("mooncake", GOOD.replace("513", "true"), 1, "input_length"),
    ("mooncake", GOOD.replace("513", '"513"'), 1, "input_length"),
    ("mooncake", GOOD.replace("7", "NaN"), 1, ""),
    ("mooncake", GOOD.replace("1500", "-1"), 1, "timestamp"),
    ("mooncake", GOOD.replace("1500", "1e300"), 1, "timestamp"),
    ("mooncake", f"{GOOD}\n" + GOOD.replace("1500", "1700000000000"), None, "year"),
    ("mooncake", GOOD.replace("[4, 5]", "[4]"), 1, "hash_ids"),
    ("mooncake", GOOD.replace("[4, 5]", "[4, 5, 6]"), 1, "hash_ids"),
    ("mooncake", GOOD.replace("[4, 5]", '[4, "x"]'), 1, "hash_ids"),
    ("mooncake", GOOD.replace("[4, 5]", "[4, -5]"), 1, "hash_ids"),
    ("mooncake", f"{GOOD}\n{GOOD[:-9]}", 2, ""),
    ("mooncake", "TIMESTAMP,ContextTokens,GeneratedTokens\n", 1, ""),
    ("mooncake", "[1, 2]", 1, ""),
    ("mooncake", "", 1, "empty"),
    ("azure", " \n\n", 1, "empty"),
    ("azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n", None, "no requests"),
    ("azure", "TIMESTAMP,ContextTokens\n2023-11-16 18:15:46,3\n", 1, "GeneratedTokens"),
    ("azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,3,0\n", 2, "GeneratedTokens"),
    ("azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,3\n", 2, "GeneratedTokens"),
    ("azure", "TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,3,4\n", 2, "TIMESTAMP"),
    ("azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1_0,4\n", 2, "ContextTokens"),
    ("servegen", "arrival_s,input_tokens,output_tokens\n1,2,3\nnan,2,3\n", 3, "arrival_s"),
    ("servegen", "arrival_s,input_tokens,output_tokens\n-1,2,3\n", 2, "arrival_s"),
    ("servegen", "arrival_s,input_tokens,output_tokens\n1,2.5,3\n", 2, "input_tokens"),
    ("servegen", "arrival_s,input_tokens,output_tokens\n1,2,99999999999\n", 2, "output_tokens"),
    ("servegen", 'arrival_s,input_tokens,output_tokens\n1,"2,3', 2, "CSV"),
    ("llumnix", "prompt,reply\n1,2\n", 1, "response"),
    ("llumnix", "prompt,response\n1,-2\n", 2, "response"),
    ("llumnix", "prompt,response\n1,2\n", None, "--arrivals"),
    ("csv", "prompt,response\n1,2\n", None, "format"),
]


@pytest.mark.parametrize(("form", "text", "line", "field"), WRONG)
def test_a_wrong_file_gets_one_line(tmp_path: Path, form: str, text: str, line: int | None, field: str) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load(path, form)
    said = str(error.value)
    assert "\n" not in said
    assert field in said
    if line is not None:
        assert said.startswith(f"{path}:{line}: ")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("t.jsonl.gz", GOOD.encode(), "not gzip"),
        ("t.jsonl", gzip.compress(GOOD.encode() * 100)[:-20], "damaged gzip"),
        ("t.jsonl", gzip.compress(b""), "empty"),
        ("t.jsonl", GOOD.encode() + b"\n\xff\xfe\n", ":2: "),
    ],
)
def test_what_is_not_text_or_gzip_is_told(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(problem)):
        load(path, "mooncake")


def test_binary_rubbish_in_a_csv_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"prompt,response\n1,2\n\xff,3\n")
    with pytest.raises(InputError, match=":3: is not UTF-8"):
        load(path, "llumnix", Options(arrivals=Renewal(1)))


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            load(path, "mooncake")


@pytest.mark.parametrize(
    "text", ["poisson", "poisson:0", "poisson:nan", "gamma:3", "gamma:1:-1", "uniform:3", "poisson:1:2"]
)
def test_arrivals_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        Renewal.parse(text)
