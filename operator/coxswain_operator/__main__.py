"""`python -m coxswain_operator run …`."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from coxswain_operator import flags, logs
from coxswain_operator.process import Process


def main() -> int:
    """The exit code: 0 after a signal, 1 when something ended that must not, 2 for bad flags."""
    options = flags.parse()
    logs.configure(options.log_level)

    async def run() -> int:
        return await Process(options).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


if __name__ == "__main__":
    sys.exit(main())
