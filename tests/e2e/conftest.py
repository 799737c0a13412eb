"""One local cluster for all end-to-end tests: Coxswain from its chart, the example service, and traffic over it."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from rich.console import Console

from e2e.cluster import Cluster, leftovers
from e2e.cluster.waiting import wait_until
from e2e.compare import Comparison, Outcome, compare
from e2e.install import apply_model_volume, apply_service, install_chart, restrict
from e2e.service import Service
from e2e.traffic import Stream, Traffic, mixed, run_undisturbed
from examples.train_tiny_model import ensure_model

NAME = "coxswain-tests"
REPLICAS = 3


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes with Coxswain and the example service. Nothing of it is left afterwards.

    With COXSWAIN_E2E_CLUSTER=NAME in the environment, a running cluster (`make demo KEEP=1`) is used, and left.
    """
    if os.geteuid() != 0:
        pytest.skip("the local cluster makes network namespaces: run as root")
    console = Console(file=sys.stderr)
    if running := os.environ.get("COXSWAIN_E2E_CLUSTER"):
        yield Cluster(name=running, console=console)
        return
    model = ensure_model(console)
    cluster = Cluster(name=NAME, nodes=3, console=console)
    try:
        cluster.up()
        install_chart(cluster.helm)
        restrict(cluster.kubectl, "default")
        apply_model_volume(cluster.kubectl, model)
        apply_service(cluster.kubectl)
        yield cluster
    finally:
        cluster.down()
    assert leftovers(NAME) == []


@pytest.fixture
def service(cluster: Cluster) -> Service:
    """The example service, whole and at rest: three Ready replicas that both gateways see, no roll-out under way."""
    service = Service(cluster.kubectl, "tiny")
    service.wait_ready()
    wait_until(service.is_at_rest, what="the end of earlier roll-outs", timeout=240, period=1)
    service.wait_replicas(REPLICAS)
    return service


@dataclass
class UnderTraffic:
    """Twenty streams, something that happens in their middle, and the verdict."""

    cluster: Cluster
    service: Service
    max_tokens: int = 400
    count: int = 20
    expected: dict[str, Outcome] | None = None

    def undisturbed(self) -> dict[str, Outcome]:
        """The same requests with nothing happening, once per test session."""
        if self.expected is None:
            url = self.cluster.gateway_url(self.service.name)
            self.expected = run_undisturbed(url=url, model="tiny", asks=mixed(self.count, self.max_tokens))
        return self.expected

    def verdict(self, act: Callable[[], object], *, silence: float = 180) -> tuple[Comparison, list[Stream]]:
        """Run the streams, call `act` in a thread when each has 20 tokens, wait for all to end, compare.

        A client gives a stream up after `silence` seconds without a byte.
        """
        expected = self.undisturbed()
        streams = asyncio.run(self._disturbed(act, silence))
        return compare({stream.ask.name: stream.outcome for stream in streams}, expected), streams

    def assert_clean(self, act: Callable[[], object]) -> list[Stream]:
        """`act` loses no stream and changes no token."""
        verdict, streams = self.verdict(act)
        errors = [f"{stream.ask.name}: {stream.error}" for stream in streams if stream.error]
        assert verdict.clean, f"{verdict} {errors}"
        return streams

    async def _disturbed(self, act: Callable[[], object], silence: float) -> list[Stream]:
        traffic = self._traffic(silence)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(traffic.run())
            await traffic.until(lambda s: len(s.tokens) >= 20 or bool(s.error), what="20 tokens each", timeout=60)
            assert not [stream.ask.name for stream in traffic.streams if stream.finish], "a stream ended too early"
            await asyncio.to_thread(act)
        return running.result()

    def _traffic(self, silence: float = 180) -> Traffic:
        url = self.cluster.gateway_url(self.service.name)
        return Traffic(url=url, model="tiny", asks=mixed(self.count, self.max_tokens), timeout=silence)


_expected: dict[str, Outcome] = {}


@pytest.fixture
def under_traffic(cluster: Cluster, service: Service) -> UnderTraffic:
    """Streams over the service; the undisturbed run is shared by all tests, since exact means always the same."""
    traffic = UnderTraffic(cluster, service)
    if not _expected:
        _expected.update(traffic.undisturbed())
    traffic.expected = dict(_expected)
    return traffic


class Background:
    """Requests one after another from a thread, for as long as a test does something slow."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.done = 0
        self.errors: list[str] = []

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._ask()
                self.done += 1
            except Exception as error:  # whatever a client sees is what the test is about
                self.errors.append(f"{type(error).__name__}: {error}")
