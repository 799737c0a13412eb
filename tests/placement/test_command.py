import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from coxswain_scheduler.placement import search
from coxswain_scheduler.placement.placement import place
from coxswain_simulate.__main__ import main
from coxswain_simulate.placements import Flags, read
from tests.placement.cases import EXAMPLE, MELANGE, OURS, PUBLISHED

CASES = [json.loads(line) for line in PUBLISHED.read_text().splitlines()]


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case['tpot_slo_s']}-{case['rate_rps']}-{case['slice_factor']}"
)
def test_cost_is_the_published_optimum_in_parts_and_no_more_in_shares(case: dict[str, Any]) -> None:
    name = f"tpot_slo_{case['tpot_slo_s'] * 1000:.0f}ms"
    flags = {"rate": case["rate_rps"], "profile": name}
    assert place(read(MELANGE, Flags(**flags, slice_factor=case["slice_factor"])).problem).cost == pytest.approx(
        case["optimal_cost_per_h"], abs=1e-6
    )
    assert place(read(MELANGE, Flags(**flags)).problem).cost <= case["optimal_cost_per_h"] + 1e-6


@pytest.mark.parametrize(("rate", "parts"), [(8, 1), (8, 4), (200, 1)])
def test_mixes_tried_one_by_one_and_parts_as_variables_agree(
    monkeypatch: pytest.MonkeyPatch, rate: int, parts: int
) -> None:
    problem = read(MELANGE, Flags(rate=rate, profile="40ms", slice_factor=parts)).problem
    cost = place(problem).cost
    monkeypatch.setattr(search, "_TRIES", 0)
    assert place(problem).cost == pytest.approx(cost)


def run(*arguments: str | Path) -> int:
    return main(["place", *map(str, arguments)])


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    assert run(*arguments, "--json", "-") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_melanges_example(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "--inputs", EXAMPLE)
    assert (found["cost"], found["mix"]) == (6.7, {"A10G": 3, "A100-80GB": 1})
    assert found["cpu_s"] > 0
    assert found["bound"] <= found["cost"]
    shared = answer(capsys, "--inputs", EXAMPLE, "--slice-factor", "0")
    assert shared["cost"] == 4.68


@pytest.mark.parametrize("name", ["120ms", "tpot_slo_120ms", "profiles_tpot_slo_120ms"])
def test_a_table_is_chosen_by_any_of_its_names(capsys: pytest.CaptureFixture[str], name: str) -> None:
    flags = ("--rate", "8", "--profile", name, "--slice-factor", "4")
    assert answer(capsys, "--inputs", MELANGE, *flags)["cost"] == 11.886


