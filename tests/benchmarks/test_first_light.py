"""What the benchmarks write, without measuring anything that takes long."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import first_light
from benchmarks.processes import running
from benchmarks.rows import Row, Section, as_json, as_page, hardware

SECTION = Section(
    title="Engine",
    workload="As much as a test needs.",
    rows=[
        Row(name="faster", value=1234.5, unit="tokens/s", peer="other", peer_value=99.0),
        Row(name="slower", value=0.123, unit="s"),
    ],
)


def test_rows_are_json_with_the_five_fields() -> None:
    assert json.loads(as_json([SECTION])) == [
        {"name": "faster", "value": 1234.5, "unit": "tokens/s", "peer": "other", "peer_value": 99.0},
        {"name": "slower", "value": 0.123, "unit": "s", "peer": "", "peer_value": None},
    ]


def test_the_page_says_on_what_and_with_which_command() -> None:
    page = as_page([SECTION], command="python -m benchmarks.first_light", machine=hardware(), date="2026-01-01")
    assert "| faster | 1,234 | tokens/s | other | 99.0 |" in page
    assert f"{len(os.sched_getaffinity(0))} cores" in page
    assert "As much as a test needs." in page


def test_one_part_alone_leaves_the_page_of_all_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(first_light, "measure", lambda options, console: iter([SECTION]))
    monkeypatch.setattr(first_light, "RESULTS", tmp_path / "results")
    assert first_light.main(["--only", "engine", "--json", str(tmp_path / "rows.json")]) == 0
    assert json.loads((tmp_path / "rows.json").read_text())[0]["name"] == "faster"
    assert not (tmp_path / "results").exists()
    assert "faster" in capsys.readouterr().out


def test_what_cannot_be_measured_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: object, console: object) -> Iterator[Section]:
        yield SECTION
        raise RuntimeError("the operator ended")

    monkeypatch.setattr(first_light, "measure", fail)
    assert first_light.main([]) == 1
    assert capsys.readouterr().err == "error: the operator ended\n"


async def test_a_process_is_measured() -> None:
    async with running("spin", [sys.executable, "-c", "while True: pass"]) as process:
        await until(lambda: process.cpu_seconds() > 0.1, "a busy process used no CPU")
        assert process.memory_mib() > 1


async def test_a_process_that_ended_is_an_error_with_its_last_words() -> None:
    async with running("fail", [sys.executable, "-c", "raise SystemExit('no such thing')"]) as process:
        with pytest.raises(RuntimeError, match="fail ended:\nno such thing"):
            await until(lambda: process.cpu_seconds() < 0, "the process did not end")


async def until(holds: Callable[[], bool], otherwise: str, *, seconds: float = 30) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, otherwise
        await asyncio.sleep(0.01)
