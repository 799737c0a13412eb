"""What other benchmarks have written, in a line each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path


def lines(results: Path) -> Iterator[str]:
    """A line for each page that is there."""
    for stem, (name, gist) in _PAGES.items():
        page = results / f"{stem}.md"
        if page.exists():
            yield f"- [{name}]({page.name}): {gist(page)}"


def _first_sentences(page: Path) -> str:
    """Of the first paragraph that says something: not how the page was written, no heading, no table."""
    for paragraph in page.read_text(encoding="utf-8").split("\n\n"):
        text = " ".join(paragraph.split())
        if text and text[0] not in "#|`!-*" and not text.startswith("Written by"):
            return ". ".join(text.split(". ")[:2]).rstrip(".") + "."
    return "see there."


def _cost_models(page: Path) -> str:
    """The spread over GPUs and engines of the median errors."""
    tables = {table["title"]: table for table in json.loads(page.with_suffix(".json").read_text())}
    held_out = [
        row for row in tables["Deployments by GPU and engine"]["rows"] if row[2:4] == ["aggregated", "held out"]
    ]
    kernels = [row[3] for row in tables["Kernels and collectives"]["rows"]]
    return (
        f"median errors on held-out aggregated deployments, by GPU and engine: TTFT {_range([r[5] for r in held_out])},"
        f" time per output token {_range([r[8] for r in held_out])}; on kernels and collectives {_range(kernels)}."
    )


def _range(percentages: list[str]) -> str:
    values = sorted(percentages, key=lambda text: float(text.rstrip("%")))
    return f"{values[0]} to {values[-1]}"


_PAGES: Mapping[str, tuple[str, Callable[[Path], str]]] = {
    "llumnix": ("Llumnix", _first_sentences),
    "placement": ("Placement", _first_sentences),
    "cost_models": ("Cost models", _cost_models),
    "autoscaling": ("Autoscaling", _first_sentences),
    "live_replay": ("A live run, replayed", _first_sentences),
}
