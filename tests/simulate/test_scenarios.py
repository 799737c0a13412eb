"""Scenarios are read strictly; what is wrong is told in one line that names file, line and field."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from coxswain_scheduler.simulator.setup import Fault
from coxswain_scheduler.simulator.trace import Trace, TraceRequest
from coxswain_simulate.errors import InputError
from coxswain_simulate.scenarios import Tenant, Workflows, read_scenario
from coxswain_simulate.tenants import assign

EXAMPLES = Path(__file__).parents[2] / "examples" / "scenarios"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_read(path: Path) -> None:
    assert read_scenario(path).model_fields_set


def test_units_become_seconds_and_bytes() -> None:
    link = read_scenario(EXAMPLES / "ethernet.yaml").link
    assert link is not None
    assert link.bandwidth == 25e9 / 8
    assert link.latency == pytest.approx(50e-6)
    faults = [incident.fault() for incident in read_scenario(EXAMPLES / "faults.yaml").faults]
    assert faults == [
        Fault(kind="Kill", engine=0, at=60.0),
        Fault(kind="Slow", engine=1, at=120.0, seconds=60.0, factor=3.0),
        Fault(kind="Partition", engine=2, at=200.0, seconds=10.0),
    ]


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("", 1, "no fields"),
        ("[1, 2]", 1, ""),
        ("tenants:\n  - name: a\n    share: 10%\n   share: 3\n", 4, "YAML"),
        ("faults: []\nfaults: []\n", 2, "faults"),
        ("faults:\n  - kind: Kill\n    engine: 0\n    at: 5s\n    when: 6s\n", 5, "faults.0.when"),
        ("faults:\n  - kind: Kill\n    engine: 0\n", 2, "faults.0.at"),
        ("faults:\n  - kind: Kill\n    engine: 0\n    at: 60\n", 4, "no unit"),
        ("faults:\n  - {kind: Melt, engine: 0, at: 5s}\n", 2, "faults.0.kind"),
        ("faults:\n  - {kind: Kill, engine: -1, at: 5s}\n", 2, "faults.0.engine"),
        ("faults:\n  - {kind: Kill, engine: '0', at: 5s}\n", 2, "faults.0.engine"),
        (
            "\nfaults:\n  - {kind: Kill, engine: 0, at: 5s}\n  - {kind: Slow, engine: 0, at: 5s, duration: 1s}\n",
            4,
            "factor",
        ),
        ("faults:\n  - {kind: Partition, engine: 0, at: 5s}\n", 2, "duration"),
        ("faults:\n  - {kind: Kill, engine: 0, at: 5s, duration: 5s}\n", 2, "duration"),
        ("startup: -3s\n", 1, "startup"),
        ("link:\n  bandwidth: 25\n", 2, "link.bandwidth"),
        ("tenants:\n  - {name: a, share: 60%}\n  - {name: b, share: 60%}\n", 1, "120%"),
        ("tenants:\n  - {name: a, share: 5%}\n  - {name: a, share: 5%}\n", 1, "same name"),
        ("tenants:\n  - name: a\n    share: 5%\n    workflows: {stages: 1}\n", 4, "stages"),
        ("a: &a [*a]\n", 1, ""),
        ("a: \x07\n", 1, "character"),
    ],
)
def test_a_wrong_scenario_gets_one_line(tmp_path: Path, text: str, line: int, field: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_scenario(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert field in str(error.value)
    assert "\n" not in str(error.value)


def _trace(count: int) -> Trace:
    return Trace("t", tuple(TraceRequest(id=i, arrival=i, prompt_tokens=10, output_tokens=2) for i in range(count)))


def test_tenants_get_their_shares() -> None:
    tenants = [Tenant(name="a", share="25%", priority=2), Tenant(name="b", share=0.5, deadline="3s")]  # type: ignore[arg-type]
    requests = assign(_trace(4000), tenants, seed=1).requests
    counts = Counter(request.tenant for request in requests)
    assert counts["a"] == pytest.approx(1000, rel=0.1)
    assert counts["b"] == pytest.approx(2000, rel=0.1)
    assert {(r.priority, r.deadline) for r in requests} == {(2, None), (0, 3.0), (0, None)}
    assert assign(_trace(4000), tenants, seed=1).requests == requests


def test_workflows_chain_a_tenants_requests() -> None:
    flows = Workflows(stages=3, pause="1s", deadline="30s")  # type: ignore[arg-type]
    requests = assign(_trace(7), [Tenant(name="agent", share=1.0, workflows=flows)]).requests
    assert [request.after for request in requests] == [(), (0,), (1,), (), (3,), (4,), ()]
    assert [request.arrival for request in requests] == [0, 1, 1, 3, 1, 1, 6]
    assert [request.workflow for request in requests] == ["agent-0"] * 3 + ["agent-1"] * 3 + ["agent-2"]
    assert {request.deadline for request in requests} == {10.0}
