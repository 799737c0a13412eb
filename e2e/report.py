"""The demo's results: a table on the terminal, the same figures as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from e2e.compare import Comparison
from e2e.traffic import Stream


def quantile(values: Sequence[float], q: float) -> float:
    """The value below which a share `q` of `values` lies, the nearest one taken; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


@dataclass(frozen=True)
class Report:
    """What one disturbed run showed."""

    streams: Sequence[Stream]
    struck: int
    """How many streams ran on the killed node when it died."""
    verdict: Comparison
    killed_at: float
    replacement_s: float
    steps: Sequence[tuple[str, float]]

    def gap(self, stream: Stream) -> float:
        """The longest silence of a stream that lasted into the time after the kill."""
        pairs = zip(stream.times, stream.times[1:], strict=False)
        return max((later - earlier for earlier, later in pairs if later >= self.killed_at), default=0.0)

    def json(self) -> dict[str, Any]:
        """The figures that releases are compared by; times in seconds."""
        gaps = [self.gap(stream) for stream in self.streams]
        ttft = [stream.ttft for stream in self.streams if stream.ttft is not None]
        between = [gap for stream in self.streams for gap in stream.gaps]
        return {
            "streams": len(self.streams),
            "struck": self.struck,
            "lost": len(self.verdict.lost),
            "different": len(self.verdict.different),
            "gap_s": {"p50": statistics.median(gaps), "max": max(gaps)},
            "replacement_s": self.replacement_s,
            "ttft_s": {"p50": quantile(ttft, 0.5), "p95": quantile(ttft, 0.95)},
            "inter_token_s": {"p50": quantile(between, 0.5), "p95": quantile(between, 0.95)},
            "steps": [{"name": name, "seconds": round(seconds, 2)} for name, seconds in self.steps],
        }

    def write(self, path: Path) -> None:
        """Write the figures; the folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.json(), indent=2) + "\n")

    def show(self, console: Console) -> None:
        """Print the streams and the figures."""
        console.print(self._streams())
        console.print(self._figures())

    def _streams(self) -> Table:
        table = Table(title="twenty streams, one node killed", title_justify="left")
        for heading in ("stream", "sampling", "tokens", "longest gap", "verdict"):
            table.add_column(heading, justify="right" if heading in ("tokens", "longest gap") else "left")
        for stream in self.streams:
            name = stream.ask.name
            table.add_row(
                name,
                "greedy" if stream.ask.temperature == 0 else f"temperature {stream.ask.temperature:g}",
                str(len(stream.tokens)),
                f"{self.gap(stream) * 1000:.0f} ms",
                self._word(name, stream.error),
            )
        return table

    def _word(self, name: str, error: str) -> str:
        if name in self.verdict.lost:
            return f"[red]lost[/] {error}"
        return "[red]different[/]" if name in self.verdict.different else "[green]same[/]"

    def _figures(self) -> Table:
        figures = self.json()
        table = Table(show_header=False)
        table.add_row("streams lost / different", f"{figures['lost']} / {figures['different']} of {figures['streams']}")
        table.add_row("streams that had to move", str(self.struck))
        table.add_row("gap, median / longest", _two(figures["gap_s"], "p50", "max"))
        table.add_row("time to replacement", f"{self.replacement_s:.1f} s")
        table.add_row("TTFT, P50 / P95", _two(figures["ttft_s"], "p50", "p95"))
        table.add_row("inter-token, P50 / P95", _two(figures["inter_token_s"], "p50", "p95"))
        return table


def _two(figures: dict[str, float], first: str, second: str) -> str:
    return f"{figures[first] * 1000:.0f} / {figures[second] * 1000:.0f} ms"
