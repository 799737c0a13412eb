"""Asks every gateway for its status, round after round."""

from __future__ import annotations

import asyncio
import logging
from typing import TypeVar

import aiohttp
import msgspec

from coxswain_protocol.status import GatewayStatus, MemberState, ServiceStatus
from coxswain_protocol.traffic import Traffic
from coxswain_scheduler.membership import departure_order, merge
from coxswain_workers.addresses import Address, Addresses
from coxswain_workers.coordinator.recommender import Recommender
from coxswain_workers.coordinator.settings import Settings

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class UnreachableError(Exception):
    """A gateway did not answer, or not what it should; the message says what happened."""


class Poller:
    """Keeps the service's status of the last round."""

    def __init__(self, settings: Settings, addresses: Addresses) -> None:
        self._settings = settings
        self._addresses = addresses
        self._recommender: Recommender | None = None
        if settings.ttft_seconds is not None and settings.inter_token_seconds is not None:
            self._recommender = Recommender(settings)
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
            if self._recommender is not None:
                group.create_task(self._recommend(session, self._recommender))
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
            recommended=None if self._recommender is None else self._recommender.latest,
        )
        self._log_changes({member.replica: member.state for member in members})

    async def _recommend(self, session: aiohttp.ClientSession, recommender: Recommender) -> None:
        while True:
            addresses = sorted(self._known)
            answers = await asyncio.gather(*(self._traffic(session, recommender, address) for address in addresses))
            told = {_text(a): answer for a, answer in zip(addresses, answers, strict=True) if answer is not None}
            recommender.take(told, now=asyncio.get_running_loop().time())
            await asyncio.sleep(self._settings.recommend_seconds)

    async def _traffic(
        self, session: aiohttp.ClientSession, recommender: Recommender, address: Address
    ) -> Traffic | None:
        try:
            since = recommender.cursor(_text(address))
            return await self._ask(session, address, f"/internal/traffic?since={since}", Traffic)
        except UnreachableError:
            return None  # said and counted by the round

    async def _poll(self, session: aiohttp.ClientSession, address: Address) -> GatewayStatus | None:
        try:
            status = await self._ask(session, address, "/internal/status", GatewayStatus)
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

    async def _ask(self, session: aiohttp.ClientSession, address: Address, path: str, kind: type[Answer]) -> Answer:
        try:
            async with session.get(f"http://{_text(address)}{path}") as response:
                if response.status != 200:
                    raise UnreachableError(f"the gateway answers with status {response.status}")
                return msgspec.json.decode(await response.read(), type=kind)
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
