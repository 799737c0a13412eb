"""Four pictures: both latencies as cumulative shares, goodput over the rate offered, and load over time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coxswain_simulate.errors import InputError
from coxswain_simulate.report.figures import Figures, figures_of
from coxswain_simulate.report.page import page

_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
_LONG_TAIL = 1e-4
"""Seconds below which a latency is drawn as this, since the axis is logarithmic."""


def draw(runs: Iterable[Figures | Mapping[str, Any]], folder: Path) -> list[Path]:
    """Draw all runs into each of the pictures, and the page; the files written. Raises InputError."""
    known = [run if isinstance(run, Figures) else figures_of(run) for run in runs]
    pictures = {name: _png(title, plot, known) for name, (title, plot) in _PICTURES.items()}
    files = {f"{name}.png": content for name, content in pictures.items()}
    files["report.html"] = page(known, {_PICTURES[name][0]: content for name, content in pictures.items()}).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise InputError.at(folder, None, f"cannot be written: {error.strerror}") from None
    return [folder / name for name in files]


def _png(title: str, plot: Callable[[Axes, Sequence[Figures]], None], runs: Sequence[Figures]) -> bytes:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8, 4.5), dpi=144, layout="constrained")
        axes = figure.subplots()
        plot(axes, runs)
        axes.set_title(title, loc="left")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
        content = io.BytesIO()
        figure.savefig(content, format="png")
    return content.getvalue()


def _first_token(axes: Axes, runs: Sequence[Figures]) -> None:
    _cumulative(axes, [(run.label, run.curves.ttft_s) for run in runs], [run.objectives.ttft_s for run in runs])
    axes.set_xlabel("seconds to the first token")


def _inter_token(axes: Axes, runs: Sequence[Figures]) -> None:
    curves = [(run.label, run.curves.inter_token_s) for run in runs]
    _cumulative(axes, curves, [run.objectives.inter_token_s for run in runs])
    axes.set_xlabel("seconds between tokens, mean of each request")


def _cumulative(axes: Axes, curves: Sequence[tuple[str, list[float | None]]], objectives: Sequence[float]) -> None:
    for label, curve in curves:
        points = [(max(_LONG_TAIL, x), i / (len(curve) - 1)) for i, x in enumerate(curve) if x is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=label)
    for objective in sorted(set(objectives)):
        if objective > 0:
            axes.axvline(objective, color="0.4", linestyle=":", label="objective")
    axes.set_xscale("log")
    axes.set_ylabel("share of requests served")
    axes.set_ylim(0, 1)


def _goodput(axes: Axes, runs: Sequence[Figures]) -> None:
    rated = [run for run in runs if run.rate]
    for policy in dict.fromkeys(run.policy for run in rated):
        points = sorted((run.rate or 0.0, run.per_second(run.good)) for run in rated if run.policy == policy)
        axes.plot(*zip(*points, strict=True), marker="o", label=policy)
    for name, style in (("feasible", ":"), ("bound", "--")):
        points = sorted({(run.rate or 0.0, run.per_second(getattr(run, name))) for run in rated})
        if points:
            axes.plot(*zip(*points, strict=True), color="0.4", linestyle=style, label=name)
    axes.set_xlabel("requests per second offered")
    axes.set_ylabel("good requests per second")
    axes.set_ylim(bottom=0)


def _load(axes: Axes, runs: Sequence[Figures]) -> None:
    for run in runs:
        if run.load:
            times = [point[0] for point in run.load]
            (line,) = axes.plot(times, [point[2] for point in run.load], label=f"{run.label}: running")
            axes.plot(times, [point[3] for point in run.load], color=line.get_color(), linestyle=":", label="waiting")
            if len({point[1] for point in run.load}) > 1:
                axes.plot(
                    times, [point[1] for point in run.load], color=line.get_color(), linestyle="--", label="engines"
                )
    axes.set_xlabel("seconds of virtual time")
    axes.set_ylabel("sequences")
    axes.set_ylim(bottom=0)


_PICTURES: Mapping[str, tuple[str, Callable[[Axes, Sequence[Figures]], None]]] = {
    "ttft": ("Time to the first token", _first_token),
    "inter_token": ("Time between tokens", _inter_token),
    "goodput": ("Goodput over rate", _goodput),
    "load": ("Load over time", _load),
}
