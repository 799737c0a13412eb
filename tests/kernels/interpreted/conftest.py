"""Kernels run by Triton's interpreter: a process of their own, for its switch breaks compilation in the same one."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

if os.environ.get("TRITON_INTERPRET") == "1":
    from tests.kernels.interpreted.interpreter import mend

    mend()
else:
    collect_ignore_glob = ["test_*.py"]

_outcomes: dict[str, dict[str, list[str]]] = defaultdict(lambda: {"parity": [], "invariant": []})


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def device() -> str:
    """Where tensors of the tests are: what the interpreter reads."""
    return "cpu"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kernel-outcomes", metavar="FILE", help="write which operations passed, for the table")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" or report.failed:
        for kind in ("parity", "invariant"):
            for mark in item.iter_markers(kind):
                _outcomes[mark.args[0]][kind].append(report.outcome)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if path := session.config.getoption("--kernel-outcomes", default=None):
        Path(path).write_text(json.dumps(_outcomes, indent=1))
