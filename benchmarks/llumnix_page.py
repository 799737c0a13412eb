"""What came of Llumnix's experiments, beside what its paper says, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import fmean, median

from benchmarks.llumnix_runs import BASELINE, HIGHEST, OURS, PRIORITY_RATE, THEIRS, Figures, Run
from benchmarks.rows import hardware

PAPER: Mapping[str, float] = {
    "mean end-to-end": 1.5,
    "P99 end-to-end": 1.6,
    "mean prefill": 7.7,
    "P99 prefill": 14.8,
    "P99 decode": 2.0,
}
"""How many times better than INFaaS++ Llumnix is, at the workload and rate where it is most ("up to")."""
PAPER_LOSS = 0.296
"""What Llumnix leaves of the seconds lost by preemption, in the mean of all workloads and rates."""
TOLERANCE = 0.3


def reproduction(found: Mapping[Run, Figures]) -> list[str]:
    """Llumnix's ratios over its baseline, beside the paper's."""
    pairs = [(found[run], found[run._replace(policy=THEIRS)]) for run in found if run.policy == BASELINE]
    lines = ["| Llumnix over INFaaS++ | here | paper | within ±30 % |", "|---|---:|---:|---|"]
    for name, paper in PAPER.items():
        best = max(base[name] / theirs[name] for base, theirs in pairs)
        lines.append(f"| {name}, up to | ×{best:.2f} | ×{paper} | {_within(best, paper)} |")
    left = [b["preemption loss"] / a["preemption loss"] for a, b in pairs if a["preemption loss"] > 0]
    together = sum(b["preemption loss"] for _, b in pairs) / max(1e-9, sum(a["preemption loss"] for a, _ in pairs))
    mean = fmean(left or [1.0])
    lines.append(f"| preemption loss left, mean | {mean:.2f} | {PAPER_LOSS} | {_within(mean, PAPER_LOSS)} |")
    return [*lines, "", f"Of all seconds lost by preemption, summed over the runs, {together:.2f} are left.", ""]


def _within(value: float, paper: float) -> str:
    return "yes" if abs(value / paper - 1.0) <= TOLERANCE else "**no**"


def ours(found: Mapping[Run, Figures]) -> list[str]:
    """Our figures beside Llumnix's, which runs on the same requests: medians over the seeds."""
    lines = ["| workload | figure | Coxswain | Llumnix | ahead |", "|---|---|---:|---:|---|"]
    for lengths, rate in HIGHEST.items():
        for name in (*PAPER, "preemption loss", "preemptions", "refused"):
            mine, other = (
                median(
                    each[name]
                    for run, each in found.items()
                    if (run.policy, run.lengths, run.rate, run.variation) == (policy, lengths, rate, 1.0)
                )
                for policy in (OURS, THEIRS)
            )
            ahead = "" if name in ("preemptions", "refused") else "yes" if mine < other else "**no**"
            lines.append(f"| {lengths} | {name} | {mine:,.3f} | {other:,.3f} | {ahead} |")
    return [*lines, ""]


def priorities(found: Mapping[Run, Figures]) -> list[str]:
    """How high priorities and the others fare beside a run of the same requests without priorities."""
    lines = [
        "| CV | high, s | ignored, s | better | at most | others, s | ignored, s | worse | both halves |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for run, after in found.items():
        if run.high and not run.ignored:
            before = found[run._replace(ignored=True)]
            better, worse = before["high"] / after["high"], after["others"] / before["others"] - 1.0
            both = "yes" if better >= 1.5 and worse <= 0.045 else "**no**"
            lines.append(
                f"| {run.variation:g} | {after['high']:.2f} | {before['high']:.2f} | ×{better:.2f}"
                f" | ×{before['high'] / after['high alone']:.2f} | {after['others']:.2f} | {before['others']:.2f}"
                f" | {worse:+.1%} | {both} |"
            )
    return [*lines, ""]


def page(found: Mapping[Run, Figures], command: str, seeds: Sequence[int]) -> str:
    """All of it, as Markdown."""
    first = next(iter(found))
    return "\n".join(
        [
            "# Llumnix's experiments",
            "",
            f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {hardware()}. {first.requests:,} requests a run, 16 A10G with"
            " Llama-2-7B by cost model, 813 blocks of 16 tokens, 8 GB/s between engines; nothing is measured on GPUs.",
            "",
            "## Llumnix beside its baseline",
            "",
            f"Poisson arrivals, seed {seeds[0]}; highest rates {', '.join(f'{k} {v:g}/s' for k, v in HIGHEST.items())}"
            " and the artifact's shares of them. As in the paper: the best ratio of all workloads and rates, and for"
            " the loss by preemption (seconds a request, waiting and computing anew) the mean of what is left.",
            "",
            *reproduction(found),
            "## Coxswain beside Llumnix",
            "",
            f"At the highest rates, medians over seeds {', '.join(map(str, seeds))}; seconds.",
            "",
            *ours(found),
            "## Priorities",
            "",
            f"128-128, gamma arrivals at {PRIORITY_RATE:g}/s, a tenth high, mean end-to-end seconds under Coxswain,"
            " beside the same requests with priorities ignored. At most: what could be gained were each high request"
            " alone on an engine. The bar is ×1.5, and the others no more than 4.5 % worse.",
            "",
            *priorities(found),
        ]
    )