def test_our_format_with_cost_models(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = answer(capsys, "--inputs", OURS)
    assert found["bound"] <= found["cost"] <= 60
    assert found["reasons"][0].split(" for ")[0] == " + ".join(f"{n} {name}" for name, n in found["mix"].items())
    assert run("--inputs", OURS, "--json", tmp_path / "answer.json") == 0
    assert json.loads((tmp_path / "answer.json").read_text())["mix"] == found["mix"]


MEASURED = {
    "rate": 10,
    "objectives": {"ttft": "1s", "interToken": "50ms"},
    "lengths": {"inputEdges": [100], "outputEdges": [100, 500], "distribution": [[0.5, 0.5]]},
    "accelerators": {"small": {"price": 1.0}, "large": {"price": 4.0, "stock": 3}},
    "engines": [
        {"accelerator": "small", "measured": [{"ttft": "1s", "interToken": "120ms", "requestsPerSecond": [[5, 5]]}]},
        {
            "accelerator": "large",
            "measured": [
                {"ttft": "1s", "interToken": "50ms", "requestsPerSecond": [[5, 0.0001]]},
                {"ttft": "1s", "interToken": "80ms", "requestsPerSecond": [[10, 10]]},
            ],
        },
    ],
}


def written(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def test_an_objective_that_cannot_be_met_is_refused_with_the_nearest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("--inputs", written(tmp_path / "case.yaml", MEASURED), "--json", tmp_path / "out.json") == 1
    told = capsys.readouterr().err
    assert "no kind of engine serves requests of 100 in × 500 out (50.00% of all)" in told
    assert "the nearest objectives that can be met are TTFT 1 s and inter-token 0.08 s" in told
    assert json.loads((tmp_path / "out.json").read_text())["feasible"] is False
    looser = MEASURED | {"objectives": {"ttft": "1s", "interToken": "80ms"}}
    assert answer(capsys, "--inputs", written(tmp_path / "case.yaml", looser))["mix"] == {"large": 1}


def test_a_stock_too_small_is_refused_with_the_rate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    looser = MEASURED | {"objectives": {"ttft": "1s", "interToken": "80ms"}}
    assert run("--inputs", written(tmp_path / "case.yaml", looser), "--rate", "45") == 1
    assert "the nearest that can be had is 30 requests/s, with 3 large" in capsys.readouterr().err


def test_a_distribution_that_does_not_add_up_is_told_and_taken_as_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    document = json.loads(EXAMPLE.read_text())
    document["workload_distribution"] = [[0.4, 0.2], [1.0, 0.4]]
    (tmp_path / "double.json").write_text(json.dumps(document))
    assert run("--inputs", tmp_path / "double.json", "--json", "-") == 0
    output = capsys.readouterr()
    assert "workload_distribution adds up to 2, not 1" in output.err
    assert json.loads(output.out)["requests_per_s"] == 60


def changed(path: tuple[int | str, ...], value: object) -> dict[str, Any]:
    """Mélange's example with one field changed, or left out for None."""
    document: dict[str, Any] = json.loads(EXAMPLE.read_text())
    inner: Any = document
    for step in path[:-1]:
        inner = inner[step]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("gpu_info", "A10G", "cost"), 0, ":4: gpu_info.A10G.cost: Input should be greater than 0"),
        (("gpu_info", "A10G", "cost"), "1", ":4: gpu_info.A10G.cost: Input should be a valid number"),
        (("gpu_info", "A10G", "cost"), None, "gpu_info.A10G.cost: Field required"),
        (("gpu_info", "A10G", "tputs"), [[1, 2]], "gpu_info.A10G.tputs: has 1 rows; the distribution has 2"),
        (("gpu_info", "A10G", "tputs", 1), [1], "gpu_info.A10G.tputs.1: has 1 columns; the distribution has 2"),
        (
            ("gpu_info", "A10G", "tputs", 0, 0),
            -1,
            "gpu_info.A10G.tputs.0.0: Input should be greater than",
        ),
        (("gpu_info", "A10G", "tputs", 0, 0), float("nan"), "gpu_info.A10G.tputs.0.0: Input should be"),
        (("workload_distribution",), [[0, 0], [0, 0]], "workload_distribution: has no request in any bucket"),
        (("workload_distribution",), [[1, 0], [0]], "workload_distribution.1: has 1 columns, the first row has 2"),
        (("total_request_rate",), 0, "total_request_rate: Input should be greater than 0"),
        (("slice_factor",), 0, "slice_factor: Input should be greater than or equal to 1"),
        (("gpus",), {}, "gpus: there is no such field"),
        (("gpu_info",), {}, "gpu_info: Dictionary should have at least 1 item"),
    ],
)
def test_a_wrong_file_gets_one_line_with_its_field(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, path: tuple[int | str, ...], value: object, message: str
) -> None:
    file = tmp_path / "case.json"
    file.write_text(json.dumps(changed(path, value), indent=1))
    assert run("--inputs", file) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"coxswain-simulate: {file}:")
    assert told.count("\n") == 1
    assert message in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no fields"),
        ("{", ":1: is not JSON"),
        ("a: [", "is not YAML"),
        ("[1, 2]", "holds no fields"),
        ('{"gpu_info": 1, "gpu_info": 2}', "gpu_info is there twice"),
        ("rate: 1\nrate: 2", ":2: rate is there twice"),
        ("rate: 1", "objectives: Field required"),
    ],
)
def test_what_is_no_such_file_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "case").write_text(text)
    assert run("--inputs", tmp_path / "case") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("objectives", {"ttft": 1, "interToken": "50ms"}, ":3: objectives.ttft: 1 has no unit"),
        (
            "engines",
            [{"accelerator": "tpu", "profile": "mocker"}],
            "engines.0.accelerator: tpu is not among small",
        ),
        ("engines", [{"accelerator": "small"}], "engines.0: give either measured, with tables, or profile"),
        ("engines", [{"accelerator": "small", "profile": "h900"}], "engines.0.profile: no engine profile 'h900'"),
        ("engines", [{"accelerator": "small", "profile": "h100-llama-3-8b-tp2"}], "runs on 2, tensorParallel is 1"),
        ("engines", MEASURED["engines"][:1] * 2, "engines.1: this accelerator, role and tensorParallel"),  # type: ignore[index]
        ("current", {"mix": {"tiny": 1}}, "current.mix.tiny: there is no such engine; they are large, small"),
    ],
)
def test_a_wrong_field_of_ours_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, field: str, value: object, message: str
) -> None:
    assert run("--inputs", written(tmp_path / "case.yaml", MEASURED | {field: value})) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--profile", "40ms"), "names no rate: add --rate"),
        (("--rate", "8"), "choose one with --profile"),
        (
            ("--rate", "8", "--profile", "41ms"),
            "no table '41ms'; --profile is one of tpot_slo_120ms, tpot_slo_40ms",
        ),
    ],
)
def test_missing_flags_are_told(capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str) -> None:
    assert run("--inputs", MELANGE, *flags) == 2
    assert message in capsys.readouterr().err


def test_an_objective_that_only_another_table_meets(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    document = json.loads(MELANGE.read_text())
    for gpu in document["profiles_tpot_slo_40ms"].values():
        gpu["tputs"][5][3] = 0.0001
    (tmp_path / "case.json").write_text(json.dumps(document))
    assert run("--inputs", tmp_path / "case.json", "--rate", "8", "--profile", "40ms") == 1
    told = capsys.readouterr().err
    assert "no kind of engine serves requests of 2000 in × 500 out (26.37% of all) as asked" in told
    assert "all can be served as in tpot_slo_120ms" in told
