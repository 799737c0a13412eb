"""The comparison's tables, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.arena.intervals import Mean
from benchmarks.arena.plan import OURS, SPLIT
from benchmarks.arena.runs import LINK_GB_S, PEER, Figures, Run
from benchmarks.arena.speed import Speed
from benchmarks.arena.tuning import NEAR, Choice, worst

Rows = Mapping[tuple[str, float, float | None], Sequence[Figures]]
"""Figures of all seeds, by policy, speed-up and link."""

GOOD_WITHIN, TTFT_WITHIN, REUSE_WITHIN = 0.02, 0.05, 0.005

_COLUMNS = (
    "policy", "good", "of feasible", "bound", "gap to bound", "good of feasible by prompt length, %", "reuse",
    "TTFT P50 · P90 · P99, s", "mean inter-token P50 · P90 · P99, ms", "token gap P99, ms",
    "shed", "moves", "role changes", "CPU s",
)  # fmt: skip


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    head = [f"| {' | '.join(columns)} |", "|---|" + "---:|" * (len(columns) - 1)]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def goodput(rows: Rows, speedup: float, link: float | None) -> str:
    """One speed-up, best policy first."""
    found = [
        (name, figures) for (name, at, by), figures in rows.items() if (at, by) == (speedup, link) and len(figures)
    ]
    found.sort(key=lambda row: -mean(row[1], "good").value)
    return markdown(_COLUMNS, [_goodput(name, figures) for name, figures in found])


def mean(figures: Sequence[Figures], *path: str) -> Mean:
    """Of one figure, over the seeds."""
    return Mean.of([_value(one, path) for one in figures])


def of_feasible(figures: Sequence[Figures]) -> Mean:
    """Share of the feasible requests that were good."""
    return Mean.of([one["good"] / one["feasible"] for one in figures])


def quintiles(figures: Sequence[Figures]) -> list[float]:
    """The same by prompt length, shortest first, mean over the seeds."""
    shares = [
        [good / max(1, of) for good, of in zip(one["good_by_quintile"], one["feasible_by_quintile"], strict=True)]
        for one in figures
    ]
    return [sum(fifth) / len(fifth) for fifth in zip(*shares, strict=True)]


def title(name: str, figures: Sequence[Figures]) -> str:
    """What a row is called: our policy in bold, and the split that was chosen."""
    chosen = str(figures[0]["policy"])
    if chosen == OURS:
        return f"**{OURS}**"
    return f"{chosen} (best split)" if SPLIT in name else chosen


def _goodput(name: str, figures: Sequence[Figures]) -> list[str]:
    bound, good = mean(figures, "bound"), mean(figures, "good")
    return [
        title(name, figures),
        good.shown(),
        of_feasible(figures).shown(".2%"),
        f"{bound.value:,.0f}",
        f"{bound.value - good.value:,.0f} ({1 - good.value / bound.value:.1%})",
        " ".join(f"{share:.0%}".rstrip("%") for share in quintiles(figures)),
        f"{mean(figures, 'prefix_reuse').value:.4f}",
        _percentiles(figures, "ttft_s", 1.0, ".2f"),
        _percentiles(figures, "inter_token_s", 1e3, ".1f"),
        f"{mean(figures, 'token_gap_p99_s').value * 1e3:,.0f}",
        *(f"{mean(figures, key).value:,.0f}" for key in ("shed", "moves", "role_changes")),
        f"{mean(figures, 'cpu_s').value:.1f}",
    ]


def _percentiles(figures: Sequence[Figures], key: str, unit: float, form: str) -> str:
    return " · ".join(f"{mean(figures, key, place).value * unit:{form}}" for place in ("p50", "p90", "p99"))


def _value(figures: Figures, path: Sequence[str]) -> float:
    found: Any = figures
    for key in path:
        found = found[key]
    return float(found or 0.0)


_FIDELITY: Sequence[tuple[str, Callable[[Figures], float], float, str]] = (
    ("good", lambda one: float(one["good"]), GOOD_WITHIN, ",.0f"),
    ("TTFT P50, s", lambda one: float(one["ttft_s"]["p50"]), TTFT_WITHIN, ".3f"),
    ("TTFT P99, s", lambda one: float(one["ttft_s"]["p99"]), TTFT_WITHIN, ".3f"),
    ("reuse", lambda one: float(one["prefix_reuse"]), REUSE_WITHIN, ".4f"),
)


def deviations(ours: Figures, theirs: Figures) -> list[tuple[float, float]]:
    """How far our round robin is from Dynamo's, and how far it may be: good as a share of all requests, TTFT P50 and
    P99 of theirs, reuse as it is."""
    scale = (ours["requests"], theirs["ttft_s"]["p50"], theirs["ttft_s"]["p99"], 1.0)
    return [
        ((figure(ours) - figure(theirs)) / by, limit)
        for (_, figure, limit, _), by in zip(_FIDELITY, scale, strict=True)
    ]


def fidelity(pairs: Iterable[tuple[Run, Figures, Figures]]) -> str:
    """Our round robin beside Dynamo's: (our run, ours, theirs)."""
    rows = []
    for run, ours, theirs in pairs:
        cells = [f"{run.speedup:g}×, {run.policy.partition('=')[2] or 'no'} split".replace("no split", "8 engines")]
        for (name, figure, _, form), (off, limit) in zip(_FIDELITY, deviations(ours, theirs), strict=True):
            shown = f"{off:+.4f}" if name == "reuse" else f"{off:+.2%}"
            missed = " ✗" if abs(off) > limit else ""
            cells.append(f"{figure(ours):{form}} · {figure(theirs):{form}} ({shown}{missed})")
        rows.append(cells)
    return markdown(("speed-up", *(f"{name}: ours · Dynamo's" for name, *_ in _FIDELITY)), rows)


