"""The page `benchmarks/results/scheduler.md`, its picture and its raw data."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.arena import elsewhere, tables, verdicts
from benchmarks.arena.intervals import Mean
from benchmarks.arena.picture import draw
from benchmarks.arena.runs import LINK_GB_S, Figures, Run
from benchmarks.arena.speed import REPEATS, Speed
from benchmarks.arena.tables import Rows
from benchmarks.arena.tuning import Choice
from benchmarks.dynamo_wheels import VERSION
from benchmarks.rows import Row, Section, hardware

_ROOT = Path(__file__).parents[2]
_RESULTS = _ROOT / "benchmarks" / "results"


@dataclass(kw_only=True)
class Findings:
    """All that a job found; what it did not measure is empty."""

    command: str
    seeds: Sequence[int]
    peer: str = ""
    """Why Dynamo's rows are missing, where they are."""
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    """Average at the beginning."""
    fidelity: Sequence[tuple[Run, Figures, Figures]] = ()
    rows: Rows = field(default_factory=dict)
    filed: Mapping[float, int] = field(default_factory=dict)
    """Good of Dynamo's best filed row, by speed-up."""
    prefix_bounds: Mapping[str, Mean] = field(default_factory=dict)
    tuning: Sequence[Choice] = ()
    speed: Mapping[str, Speed] = field(default_factory=dict)
    micro: Section | None = None
    left_out: Sequence[str] = ()

    @property
    def verdicts(self) -> list[verdicts.Verdict]:
        """What was promised, and whether it holds."""
        return [
            *verdicts.fidelity(self.fidelity),
            *verdicts.goodput(self.rows, self.filed),
            *verdicts.micro(self.micro.rows if self.micro else ()),
            *verdicts.speed(self.speed),
            *verdicts.tuning(self.tuning),
        ]


def text(found: Findings, *, data: str, picture: str) -> str:
    """The page; `data` and `picture` are the files beside it."""
    parts = [
        _head(found, data),
        _fidelity(found),
        *_goodput(found, picture),
        _reuse(found),
        _elsewhere(),
        _micro(found),
    ]
    return "\n".join(part for part in [*parts, _speed(found), _tuning(found)] if part)


def raw(found: Findings) -> str:
    """Everything, for who wants to look closer: a JSON object with a line for each run."""
    head = {
        "command": found.command,
        "began": found.began.isoformat(timespec="seconds"),
        "hardware": hardware(),
        "load_at_start": found.load,
        "versions": _versions(),
        "prefix_bounds": {name: mean.value for name, mean in found.prefix_bounds.items()},
        "speed": {name: list(one.measured) for name, one in found.speed.items()},
        "tuning": [{**asdict(choice), "mean": choice.mean} for choice in found.tuning],
        "micro": [asdict(row) for row in found.micro.rows] if found.micro else [],
        "verdicts": [verdict._asdict() for verdict in found.verdicts],
        "left_out": list(found.left_out),
    }
    lines = ",\n".join(json.dumps(run) for run in _runs(found))
    return json.dumps(head, indent=1)[:-2] + ',\n "runs": [\n' + lines + "\n]}\n"


def _runs(found: Findings) -> Iterator[Figures]:
    for _, ours, theirs in found.fidelity:
        yield ours
        yield theirs
    for several in found.rows.values():
        yield from several


_RULES = """\
Mooncake's conversation trace, 8 engines with the timing of Dynamo's mocker, first token within 2 s, mean time between
tokens within 50 ms. A seed moves every arrival by up to a second either way before the speed-up and breaks ties; Dynamo
replays the same traces. Policies run with their default options, as `coxswain-simulate replay` does, but for `hpa`,
which may not have more than the eight engines. *Best split*: the number of prefill engines, of those tried (4, 5 and 6;
with `--brief` 4 and 5), that was best on the first seed at that speed-up: hindsight that ours has not been given.
*Feasible*: alone on idle engines with an infinite shared cache its first token is in time. *Bound*: what no policy can
exceed (`docs/simulator.md`). Shed is not good. Percentiles of TTFT and of the mean time between
tokens are of what was served."""


def _head(found: Findings, data: str) -> str:
    missing = f"\nDynamo's rows are missing: {found.peer}.\n" if found.peer else ""
    left = "".join(f"\nLeft out: {line}.\n" for line in found.left_out)
    lasted = (datetime.now(UTC) - found.began).total_seconds() / 60
    seeds = ", ".join(map(str, found.seeds))
    return f"""\
# The scheduler beside its peers

Written by `{found.command}` on {found.began:%Y-%m-%d} in {lasted:.0f} minutes. {hardware()}, {found.load:.1f} at the
start; {", ".join(f"{name} {known}" for name, known in _versions().items())}. Two simulations ran at a time, but for
speed and for dispatch. Figures are means over seeds {seeds} (with `--brief`, the first for the baselines), ± is the
95 % interval. Raw data: [{data}]({data}).
{missing}{left}
{_RULES}

## What was promised

{tables.markdown(("claim", "measured", "holds"), [verdict.cells for verdict in found.verdicts])}"""


