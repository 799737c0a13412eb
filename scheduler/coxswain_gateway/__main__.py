"""`python -m coxswain_gateway`: run one gateway until SIGTERM."""

from __future__ import annotations

import coxswain_protocol.early_exit  # noqa: F401 - first of all

# isort: split
import asyncio
import gc
import logging
import signal
import sys

import uvloop

from coxswain_gateway.gateway import Gateway
from coxswain_gateway.settings import Settings, SettingsError, parse
from coxswain_protocol import logs
from coxswain_protocol.limits import allow_many_connections

log = logging.getLogger("coxswain_gateway")


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then drain. Raises OSError when a port is taken."""
    asked_to_end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_end.set)
    gateway = Gateway(settings)
    ports = await gateway.start()
    log.info("listening", extra={"port": ports.api, "replica_port": ports.replicas, "status_port": ports.status})
    await asked_to_end.wait()
    await gateway.drain()
    await gateway.stop()
    log.info("ended")


def main() -> int:
    """Entry point. Returns the exit code."""
    try:
        settings = parse(sys.argv[1:])
    except SettingsError as error:
        sys.stderr.write(f"coxswain_gateway: {error}\n")
        return 2
    logs.configure(gateway=settings.gateway)
    allow_many_connections()
    gc.freeze()
    try:
        uvloop.run(serve(settings))
    except OSError as error:
        log.error("cannot listen: %s", error)  # noqa: TRY400 - the traceback would tell a user nothing
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
