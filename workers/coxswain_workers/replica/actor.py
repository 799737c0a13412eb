"""The engine process: what Ray starts, and starts again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from pathlib import Path

import uvloop

from coxswain_crds.reasons import StartFailure
from coxswain_protocol import logs
from coxswain_protocol.messages import EngineInfo
from coxswain_workers.engine.errors import ModelError
from coxswain_workers.engine.interface import Engine, EngineOptions
from coxswain_workers.replica.failures import ExactUnavailableError, StartError
from coxswain_workers.replica.replica import RefusedError, Replica
from coxswain_workers.replica.settings import Settings
from coxswain_workers.replica.stderr_passing import adopt_stderr

log = logging.getLogger(__name__)

CPU = "cpu"
FAILED = 70
"""Exit code of a process whose engine failed; Ray starts another."""


class EngineActor:
    """Loads the engine when made and serves it from a thread of its own. Methods are called by the supervisor."""

    def __init__(self, settings: Settings, model: Path, stderr: Path) -> None:
        adopt_stderr(stderr)
        logs.configure(replica=settings.replica)
        self._error: StartError | None = None
        self._ended = threading.Event()
        from coxswain_workers.engine.tokenizer import tokenizer_files

        try:
            engine = load_engine(settings, model)
        except ModelError as error:
            self._error = StartError.of(error)
            return
        except Exception as error:
            log.exception("the engine could not be loaded")
            self._error = StartError(StartFailure.INTERNAL_ERROR, "", f"{type(error).__name__}: {error}")
            return
        self._replica = Replica(engine, settings=settings, tokenizer=tokenizer_files(model))
        self._loop = uvloop.new_event_loop()
        threading.Thread(target=self._serve, name="replica-network", daemon=True).start()

    def describe(self) -> EngineInfo | StartError:
        """What is served, or why nothing is."""
        return self._error or self._replica.info

    def wait(self) -> StartError | None:
        """Return when the replica has drained, or with the reason why the gateways will not have it."""
        self._ended.wait()
        return self._error

    def drain(self, seconds: float) -> None:
        """Move or finish what runs, within `seconds`; `wait` then returns."""
        asyncio.run_coroutine_threadsafe(self._replica.drain(seconds), self._loop).result()
        self._ended.wait()

    def metrics(self) -> bytes:
        """Prometheus text format."""
        return self._replica.metrics.page()

    def _serve(self) -> None:
        try:
            self._loop.run_until_complete(self._replica.run())
        except RefusedError as error:
            self._error = StartError(StartFailure.GATEWAY_REFUSED, "", str(error))
        except BaseException:
            log.exception("the engine process ends, to be started afresh")
            sys.stderr.flush()
            os._exit(FAILED)
        self._ended.set()


def load_engine(settings: Settings, model: Path) -> Engine:
    """The native engine with a checkpoint. Raises ModelError."""
    from coxswain_workers.engine.native import load_native  # brings torch, which the supervisor can do without

    engine = load_native(model, EngineOptions(**settings.engine))
    if settings.accelerator != CPU and engine.info.accelerator == CPU:
        log.warning("accelerator class %s, but torch sees no GPU: computing on the CPU", settings.accelerator)
    if settings.replay == "Exact" and "exact" not in engine.info.features:
        raise ExactUnavailableError("on this machine a row's logits depend on its batch; use replay: Seamless")
    return engine