_FILED = """\
Dynamo's are its filed rows, whose reuse has what preempted requests find again on their return in it."""


def _fidelity(found: Findings) -> str:
    if not found.fidelity:
        return ""
    source = _FILED if found.peer else "Dynamo's ran in this job."
    return f"""\
## Fidelity

Our round robin, simulated with engines that take their steps as Dynamo's mocker does
(`coxswain_scheduler/simulator/mocker.py`; no other row uses that), beside Dynamo's own, without jitter. {source}
✗ marks what is further off than 2 % of all requests, 5 % of the time, or 0.005.

{tables.fidelity(found.fidelity)}"""


def _goodput(found: Findings, picture: str) -> Iterator[str]:
    yield f"## Goodput over rate\n\n![Good requests per second over those offered, by policy]({picture})\n"
    for link in dict.fromkeys(link for _, _, link in found.rows):
        about = "" if link is None else f"Both sides pay {LINK_GB_S:g} GB/s between any two engines.\n\n"
        yield f"## Good requests, {tables.link_title(link)}\n\n{about}Best first; losing rows included.\n"
        for speedup in sorted({at for _, at, by in found.rows if by == link}):
            yield f"### {speedup:g}×\n\n{tables.goodput(found.rows, speedup, link)}"


def _reuse(found: Findings) -> str:
    if not found.prefix_bounds:
        return ""
    speedups = sorted({at for _, at, link in found.rows if link is None} & {1, 6})
    return f"""\
## Prefix reuse

Share of all prompt tokens, those of shed requests in the denominator, that were found in the engine's cache when a
request was first admitted; recomputation after preemption does not count. In italics what one cache as large as all
engines' memory could spare, and one without limit, in order of arrival; the last column compares the first one.

{tables.reuse(found.rows, found.prefix_bounds, speedups)}"""


def _micro(found: Findings) -> str:
    if found.micro is None:
        return ""
    rows = {row.name: row for row in found.micro.rows}
    names = dict.fromkeys(name.rsplit("_", 2)[0] for name in rows if name.endswith("_us"))
    lines = [
        [name.replace("_", " "), *(_microseconds(rows[f"{name}_{place}_us"]) for place in ("p50", "p90", "p99", "max"))]
        for name in names
    ]
    head = ("what, and workers", "P50, µs", "P90, µs", "P99, µs", "max, µs")
    return f"## {found.micro.title}\n\n{found.micro.workload}\n\n{tables.markdown(head, lines)}"


def _microseconds(row: Row) -> str:
    return f"{row.value:,.1f}"


def _speed(found: Findings) -> str:
    if not found.speed:
        return ""
    rounds = max(len(one.measured) for one in found.speed.values())
    return f"""\
## Simulator speed

Requests per CPU-second at 6×, 64-token blocks, one process each, by turns{"" if rounds == REPEATS else f" ({rounds})"};
thread CPU time of the replay, loading excluded, garbage collection on.

{tables.speed(found.speed)}"""


def _tuning(found: Findings) -> str:
    if not found.tuning:
        return ""
    return f"""\
## What the options were tuned on

The options of `coxswain` were chosen by hand before it first ran on the conversation trace, all but `patience`, of
which 0.5 and 0.25 were compared there, at 1× without jitter. This is the check on other data
(`benchmarks/arena/tuning.py`): share of the feasible requests that was good, one option changed at a time, on Azure's
conversations of 2023 and on synthetic conversations of many turns, at 0.75 and 0.9 of the speed-up at which the fluid
work fills the engines. Defaults in bold.

{chr(10).join(tables.tuned(found.tuning))}

{tables.tuning(found.tuning)}"""


def _elsewhere() -> str:
    lines = list(elsewhere.lines(_RESULTS))
    return "## On pages of their own\n\n" + "\n".join(lines) + "\n" if lines else ""


def _versions() -> dict[str, str]:
    found = {name: version(name) for name in ("numpy", "highspy")} | {"Dynamo": VERSION}
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=_ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return found
    return found | {"Coxswain": commit}


def write(found: Findings, stem: Path) -> Iterable[Path]:
    """Write the page, its picture and its raw data beside each other; the files."""
    picture = stem.with_name(f"{stem.name}_goodput.png")
    page, data = stem.with_suffix(".md"), stem.with_suffix(".json")
    draw(found.rows, picture)
    page.write_text(text(found, data=data.name, picture=picture.name), encoding="utf-8")
    data.write_text(raw(found), encoding="utf-8")
    return page, picture, data
