"""The thread that runs the engine: commands in between steps, one report after each step.

Everything that touches the engine happens here, in the order in which it was asked for, so the engine needs no locks
and what the network thread is told is never older or newer than the step it stands beside.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from coxswain_protocol.messages import Load, Request
from coxswain_workers.engine.interface import Engine, StepOutput

log = logging.getLogger(__name__)

Command = Callable[[Engine], None]


class StepLoop:
    """Runs one engine until stopped. `on_step` and `on_failure` are called from the loop's thread."""

    def __init__(
        self,
        engine: Engine,
        *,
        on_step: Callable[[StepOutput, Load], None],
        on_failure: Callable[[BaseException], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._on_step = on_step
        self._on_failure = on_failure
        self._clock = clock
        self._inbox: deque[Command] = deque()
        self._wake = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="engine-steps", daemon=True)
        self._busy_since: float | None = None
        self.steps = 0
        """Steps finished. Read from any thread."""
        self.load: Load = engine.load()
        """What the engine had in hand after the last step or command. Read from any thread."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, *, timeout: float) -> None:
        """End after the step that runs; waits for it at most `timeout` seconds."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join(timeout)

    def post(self, command: Command) -> None:
        """Call `command` with the engine, between two steps, in the order of posting."""
        with self._wake:
            self._inbox.append(command)
            self._wake.notify()

    def submit(self, request: Request) -> None:
        """Hand the engine a request; what is wrong with it comes back as a finished chunk."""
        self.post(lambda engine: engine.submit(request))

    def abort(self, request_id: str) -> None:
        """Stop a request; an unknown id is ignored."""
        self.post(lambda engine: engine.abort(request_id))

    def stalled_for(self) -> float:
        """Seconds since the engine last finished something while it has work in hand; 0 when idle."""
        since = self._busy_since
        return 0.0 if since is None else self._clock() - since

    def _run(self) -> None:
        try:
            while self._wait():
                self._turn()
        except BaseException as error:  # whatever it was: an engine that failed in a step cannot be trusted any more
            log.exception("the engine failed in step %d", self.steps + 1)
            self._on_failure(error)

    def _wait(self) -> bool:
        """Sleep until there is something to do. False once stopped."""
        with self._wake:
            while not (self._stopped or self._inbox or self._engine.has_work()):
                self._busy_since = None
                self._wake.wait()
            self._busy_since = self._clock()
            return not self._stopped

    def _turn(self) -> None:
        while self._inbox:
            self._inbox.popleft()(self._engine)
        if self._engine.has_work():
            output = self._engine.step()
            self.steps += 1
            self.load = self._engine.load()
            self._on_step(output, self.load)
        else:
            self.load = self._engine.load()
