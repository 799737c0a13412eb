"""The scheduler compiled is the scheduler: the same decisions and times to the last bit, and never of older sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coxswain_scheduler.compiled import BUSY, FOLDER, place

ROOT = Path(__file__).parents[2]
REPLAY = """
from coxswain_scheduler.policies.registry import create
from tests.simulator.test_no_clairvoyance import requests, run
log, simulation = run(create("coxswain"), requests(1))
print(log, [(one.id, one.first_token, one.ended, one.engine, one.moves, one.cached) for one in simulation.requests])
"""
FORM = "import coxswain_scheduler.simulator.engine as it; print(it.__file__.endswith('.py'))"

pytestmark = pytest.mark.skipif(not place().exists(), reason="the scheduler is not compiled: `make setup` says why")


def said(script: str, **environment: str) -> str:
    others = {name: value for name, value in os.environ.items() if name != "COXSWAIN_INTERPRETED"}
    command = [sys.executable, "-c", script]
    return subprocess.check_output(command, cwd=ROOT, env=others | environment, text=True)


def test_compiled_and_interpreted_do_the_same() -> None:
    compiled, interpreted = said(REPLAY), said(REPLAY, COXSWAIN_INTERPRETED="1")
    assert len(compiled) > 10_000
    assert compiled == interpreted


def test_it_runs_compiled_unless_it_is_told_not_to() -> None:
    assert said(FORM) == "False\n"
    assert said(FORM, COXSWAIN_INTERPRETED="1") == "True\n"


def test_where_a_source_is_another_all_are_interpreted(tmp_path: Path) -> None:
    for package in BUSY:
        shutil.copytree(FOLDER / package, tmp_path / package)
    assert said(FORM, PYTHONPATH=str(tmp_path)) == "False\n", "it is the content that counts"
    with (tmp_path / "coxswain_scheduler" / "batching" / "pool.py").open("a") as source:
        source.write("\n")
    assert said(FORM, PYTHONPATH=str(tmp_path)) == "True\n"
