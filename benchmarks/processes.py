"""Processes under measurement: started, waited for, watched through /proc, ended."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """A running process."""

    name: str
    pid: int
    log: Path

    def cpu_seconds(self) -> float:
        """CPU time so far, user and system, all threads. Raises RuntimeError when the process has ended."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            raise RuntimeError(f"{self.name} ended:\n{self.last_words()}") from None
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND

    def memory_mib(self) -> float:
        """Resident memory now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    def last_words(self) -> str:
        """The end of what it wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    async def settled(self, *, seconds: float = 120.0) -> None:
        """Wait until it uses less than 2 % of a core for a second. Raises TimeoutError after `seconds`."""
        async with asyncio.timeout(seconds):
            before = self.cpu_seconds()
            while True:
                await asyncio.sleep(1.0)
                now = self.cpu_seconds()
                if now - before < 0.02:
                    return
                before = now


@asynccontextmanager
async def running(name: str, command: Sequence[str], *, env: dict[str, str] | None = None) -> AsyncIterator[Measured]:
    """Run a command; it is ended with the block, by SIGTERM, and after ten seconds by SIGKILL."""
    with tempfile.TemporaryDirectory(prefix="coxswain-bench-") as folder:
        log = Path(folder) / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=output, stderr=output, env={**os.environ, **(env or {})}
            )
            try:
                yield Measured(name, process.pid, log)
            finally:
                await _end(process)


async def wait_port(port: int) -> None:
    """Wait until somebody listens. Raises TimeoutError after 30 s."""
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def wait_healthy(port: int) -> None:
    """Wait until `GET /health` says 200. Raises TimeoutError after 30 s, ConnectionError when nobody listens."""
    async with asyncio.timeout(30):
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            status = await reader.readline()
            writer.close()
            if b" 200 " in status:
                return
            await asyncio.sleep(0.02)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(10):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
