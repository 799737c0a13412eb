"""One HTML page that needs nothing else: a table of the runs, and the pictures in it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

from coxswain_simulate.report.figures import Figures

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #d7dce1; white-space: nowrap }
th:first-child, td:first-child { text-align: left } img { width: 100%; height: auto }
"""


def page(runs: Sequence[Figures], pictures: Mapping[str, bytes]) -> str:
    """The page; `pictures` are PNGs by title."""
    shown = "\n".join(
        f'<h2>{escape(title)}</h2>\n<img alt="{escape(title)}" src="data:image/png;base64,{_coded(content)}">'
        for title, content in pictures.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>coxswain-simulate</title>
<style>{_STYLE}</style></head>
<body>
<h1>{escape(", ".join(dict.fromkeys(run.trace for run in runs)) or "No runs")}</h1>
<div class="wide">{_table(runs)}</div>
{shown}
</body>
</html>
"""


def _table(runs: Sequence[Figures]) -> str:
    head = (
        "run", "engines", "requests", "feasible", "bound", "good", "gap to bound", "shed", "reuse",
        "TTFT P50", "P99", "inter-token P50", "P99",
    )  # fmt: skip
    body = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(run))}</tr>" for run in runs)
    return (
        f"<table><thead><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr></thead>\n<tbody>{body}</tbody></table>"
    )


def _cells(run: Figures) -> Sequence[str]:
    counts = (run.engines, run.requests, run.feasible, run.bound, run.good, run.bound - run.good, run.shed)
    times = (run.ttft_s.p50, run.ttft_s.p99, run.inter_token_s.p50, run.inter_token_s.p99)
    return (
        run.label,
        *(f"{count:,}" for count in counts),
        f"{run.prefix_reuse:.3f}",
        *("-" if time is None else f"{time * 1e3:,.1f} ms" for time in times),
    )


def _coded(content: bytes) -> str:
    return base64.b64encode(content).decode()
