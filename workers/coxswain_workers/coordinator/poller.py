"""Asks every gateway for its status, round after round."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import msgspec

from coxswain_protocol.status import GatewayStatus, MemberState, ServiceStatus
from coxswain_scheduler.membership import departure_order, merge
from coxswain_workers.addresses import Address, Addresses
from coxswain_workers.coordinator.settings import Settings

log = logging.getLogger(__name__)


class UnreachableError(Exception):
    """A gateway did not answer, or not what it should; the message says what happened."""


class Poller:
    """Keeps the service's status of the last round."""

    def __init__(self, settings: Settings, addresses: Addresses) -> None:
        self._settings = settings
        self._addresses = addresses
        self._decoder = msgspec.json.Decoder(GatewayStatus)
        self._known: frozenset[Address] = frozenset()
        self._down: set[Address] = set()
        self._states: dict[str, MemberState] = {}
        self.status: ServiceStatus | None = None
        """None until the first round is over."""
        self.rounds = 0
        self.failures = 0
        """Polls of one gateway that failed, in all."""

    async def run(self) -> None:
        """Poll until cancelled."""
        timeout = aiohttp.ClientTimeout(total=self._settings.answer_seconds)
        headers = {"Authorization": f"Bearer {self._settings.token}"}
        self._known = await self._addresses.refresh()
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session, asyncio.TaskGroup() as group:
            group.create_task(self._resolve())  # apart, so that a slow resolver delays no round
            while True:
                next_round = group.create_task(asyncio.sleep(self._settings.poll_seconds))
                await self._round(session)
                await next_round

    async def _resolve(self) -> None:
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            self._known = await self._addresses.refresh()

    async def _round(self, session: aiohttp.ClientSession) -> None:
        addresses = sorted(self._known)
        answers = await asyncio.gather(*(self._poll(session, address) for address in addresses))
        gateways = sorted((answer for answer in answers if answer is not None), key=lambda status: status.gateway)
        members = merge(gateways)
        self.rounds += 1
        self.status = ServiceStatus(
            service=self._settings.service,
            gateways=tuple(gateways),
            members=members,
            unreachable=tuple(_text(a) for a, answer in zip(addresses, answers, strict=True) if answer is None),
            departure_order=departure_order(members),
        )
        self._log_changes({member.replica: member.state for member in members})

    async def _poll(self, session: aiohttp.ClientSession, address: Address) -> GatewayStatus | None:
        try:
            status = await self._ask(session, address)
        except UnreachableError as error:
            self.failures += 1
            if address not in self._down:
                log.warning("%s", error, extra={"gateway": _text(address)})
            self._down.add(address)
            return None
        if address in self._down:
            log.info("the gateway answers again", extra={"gateway": status.gateway})
        self._down.discard(address)
        return status

    async def _ask(self, session: aiohttp.ClientSession, address: Address) -> GatewayStatus:
        try:
            async with session.get(f"http://{_text(address)}/internal/status") as response:
                if response.status != 200:
                    raise UnreachableError(f"the gateway answers with status {response.status}")
                return self._decoder.decode(await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnreachableError(f"the gateway does not answer: {error or 'timeout'}") from None
        except msgspec.MsgspecError as error:
            raise UnreachableError(f"the gateway's answer makes no sense: {error}") from None

    def _log_changes(self, states: dict[str, MemberState]) -> None:
        for replica, state in states.items():
            if self._states.get(replica) != state:
                log.info("the replica is %s", state, extra={"replica": replica})
        self._states = states


def _text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
