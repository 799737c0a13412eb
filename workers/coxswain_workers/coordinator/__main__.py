"""`python -m coxswain_workers.coordinator`: the coordinator of one service."""

from __future__ import annotations

import coxswain_protocol.early_exit  # noqa: F401 - first of all

# isort: split
import asyncio
import logging
import signal
import sys

import uvloop
from aiohttp import web

from coxswain_protocol import logs
from coxswain_workers.addresses import Addresses, resolve
from coxswain_workers.coordinator import settings as flags
from coxswain_workers.coordinator.pages import pages
from coxswain_workers.coordinator.poller import Poller
from coxswain_workers.coordinator.settings import Settings

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Serve until SIGTERM. 0 then, 1 when it cannot start."""
    logs.configure()
    try:
        uvloop.run(_serve(flags.parse(argv)))
    except (flags.SettingsError, OSError) as error:
        log.error("%s", error)  # noqa: TRY400 (a user's mistake, not a bug: no traceback)
        return 1
    return 0


async def _serve(settings: Settings) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    poller = Poller(settings, Addresses(settings.gateways, resolve=resolve))
    runner = web.AppRunner(pages(poller, token=settings.token), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, settings.status_host or None, settings.status_port).start()
    log.info("coordinating %s", settings.service)
    tasks = [asyncio.create_task(poller.run()), asyncio.create_task(stopped.wait())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
