"""The comparison of schedulers: two of its rows, and how rows become a page."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.arena import page, plan, tables, tuning
from benchmarks.arena.intervals import Mean
from benchmarks.arena.plan import OURS
from benchmarks.arena.running import Runner
from benchmarks.arena.runs import AZURE, CONVERSATION, PEER, Figures, Run, execute, pools_of
from benchmarks.arena.speed import Speed
from benchmarks.arena.turns import conversations
from benchmarks.rows import Row, Section
from benchmarks.scheduler import best_filed, filed_rows
from coxswain_simulate.summary import by_quintile

ROBIN = Run(policy="round-robin", speedup=1.0)
BUSY = Run(policy=OURS, speedup=6.0, seed=0)


@pytest.fixture(scope="module")
def robin(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    return execute(ROBIN, None, tmp_path_factory.mktemp("traces"))


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    return execute(BUSY, None, tmp_path_factory.mktemp("traces"))


@pytest.fixture
def filed() -> Figures:
    (row,) = (r for r in filed_rows() if (r["router"], r["prefill"], r["speedup"]) == ("round_robin", 0, 1.0))
    return row


def test_our_round_robin_is_dynamos(robin: Figures, filed: Figures) -> None:
    assert filed["good"] == 11843
    for off, limit in tables.deviations(robin, filed):
        assert abs(off) <= limit


def test_at_six_times_the_rate_nearly_all_that_is_feasible_is_good(busy: Figures) -> None:
    assert busy["good"] >= 0.98 * busy["feasible"]
    assert busy["good"] <= busy["bound"] <= busy["feasible"] <= busy["requests"]
    assert sum(busy["good_by_quintile"]) == busy["good"]


@pytest.fixture
def found(robin: Figures, busy: Figures, filed: Figures) -> page.Findings:
    return page.Findings(
        command="a test",
        seeds=(0,),
        peer="it is a test",
        fidelity=[(ROBIN, robin, filed)],
        rows={(ROBIN.policy, 1.0, None): [robin], (OURS, 6.0, None): [busy], (OURS, 7.0, 25.0): []},
        filed=best_filed(filed_rows()),
        prefix_bounds={"pooled LRU": Mean(0.27, 0.01), "pooled Belady": Mean(0.3, None)},
        tuning=[
            tuning.Choice(option="look", value=value, default=value == 12, shares={"a": share})
            for value, share in ((4, 0.93), (12, 0.9))
        ],
        speed={OURS: Speed(policy=OURS, measured=(4000.0, 6000.0, 5000.0))},
        micro=Section(
            title="Dispatch",
            workload="some",
            rows=[Row(name=f"dispatch_1024_{q}_us", value=49.9, unit="us") for q in ("p50", "p90", "p99", "max")],
        ),
    )


def test_what_was_promised_is_judged_by_what_was_measured(found: page.Findings) -> None:
    assert {verdict.claim.partition(",")[0].partition(":")[0]: verdict.holds for verdict in found.verdicts} == {
        "round robin as Dynamo's": True,
        "6×": True,
        "one dispatch": True,
        "simulator": True,
        "defaults within 1% of the best value tried": False,
    }


def test_every_table_of_the_page_has_as_many_cells_as_columns(found: page.Findings, tmp_path: Path) -> None:
    text, picture, data = page.write(found, tmp_path / "scheduler")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [run["policy"] for run in json.loads(data.read_text())["runs"]][-1] == OURS
    written = text.read_text()
    assert "| **coxswain** | 11," in written
    for table in written.split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, table


def test_a_row_takes_the_split_that_did_best_on_the_first_seed() -> None:
    scope = plan.full(peer=True)
    template = f"static:prefill={plan.SPLIT}"
    done: dict[str, Figures] = {run.key: {"good": 5 * ("=5" in run.policy)} for run in plan.sweep(scope)}
    runs = plan.rows(scope, done)[template, 6, None]
    assert [run.policy for run in runs] == ["static:prefill=5"] * 5
    assert [run.seed for run in runs] == [0, 1, 2, 3, 4]


def test_dynamos_splits_have_names_of_their_own() -> None:
    name = plan.with_split(f"{PEER} kv_router {plan.SPLIT}", 5)
    assert name == f"{PEER} kv_router 5P3D"
    assert (str(pools_of("5P3D")), str(pools_of("8"))) == ("5P3D", "8")


def test_what_was_run_by_the_same_code_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.arena.running._KEPT", tmp_path)
    console = Console(file=io.StringIO())
    file = Runner(console, None).file
    file.write_text(json.dumps([BUSY.key, {"good": 7}]) + '\n["cut sho')
    again = Runner(console, None)
    assert again.figures([BUSY, ROBIN]) == [{"good": 7}]
    assert again.run("nothing", [BUSY]) == {BUSY.key: {"good": 7}}
    assert Runner(console, None, fresh=True).done == {}


def test_an_interval_is_students() -> None:
    assert Mean.of([1, 2, 3, 4, 5]) == pytest.approx((3.0, 1.963), abs=1e-3)
    assert Mean.of([4.0]).shown() == "4"


def test_tuning_is_on_other_traces_and_one_option_at_a_time() -> None:
    runs = tuning.plan([0])
    assert {run.workload for run in runs} == {"azure", "turns"}
    assert all(run.policy.count("=") <= 1 for run in runs)
    assert CONVERSATION.name not in (AZURE.name, conversations(1).name)


def test_synthetic_conversations_share_what_was_said_before() -> None:
    trace = conversations(300, seed=1)
    assert trace == conversations(300, seed=1) != conversations(300, seed=2)
    assert list(trace.requests) == sorted(trace.requests, key=lambda request: request.arrival)
    parents: dict[int, int] = {}
    for request in trace.requests:
        assert len(request.chunks) == -(-request.prompt_tokens // trace.chunk_tokens)
        for before, chunk in zip((-1, *request.chunks), request.chunks, strict=False):
            assert parents.setdefault(chunk, before) == before, "a chunk's name says all that comes before it"
    assert sum(by_quintile(trace, [True] * 300)) == 300
