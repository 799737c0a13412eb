"""From a file of any known format to a trace in order of arrival."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from coxswain_scheduler.simulator.trace import Trace, TraceRequest
from coxswain_simulate.errors import InputError
from coxswain_simulate.traces import azure, llumnix, mooncake, servegen
from coxswain_simulate.traces.arrivals import Renewal, chosen, jittered
from coxswain_simulate.traces.lines import Line

FORMATS: Mapping[str, Callable[[Path], Iterator[Line]]] = {
    "mooncake": mooncake.read,
    "azure": azure.read,
    "servegen": servegen.read,
    "llumnix": llumnix.read,
}

_LONGEST_SECONDS = 366 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is done with a file's requests."""

    arrivals: Renewal | None = None
    """Draw arrivals anew instead of taking the file's."""
    seed: int | None = None
    """Moves recorded arrivals by up to a second either way; draws drawn ones. None leaves recorded ones alone."""
    high_priority: float = 0.0
    """Share of the requests, drawn at random, that gets priority 1."""
    copies: int = 1
    """Each line stands for that many requests, each moved by up to a second on its own."""


def load(path: Path, format: str, options: Options | None = None) -> Trace:  # noqa: A002 - as the flag is called
    """The trace in `path`. Equal arguments give equal traces. Raises InputError."""
    options = options or Options()
    if format not in FORMATS:
        raise InputError(f"{format!r} is not a format of traces: choose one of {', '.join(FORMATS)}")
    lines = list(FORMATS[format](path))
    if not lines:
        raise InputError.at(path, None, "holds no requests")
    if format == "llumnix" and options.arrivals is None:
        raise InputError.at(
            path, None, "has lengths only: say when they arrive, with --arrivals poisson:R or gamma:R:CV"
        )
    if options.copies > 1:
        lines = [line for line in lines for _ in range(options.copies)]
    times = _times(lines, options)
    if max(times) > _LONGEST_SECONDS:
        raise InputError.at(path, None, "has arrivals more than a year after the first: are they in the unit expected?")
    high = chosen(len(lines), share=options.high_priority, seed=options.seed or 0)
    in_order = sorted(range(len(lines)), key=times.__getitem__)
    requests = tuple(
        TraceRequest(
            id=position,
            arrival=times[index],
            prompt_tokens=lines[index].prompt_tokens,
            output_tokens=lines[index].output_tokens,
            chunks=lines[index].chunks,
            priority=int(index in high),
        )
        for position, index in enumerate(in_order)
    )
    return Trace(name=path.name, requests=requests, chunk_tokens=mooncake.CHUNK_TOKENS)


def _times(lines: list[Line], options: Options) -> list[float]:
    if options.arrivals is not None:
        return options.arrivals.draw(len(lines), seed=options.seed or 0)
    first = min(map(attrgetter("arrival"), lines))
    times = [round(line.arrival - first, 6) for line in lines]
    if options.seed is not None or options.copies > 1:
        return jittered(times, seed=options.seed or 0)
    return times
