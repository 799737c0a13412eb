"""Recordings of live runs, as a gateway writes them with `--record`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from statistics import fmean, median

import msgspec

from coxswain_protocol.messages import StepEvent
from coxswain_protocol.recording import Begun, Recorded, RecordedEngine, RecordedRequest, RecordedStep
from coxswain_scheduler.simulator.trace import Trace, TraceRequest
from coxswain_simulate.errors import InputError
from coxswain_simulate.traces.lines import read_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One live run."""

    name: str
    begun: Begun
    engines: tuple[RecordedEngine, ...]
    """In order of arrival; each replica once, as it came last."""
    requests: tuple[RecordedRequest, ...]
    """In order of arrival."""
    steps: tuple[RecordedStep, ...]

    @property
    def events(self) -> list[StepEvent]:
        """The steps, as engines told of them."""
        return [StepEvent(one.number, one.seconds, one.prefill_tokens, one.decodes, one.context) for one in self.steps]

    @property
    def between_seconds(self) -> float:
        """From the end of a step to the begin of the next, on average, where sequences decode in both."""
        gaps = [after.at - before.at - after.seconds for before, after in self._pairs()]
        return max(0.0, fmean(gaps)) if gaps else 0.0

    def periods(self) -> list[tuple[RecordedStep, float]]:
        """Steps right after another one, with the seconds from its end to theirs."""
        return [(after, after.at - before.at) for before, after in self._pairs()]

    def _pairs(self) -> list[tuple[RecordedStep, RecordedStep]]:
        """Successive steps of an engine with sequences that decode in both: it did not idle in between."""
        runs: defaultdict[str, list[RecordedStep]] = defaultdict(list)
        for step in self.steps:
            runs[step.replica].append(step)
        return [
            (before, after)
            for run in runs.values()
            for before, after in pairwise(run)
            if after.number == before.number + 1 and before.decodes and after.decodes
        ]

    def trace(self) -> Trace:
        """The requests. One that was refused is taken to have had an answer of the usual length."""
        usual = int(median([one.output_tokens for one in self.requests if one.output_tokens] or [1]))
        begin, fresh = self.requests[0].arrival, count(-1, -1)
        size = self.engines[0].block_size
        return Trace(
            name=self.name,
            requests=tuple(
                TraceRequest(
                    id=number,
                    arrival=one.arrival - begin,
                    prompt_tokens=one.prompt_tokens,
                    output_tokens=one.output_tokens or usual,
                    chunks=(*one.hashes, next(fresh)) if one.prompt_tokens % size else one.hashes,
                )
                for number, one in enumerate(self.requests)
            ),
            chunk_tokens=size,
        )


def read(path: Path) -> Recording:
    """Read a recording. Raises InputError."""
    decode = msgspec.json.Decoder(Recorded).decode
    found: defaultdict[type, list[Recorded]] = defaultdict(list)
    for number, line in enumerate(read_lines(path), 1):
        if not line or line.isspace():
            continue
        try:
            record = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError.at(path, number, f"is not a line of a recording: {error}") from None
        found[type(record)].append(record)
    return _recording(path, found)


def _recording(path: Path, found: dict[type, list[Recorded]]) -> Recording:
    begun = [one for one in found[Begun] if isinstance(one, Begun)]
    engines = {one.replica: one for one in found[RecordedEngine] if isinstance(one, RecordedEngine)}
    requests = [one for one in found[RecordedRequest] if isinstance(one, RecordedRequest)]
    steps = [one for one in found[RecordedStep] if isinstance(one, RecordedStep)]
    for what, there in (("begin", begun), ("engine", engines), ("request", requests), ("step", steps)):
        if not there:
            raise InputError.at(path, None, f"has no {what}: is it a gateway's whole --record file?")
    if len({one.block_size for one in engines.values()}) > 1:
        raise InputError.at(path, None, "block_size: the engines have blocks of different sizes")
    for one in engines.values():
        if one.max_step_tokens < 1:
            raise InputError.at(path, None, f"max_step_tokens of {one.replica} is not known")
    return Recording(
        name=path.name,
        begun=begun[0],
        engines=tuple(engines.values()),
        requests=tuple(sorted(requests, key=lambda one: one.arrival)),
        steps=tuple(steps),
    )
