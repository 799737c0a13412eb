"""`python -m coxswain_workers.replica`: one replica in its Pod."""

from __future__ import annotations

import coxswain_protocol.early_exit  # noqa: F401 - first of all

# isort: split
import asyncio
import logging
import signal
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from types import FrameType

import uvloop

from coxswain_crds.reasons import StartFailure
from coxswain_protocol import logs
from coxswain_protocol.limits import allow_many_connections
from coxswain_workers.engine.errors import ModelError
from coxswain_workers.replica import settings as flags
from coxswain_workers.replica.failures import StartError
from coxswain_workers.replica.model_source import fetch_model, is_download
from coxswain_workers.replica.ray_head import RayHead
from coxswain_workers.replica.settings import Settings
from coxswain_workers.replica.stderr_passing import StderrServer

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Serve until SIGTERM. 0 after a drain, 1 with an explanation in the termination log."""
    logs.configure()
    signal.signal(signal.SIGTERM, _exit_at_once)
    try:
        settings = flags.parse(argv)
    except flags.SettingsError as error:
        return _fail(StartError(StartFailure.ARGUMENT_INVALID, "spec.engine.args", str(error)), argv)
    logs.configure(replica=settings.replica)
    allow_many_connections()
    failure = _serve(settings)
    return 0 if failure is None else _fail(failure, argv)


def _fail(failure: StartError, argv: list[str]) -> int:
    log.error("%s: %s", failure.reason, failure.message, extra={"field": failure.field})
    failure.write(flags.termination_log(argv))
    return 1


def _serve(settings: Settings) -> StartError | None:
    """Everything between start and end; what went wrong, if anything did."""
    head = RayHead()
    try:
        model = _fetch(settings.model)
        if model.done():
            model.result()  # a path that is not there: say so before anything is started for it
        head.start()
        return _supervise(settings, head, model)
    except ModelError as error:
        return StartError.of(error)
    finally:
        head.stop()


def _fetch(uri: str) -> Future[Path]:
    """The model's folder, at once for a path; a download goes on in the background and is given up at exit."""
    model: Future[Path] = Future()

    def fetch() -> None:
        try:
            model.set_result(fetch_model(uri))
        except BaseException as error:  # whoever waits for the result is told
            model.set_exception(error)

    if is_download(uri):
        threading.Thread(target=fetch, name="fetch-model", daemon=True).start()
    else:
        fetch()
    return model


def _supervise(settings: Settings, head: RayHead, model: Future[Path]) -> StartError | None:
    from coxswain_workers.replica.supervisor import Supervisor, SupervisorError

    server = StderrServer(head.folder / "stderr.sock")

    async def run() -> None:
        supervisor = Supervisor(settings, head=head, model=model, stderr=server)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.drain)
        await supervisor.run()

    try:
        uvloop.run(run())
    except SupervisorError as error:
        return error.failure
    except OSError as error:
        return StartError(StartFailure.INTERNAL_ERROR, "", str(error))
    finally:
        server.close()
    return None


def _exit_at_once(_number: int, _frame: FrameType | None) -> None:
    """Nothing is served yet, so nothing is left to move."""
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
