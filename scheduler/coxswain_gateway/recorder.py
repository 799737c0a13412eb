"""Writes what happens to a file, to be replayed in the simulator."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from coxswain_gateway.generation import Generation
from coxswain_gateway.members import Member
from coxswain_gateway.settings import Settings
from coxswain_protocol.messages import StepEvent
from coxswain_protocol.recording import Begun, Recorded, RecordedEngine, RecordedRequest, RecordedStep
from coxswain_scheduler.batching import block_hashes

POLICY = "coxswain"


class Recorder:
    """One recording. Raises OSError where the file cannot be written."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._file = path.open("wb", buffering=1 << 16)
        self._encode = msgspec.json.Encoder().encode
        self._block_size = 1
        self._write(Begun(POLICY, _finite(settings.latest_ttft_seconds), _finite(settings.inter_token_seconds)))

    def engine(self, member: Member, now: float) -> None:
        """A replica has connected."""
        info = member.info
        self._block_size = info.block_size
        self._write(
            RecordedEngine(
                replica=member.replica,
                at=now,
                accelerator=info.accelerator,
                total_blocks=info.num_blocks,
                block_size=info.block_size,
                max_num_seqs=info.max_num_seqs,
                max_step_tokens=info.max_step_tokens,
            )
        )

    def request(self, generation: Generation, outcome: str) -> None:
        """A request has ended."""
        log, began = generation.log, generation.first_token_at
        self._write(
            RecordedRequest(
                arrival=generation.created,
                prompt_tokens=len(log.prompt),
                hashes=tuple(block_hashes(log.prompt, block_size=self._block_size)),
                output_tokens=len(log.output),
                first_token=began,
                last_token=None if began is None else generation.last_token_at,
                replica=generation.replica,
                cached=log.cached or 0,
                attempts=log.attempt,
                outcome=outcome,
            )
        )

    def step(self, member: Member, event: StepEvent, now: float) -> None:
        """A replica has finished a step."""
        self._write(
            RecordedStep(
                replica=member.replica,
                at=now,
                number=event.number,
                seconds=event.seconds,
                prefill_tokens=event.prefill_tokens,
                decodes=event.decode_sequences,
                context=event.context,
            )
        )

    def close(self) -> None:
        """Write what is left."""
        self._file.close()

    def _write(self, record: Recorded) -> None:
        self._file.write(self._encode(record) + b"\n")


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None
