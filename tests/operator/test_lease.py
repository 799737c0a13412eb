"""The Lease, on a real API server; each operator's clock is told, not waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import kopf
import pytest

from coxswain_operator.cluster.api import Api
from coxswain_operator.cluster.login import Login
from coxswain_operator.lease import DEADLINE_SECONDS, DURATION_SECONDS, Lease, LeaseLostError
from e2e.cluster.ports import free_ports
from tests.operator.conftest import LEASE, Namespace

pytestmark = pytest.mark.apiserver


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Away:
    """Credentials of an API server that is there, until it is made to be somewhere else."""

    def __init__(self, login: Login) -> None:
        self.info: kopf.ConnectionInfo = login()

    def __call__(self) -> kopf.ConnectionInfo:
        return self.info

    def leave(self) -> None:
        self.info = replace(self.info, server=f"https://127.0.0.1:{free_ports(1)[0]}")


@pytest.fixture
async def api(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setenv("KUBECONFIG", str(namespace.plane.kubeconfig))
    api = Api(Login(namespace.plane.kubeconfig))
    yield api
    await api.close()


def lease(api: Api, namespace: Namespace, identity: str) -> tuple[Lease, Clock]:
    clock = Clock()
    return Lease(api, namespace=namespace.name, identity=identity, clock=clock), clock


async def test_the_first_one_gets_it_and_the_second_waits(api: Api, namespace: Namespace) -> None:
    (first, _), (second, _) = lease(api, namespace, "first"), lease(api, namespace, "second")
    assert await first.try_acquire()
    assert not await second.try_acquire()
    assert (first.held, second.held) == (True, False)


async def test_a_renewed_lease_does_not_run_out(api: Api, namespace: Namespace) -> None:
    (first, _), (second, clock) = lease(api, namespace, "first"), lease(api, namespace, "second")
    assert await first.try_acquire()
    for _ in range(5):
        assert not await second.try_acquire()
        clock.now += DURATION_SECONDS - 1
        await first.renew()
    assert not await second.try_acquire()


async def test_one_that_is_not_renewed_is_taken_after_its_duration_and_not_before(
    api: Api, namespace: Namespace
) -> None:
    (first, _), (second, clock) = lease(api, namespace, "first"), lease(api, namespace, "second")
    assert await first.try_acquire()
    assert not await second.try_acquire()
    clock.now = DURATION_SECONDS - 0.1
    assert not await second.try_acquire()
    clock.now = DURATION_SECONDS
    assert await second.try_acquire()
    spec = (namespace.get(LEASE.format(namespace=namespace.name)) or {})["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("second", 1)
    with pytest.raises(LeaseLostError, match="held by second"):
        await first.renew()
    assert not first.held


async def test_a_released_one_is_taken_at_once(api: Api, namespace: Namespace) -> None:
    (first, _), (second, _) = lease(api, namespace, "first"), lease(api, namespace, "second")
    assert await first.try_acquire()
    assert not await second.try_acquire()
    await first.release()
    assert await second.try_acquire()


async def test_an_api_server_that_is_away_costs_the_lease_only_after_the_deadline(namespace: Namespace) -> None:
    away = Away(Login(namespace.plane.kubeconfig))
    api = Api(away)
    first, clock = lease(api, namespace, "first")
    assert await first.try_acquire()
    away.leave()
    await api.close()
    clock.now = DEADLINE_SECONDS - 0.1
    await first.renew()
    assert first.held
    clock.now = DEADLINE_SECONDS
    with pytest.raises(LeaseLostError, match="could not be renewed"):
        await first.renew()
    assert not first.held
    await api.close()
