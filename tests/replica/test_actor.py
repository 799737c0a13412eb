"""The engine's process: when its engine cannot be trusted any more, it ends, so that Ray starts another."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from coxswain_workers.replica.actor import FAILED
from coxswain_workers.replica.stderr_passing import StderrServer
from tests.replica.gateway import TOKEN, TestGateway, request

REPOSITORY = str(Path(__file__).parents[2])

PROCESS = """
import sys
from pathlib import Path
from coxswain_workers.addresses import GatewayAddresses
from coxswain_workers.replica import actor
from coxswain_workers.replica.settings import Settings
from tests.replica.engines import Metronome

engine = Metronome()
engine.hold.set()
actor.load_engine = lambda settings, model: engine
gateways, stderr, token = sys.argv[1:]
settings = Settings(
    gateways=GatewayAddresses.parse(gateways), replica="r", model="m", token=token, stall_seconds=0.5
)
actor.EngineActor(settings, Path("/nowhere"), Path(stderr)).wait()
"""


async def test_an_engine_that_hangs_ends_its_process() -> None:
    with tempfile.TemporaryDirectory(prefix="cx-") as folder:
        server = StderrServer(Path(folder) / "stderr.sock")
        async with TestGateway() as gateway:
            arguments = (gateway.address, str(server.path), TOKEN)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", PROCESS, *arguments), env={**os.environ, "PYTHONPATH": REPOSITORY}
            )
            try:
                await gateway.joined()
                gateway.submit(request("a"))
                async with asyncio.timeout(20):
                    assert await process.wait() == FAILED
                await gateway.until(lambda: not gateway.connected, "the connection to close")
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                server.close()
    assert server.served == 1
