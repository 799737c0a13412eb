import json
from pathlib import Path

import pytest

from coxswain_simulate.__main__ import main


@pytest.fixture
def day(tmp_path: Path) -> Path:
    path = tmp_path / "day.csv"
    rows = [f"{5 * n},300,{200 + n % 7 * 100},0" for n in range(120)]
    path.write_text("\n".join(["arrival_s,input_tokens,output_tokens,reason_tokens", *rows]) + "\n")
    return path


def scale(path: Path, *flags: str) -> int:
    return main(["scale", "--trace", str(path), "--format", "servegen", "--profile", "h100-llama-3-8b", *flags])


def test_scale_prints_hours_and_attainment_beside_both_bounds(day: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    flags = ["--copies", "16", "--startup", "60s", "--ttft", "5s", "--itl", "50ms", "--seed", "3", "--verify", "--json"]
    assert scale(day, *flags, str(out)) == 0
    found = json.loads(out.read_text())
    assert found["requests"] == 1920
    assert found["attainment"] >= 0.99
    assert found["clairvoyant"]["attainment"] >= 0.99
    assert found["peak_static"]["attainment"] >= 0.99
    assert found["clairvoyant"]["planned_gpu_hours"] <= found["peak_static"]["planned_gpu_hours"]
    assert {"gpu_hours", "saving", "share_of_clairvoyant_saving", "cpu_s"} <= found.keys()
    assert {"peak_engines", "mean_engines"} <= found["autoscaler"].keys()


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--itl", "1ms"], "cannot meet the objectives"),
        (["--profile", "abacus"], "no engine profile 'abacus'"),
        (["--startup", "soon"], "'soon' is not a duration"),
        (["--attainment", "100%"], "attainment is 1.0"),
    ],
)
def test_a_wrong_flag_gets_one_line(
    day: Path, flags: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(day, *flags) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1


def test_a_wrong_trace_gets_one_line_with_file_line_and_field(day: Path, capsys: pytest.CaptureFixture[str]) -> None:
    day.write_text(day.read_text().replace("10,300,400", "10,300,many"))
    assert status(day) == 2
    error = capsys.readouterr().err
    assert "day.csv:4:" in error
    assert "output_tokens" in error
    assert error.count("\n") == 1


def status(path: Path, *flags: str) -> int:
    try:
        return scale(path, *flags)
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code
