"""Kernels run by Triton's interpreter: a process of their own, for its switch breaks compilation in the same one.

With `--device cuda`, and without that switch, the tests that ask where their tensors are to be are run on a GPU.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch

if os.environ.get("TRITON_INTERPRET") == "1":
    from tests.kernels.interpreted.interpreter import mend

    mend()

_outcomes: dict[str, dict[str, list[str]]] = defaultdict(lambda: {"parity": [], "invariant": []})


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def device_name(pytestconfig: pytest.Config) -> str:
    """Where tensors of the tests are: `cpu` is what the interpreter reads."""
    return _device(pytestconfig)


@pytest.fixture
def device(device_name: str) -> Iterator[str]:
    """The same; on a GPU, it is also where tensors are made of which nobody says where."""
    if device_name == "cpu":
        yield device_name
        return
    with torch.device(device_name):
        yield device_name


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cpu", "cuda"), default="cpu", help="where kernels run: cpu interprets them")
    parser.addoption("--kernel-outcomes", metavar="FILE", help="write which operations passed, for the table")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    interpreting = os.environ.get("TRITON_INTERPRET") == "1"
    if interpreting and _device(config) != "cpu":
        raise pytest.UsageError("TRITON_INTERPRET is 1, so kernels cannot run on --device cuda: unset it")
    return True if collection_path.name.startswith("test_") and not interpreting and _device(config) == "cpu" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _device(config) == "cpu":
        return
    mine = [item for item in items if item.path.parent == Path(__file__).parent]
    apart = [item for item in mine if "device_name" not in getattr(item, "fixturenames", ())]
    items[:] = [item for item in items if item not in apart]
    config.hook.pytest_deselected(items=apart)


def _device(config: pytest.Config) -> str:
    return str(config.getoption("--device", default="cpu"))


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
