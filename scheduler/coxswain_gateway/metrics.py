"""`/metrics`: the gateway's plain counters in Prometheus' text format, built when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from coxswain_gateway.fleet import Fleet
from coxswain_gateway.settings import Settings
from coxswain_scheduler.latency import LatencyHistogram, cumulative

_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Exposition:
    """Renders one gateway's metrics; every one is labelled with the service and the gateway."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, *, settings: Settings, fleet: Fleet) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_FleetCollector(settings, fleet))

    def text(self) -> bytes:
        """The whole page."""
        return generate_latest(self._registry)


class _FleetCollector(Collector):
    def __init__(self, settings: Settings, fleet: Fleet) -> None:
        self._fleet = fleet
        self._labels = {"model_name": settings.model, "gateway": settings.gateway}

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        yield from self._gauges()
        yield from self._histograms()

    def _counters(self) -> Iterator[Metric]:
        s = self._fleet.statistics
        yield self._counter("accepted_sequences", "Sequences accepted.", s.accepted)
        yield self._counter("lost_requests", "Accepted sequences that no replica could complete.", s.lost)
        yield self._counter(
            "inexact_replays", "Replays that could not keep the promise of equal tokens.", s.inexact_replays
        )
        yield self._counter("replayed_tokens", "Output tokens submitted again with a replay.", s.replayed_tokens)
        yield self._counter("stale_chunks", "Chunks of superseded attempts, dropped.", s.stale_chunks)
        yield self._counter("heartbeat_losses", "Replicas lost by silence.", s.heartbeat_losses)
        yield self._counter("prompt_tokens", "Prompt tokens accepted.", s.prompt_tokens)
        yield self._counter("cached_prompt_tokens", "Prompt tokens found in a prefix cache.", s.cached_tokens)
        yield self._counter("generation_tokens", "Output tokens received.", s.output_tokens)
        yield self._counter("event_loop_lag_seconds", "Time in which this gateway's own loop stood still.", s.loop_lag)
        yield self._counter_by("ended_sequences", "Sequences by how they ended.", "outcome", s.ended)
        yield self._counter_by("refused_requests", "Requests turned away.", "status", s.refused)
        yield self._counter_by("replays", "Sequences submitted again.", "cause", s.replays)

    def _gauges(self) -> Iterator[Metric]:
        ledger = self._fleet.ledger
        yield self._gauge("streams", "Sequences that have not ended.", ledger.live)
        yield self._gauge("num_requests_waiting", "Sequences without a first token.", ledger.waiting)
        yield self._gauge("num_requests_running", "Sequences with a first token.", ledger.live - ledger.waiting)
        yield self._gauge("held_streams", "Sequences that no replica can take.", self._fleet.streams.held)
        members = GaugeMetricFamily("coxswain_members", "Replicas by state.", labels=[*self._labels, "state"])
        states = [member.state for member in self._fleet.members]
        for state in ("Ready", "Draining", "Lost"):
            members.add_metric([*self._labels.values(), state], states.count(state))
        yield members
        errors = GaugeMetricFamily(
            "coxswain_step_cost_relative_error",
            "Mean relative error of predicted step times.",
            labels=[*self._labels, "engine", "accelerator", "model"],
        )
        for kind, error in self._fleet.cost_errors().items():
            errors.add_metric([*self._labels.values(), *kind], error)
        yield errors

    def _histograms(self) -> Iterator[Metric]:
        s = self._fleet.statistics
        yield self._histogram("time_to_first_token_seconds", "From acceptance to the first token.", s.ttft)
        yield self._histogram("inter_token_latency_seconds", "Between tokens of a sequence.", s.inter_token)
        yield self._histogram("e2e_request_latency_seconds", "From acceptance to the end.", s.duration)
        yield self._histogram("stream_gap_seconds", "Pause of a stream that a replay bridged.", s.gap)

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"coxswain_{name}", text, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _counter_by(self, name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
        family = CounterMetricFamily(f"coxswain_{name}", text, labels=[*self._labels, label])
        for key, value in values.items():
            family.add_metric([*self._labels.values(), key], value)
        return family

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"coxswain_{name}", text, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _histogram(self, name: str, text: str, latencies: LatencyHistogram) -> Metric:
        family = HistogramMetricFamily(f"coxswain_{name}", text, labels=list(self._labels))
        counts = cumulative(latencies.status(), _BOUNDS)
        buckets = [(str(bound), float(count)) for bound, count in zip(_BOUNDS, counts, strict=True)]
        family.add_metric(list(self._labels.values()), [*buckets, ("+Inf", float(latencies.count))], latencies.sum)
        return family
