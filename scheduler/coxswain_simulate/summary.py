"""A run's figures, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from coxswain_scheduler.simulator.results import Outcome, Result, quantile, quantiles
from coxswain_scheduler.simulator.trace import Trace

_CURVE = tuple(i / 200 for i in range(201))
_LOAD_POINTS = 600
_CACHES = ("pooled_lru", "pooled_belady", "infinite")


def summary(trace: Trace, result: Result, *, feasible: Sequence[bool], bound: int) -> dict[str, Any]:
    """The figures that `--json` writes; times in seconds.

    Quintiles are of all requests by prompt length, shortest first. `curves` and `load` are what `plot` draws: values at
    even shares from 0 to 1, and (seconds, engines, running, waiting) over time.
    """
    good = [outcome.good(result.objectives) for outcome in result.outcomes]
    ttft, gaps = result.values(lambda one: one.ttft), result.values(lambda one: one.inter_token)
    return {
        "requests": len(result.outcomes),
        "feasible": sum(feasible),
        "bound": bound,
        "good": sum(good),
        "good_by_quintile": by_quintile(trace, good),
        "feasible_by_quintile": by_quintile(trace, feasible),
        "prefix_reuse": result.prefix_reuse,
        "ttft_s": quantiles(ttft),
        "inter_token_s": quantiles(gaps),
        "token_gap_p99_s": result.gaps.quantile(0.99),
        "end_to_end_s": quantiles(result.values(lambda one: one.end_to_end)),
        "shed": result.shed,
        "unfinished": sum(one.ended is None and one.shed is None for one in result.outcomes),
        "moves": result.moves,
        "role_changes": result.role_changes,
        "preemptions": result.preemptions,
        "gpu_hours": result.gpu_seconds / 3600,
        "cpu_s": result.cpu_s,
        "virtual_s": result.virtual_s,
        "by_priority": _groups(result, lambda one: str(one.priority)),
        "by_tenant": _groups(result, lambda one: one.tenant),
        "curves": {"ttft_s": _curve(ttft), "inter_token_s": _curve(gaps)},
        "load": _thinned(result.load),
    }


def by_quintile(trace: Trace, marked: Sequence[bool]) -> list[int]:
    """How many of each fifth of the requests, by prompt length, are marked."""
    counts = [0] * 5
    order = sorted(range(len(marked)), key=lambda index: trace.requests[index].prompt_tokens)
    for place, index in enumerate(order):
        counts[place * 5 // len(order)] += marked[index]
    return counts


def table(figures: Mapping[str, Any]) -> Table:
    """For people."""
    shown = Table(title=figures["title"], title_justify="left", show_header=False)
    shown.add_column("figure")
    shown.add_column("value", justify="right")
    for name, value in _rows(figures):
        shown.add_row(name, value)
    return shown


def _rows(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    good, bound = figures["good"], figures["bound"]
    fifths = zip(figures["good_by_quintile"], figures["feasible_by_quintile"], strict=True)
    caches = figures["prefix_bounds"]
    rows = [
        ("requests, of them feasible", f"{figures['requests']:,}, {figures['feasible']:,}"),
        ("good, of the most possible", f"{good:,} of {bound:,} ({_percent(good, bound)})"),
        ("gap to the bound", f"{bound - good:,}"),
        ("good of feasible, by prompt length", "  ".join(_percent(a, b) for a, b in fifths)),
        ("prefix reuse", f"{figures['prefix_reuse']:.4f}"),
        ("of pooled LRU, pooled Belady, infinite", "  ".join(f"{caches[name]:.4f}" for name in _CACHES)),
    ]
    for key, name in (
        ("ttft_s", "first token"),
        ("inter_token_s", "mean between tokens"),
        ("end_to_end_s", "whole answer"),
    ):
        rows.append((f"{name} P50, P90, P99", "  ".join(_time(figures[key][p]) for p in ("p50", "p90", "p99"))))
    rows += [
        ("between single tokens P99", _time(figures["token_gap_p99_s"])),
        ("shed, unfinished", f"{figures['shed']:,}, {figures['unfinished']:,}"),
        (
            "moves, role changes, preemptions",
            f"{figures['moves']:,}, {figures['role_changes']:,}, {figures['preemptions']:,}",
        ),
        ("GPU-hours", f"{figures['gpu_hours']:.2f}"),
        ("virtual time, CPU time", f"{figures['virtual_s']:,.1f} s, {figures['cpu_s']:.2f} s"),
    ]
    return rows


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _curve(ascending: list[float]) -> list[float | None]:
    return [quantile(ascending, share) for share in _CURVE]


def _thinned(load: Sequence[tuple[float, int, int, int]]) -> list[tuple[float, int, int, int]]:
    return list(load[:: max(1, -(-len(load) // _LOAD_POINTS))])


def _groups(result: Result, key: Any) -> dict[str, dict[str, Any]]:
    """The main figures of each group of requests; nothing where all are of one."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in result.outcomes:
        groups.setdefault(key(outcome), []).append(outcome)
    if len(groups) < 2:
        return {}
    return {name: _figures(outcomes, result) for name, outcomes in sorted(groups.items())}


def _figures(outcomes: Sequence[Outcome], result: Result) -> dict[str, Any]:
    ends = sorted(one.end_to_end for one in outcomes if one.end_to_end is not None)
    firsts = sorted(one.ttft for one in outcomes if one.ttft is not None)
    return {
        "requests": len(outcomes),
        "good": sum(one.good(result.objectives) for one in outcomes),
        "ttft_s": {"mean": _mean(firsts), **quantiles(firsts)},
        "end_to_end_s": {"mean": _mean(ends), **quantiles(ends)},
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
