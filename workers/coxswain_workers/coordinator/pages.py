"""What a coordinator serves: the merged status to the operator, probes, and metrics."""

from __future__ import annotations

import hmac
from collections.abc import Iterator

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coxswain_workers.coordinator.poller import Poller


def pages(poller: Poller, *, token: str) -> web.Application:
    """The application; /internal/status wants `Authorization: Bearer TOKEN`."""
    registry = CollectorRegistry()
    registry.register(StatusCollector(poller))

    async def internal_status(request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), f"Bearer {token}".encode()):
            return web.Response(status=401, text="the service's token is missing or wrong\n")
        if poller.status is None:
            return web.Response(status=503, text="the gateways have not been asked yet\n")
        return web.Response(body=msgspec.json.encode(poller.status), content_type="application/json")

    async def live(_request: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def ready(_request: web.Request) -> web.Response:
        if poller.status is None:
            return web.Response(status=503, text="starting\n")
        return web.Response(text="ready\n")

    async def metrics(_request: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=generate_latest(registry), headers=headers)

    app = web.Application()
    app.router.add_get("/internal/status", internal_status)
    app.router.add_get("/live", live)
    app.router.add_get("/ready", ready)
    app.router.add_get("/metrics", metrics)
    return app


class StatusCollector(Collector):
    """The last round, as metrics."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller

    def collect(self) -> Iterator[Metric]:
        """Every family, from one consistent status."""
        yield CounterMetricFamily("coxswain_coordinator_rounds", "Rounds of polling", value=self._poller.rounds)
        yield CounterMetricFamily("coxswain_coordinator_failed_polls", "Unanswered polls", value=self._poller.failures)
        status = self._poller.status
        if status is None:
            return
        gateways = GaugeMetricFamily(
            "coxswain_service_gateways", "Gateways, by whether they answer", labels=["answers"]
        )
        gateways.add_metric(["yes"], len(status.gateways))
        gateways.add_metric(["no"], len(status.unreachable))
        yield gateways
        replicas = GaugeMetricFamily("coxswain_service_replicas", "Replicas, by state", labels=["state"])
        for state in ("Ready", "Draining", "Lost"):
            replicas.add_metric([state], sum(member.state == state for member in status.members))
        yield replicas
        streams = sum(gateway.streams for gateway in status.gateways)
        yield GaugeMetricFamily("coxswain_service_streams", "Streams, over all gateways", value=streams)
        waiting = sum(gateway.waiting for gateway in status.gateways)
        yield GaugeMetricFamily("coxswain_service_waiting", "Requests without a first token", value=waiting)
        if status.recommended is not None:
            yield GaugeMetricFamily(
                "coxswain_service_recommended_replicas",
                "Replicas that the objectives need, as the autoscaler sees it",
                value=status.recommended.replicas,
            )
