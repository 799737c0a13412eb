"""What was promised beside what was measured: one line each, whether it holds or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmarks.arena.plan import OURS
from benchmarks.arena.runs import Figures, Run
from benchmarks.arena.speed import Speed
from benchmarks.arena.tables import Rows, deviations, mean, of_feasible, peer_rows, quintiles
from benchmarks.arena.tuning import NEAR, Choice, worst
from benchmarks.rows import Row


class Verdict(NamedTuple):
    """`holds` is of the mean over seeds."""

    claim: str
    measured: str
    holds: bool

    @property
    def cells(self) -> list[str]:
        """For a table."""
        return [self.claim, self.measured, "yes" if self.holds else "**no**"]


def fidelity(pairs: Iterable[tuple[Run, Figures, Figures]]) -> Iterator[Verdict]:
    """Per case, all four figures."""
    missed = []
    count = 0
    for run, ours, theirs in pairs:
        count += 1
        if any(abs(off) > limit for off, limit in deviations(ours, theirs)):
            missed.append(f"{run.policy} at {run.speedup:g}×")
    if count:
        held = f"{count - len(missed)} of {count} cases" + (f"; not {', '.join(missed)}" if missed else "")
        claim = "round robin as Dynamo's: good within 2 % of all, TTFT P50 and P99 within 5 %, reuse within 0.005"
        yield Verdict(claim, held, not missed)


def goodput(rows: Rows, filed: Mapping[float, int]) -> Iterator[Verdict]:
    """`filed` is the good of Dynamo's best filed row by speed-up, for where it did not run."""
    for (policy, speedup, link), figures in rows.items():
        if policy != OURS or link is not None or not figures:
            continue
        if speedup <= 4:
            yield _not_below_dynamo(rows, speedup, figures, filed)
        if speedup == 6:
            share = of_feasible(figures)
            yield Verdict("6×: at least 98 % of the feasible good", share.shown(".2%"), share.value >= 0.98)
        if speedup == 7:
            good, fifths = mean(figures, "good"), quintiles(figures)
            yield Verdict("7×: at least 10,300 good", good.shown(), good.value >= 10_300)
            shown = ", ".join(f"{share:.1%}" for share in fifths)
            yield Verdict("7×: at least 75 % of the feasible in each fifth by length", shown, min(fifths) >= 0.75)
        if speedup == 1:
            reuse = mean(figures, "prefix_reuse")
            yield Verdict("1×: prefix reuse at least 0.24", reuse.shown(".4f"), reuse.value >= 0.24)


def _not_below_dynamo(rows: Rows, speedup: float, figures: Sequence[Figures], filed: Mapping[float, int]) -> Verdict:
    good = mean(figures, "good")
    ran = [mean(theirs, "good").value for theirs in peer_rows(rows, speedup)]
    best, where = (max(ran), "in this job") if ran else (filed.get(speedup, 0), "filed")
    return Verdict(
        f"{speedup:g}×: not below Dynamo's best row less 0.3 % ({best:,.0f} {where})",
        good.shown(),
        good.value >= best * 0.997,
    )


def micro(rows: Sequence[Row]) -> Iterator[Verdict]:
    """Dispatch and pairing at the largest fleet."""
    found = {row.name: row.value for row in rows}
    for name, claim, limit in (
        ("dispatch_1024_p99_us", "one dispatch, 1,024 workers, P99 below 50 µs", 50.0),
        ("pairing_1024_p99_us", "migration pairing, 1,024 workers, P99 below 1 ms", 1000.0),
    ):
        if name in found:
            yield Verdict(claim, f"{found[name]:,.1f} µs", found[name] < limit)


def speed(found: Mapping[str, Speed]) -> Iterator[Verdict]:
    """Of the default policy."""
    if OURS in found:
        rate = found[OURS].median
        yield Verdict("simulator: at least 5,000 requests per CPU-second", f"{rate:,.0f}", rate >= 5000)


def tuning(found: Sequence[Choice]) -> Iterator[Verdict]:
    """Of all options."""
    if found:
        losses = worst(found)
        option, (loss, _) = max(losses.items(), key=lambda item: item[1][0])
        claim = f"defaults within {NEAR:.0%} of the best value tried, on traces that are not shown here"
        yield Verdict(claim, f"furthest: `{option}`, {loss:.2%} below", loss <= NEAR)
