"""`python -m coxswain_operator run …`."""

from __future__ import annotations

import coxswain_protocol.early_exit  # noqa: F401 - first of all

# isort: split
import asyncio
import logging
import sys

import uvloop

from coxswain_operator import flags
from coxswain_operator.process import Process
from coxswain_protocol import logs


def main() -> int:
    """The exit code: 0 after a signal, 1 when something ended that must not, 2 for bad flags."""
    options = flags.parse()
    logs.configure(level=options.log_level.upper(), operator=options.identity)
    # What kopf tells of every single event is of use to its developers only.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("kopf.objects").addFilter(_is_not_a_refusal)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)

    async def run() -> int:
        return await Process(options).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def _is_not_a_refusal(record: logging.LogRecord) -> bool:
    """A manifest that the webhook refuses is its author's error, and told to them; kopf logs it as one of ours."""
    return "failed permanently" not in record.getMessage()


if __name__ == "__main__":
    sys.exit(main())