def reuse(rows: Rows, bounds: Mapping[str, Mean], speedups: Sequence[float]) -> str:
    """Prompt tokens that were not computed, by policy, below what caches could spare."""
    lines = [[f"*{name}*", *(bound.shown(".4f") for _ in speedups), ""] for name, bound in bounds.items()]
    for name in dict.fromkeys(policy for policy, _, _ in rows):
        several = [rows.get((name, at, None), ()) for at in speedups]
        if all(several):
            cells = [mean(figures, "prefix_reuse") for figures in several]
            gap = bounds["pooled Belady"].value - cells[0].value
            lines.append([title(name, several[0]), *(cell.shown(".4f") for cell in cells), f"{gap:.4f}"])
    return markdown(("cache or policy", *(f"{at:g}×" for at in speedups), "below Belady"), lines)


def tuning(found: Sequence[Choice]) -> str:
    """Every value tried, the default in bold."""
    places = list(found[0].shares)
    lines = [
        [
            choice.option,
            f"**{choice.value:g}**" if choice.default else f"{choice.value:g}",
            *(f"{choice.shares[place]:.2%}" for place in places),
            f"{choice.mean:.2%}",
        ]
        for choice in found
    ]
    return markdown(("option", "value", *places, "mean"), lines)


def tuned(found: Sequence[Choice]) -> Iterator[str]:
    """For each option, whether its default is near the best value."""
    for option, (loss, best) in worst(found).items():
        near = "within" if loss <= NEAR else "NOT within"
        yield f"- `{option}`: the default is {loss:.2%} below the best value tried ({best.value:g}): {near} {NEAR:.0%}."


def speed(found: Mapping[str, Speed]) -> str:
    """Requests per CPU-second."""
    lines = [
        [policy, f"{one.median:,.0f}", " ".join(f"{rate:,.0f}" for rate in one.measured)]
        for policy, one in found.items()
    ]
    return markdown(("simulator and policy", "median", "measured"), lines)


def link_title(link: float | None) -> str:
    """For a heading."""
    return "free KV transfer" if link is None else f"{LINK_GB_S:g} GB/s, 128 KiB per token"


def peer_rows(rows: Rows, speedup: float) -> list[Sequence[Figures]]:
    """Dynamo's, in the main table."""
    return [
        figures
        for (name, at, link), figures in rows.items()
        if name.startswith(PEER) and at == speedup and link is None and figures
    ]
