"""What the operator counts about itself, for `/metrics`."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

RECONCILES: Final = Counter(
    "coxswain_reconcile_total", "Passes over one service, by outcome.", ["result"], registry=REGISTRY
)
RECONCILE_SECONDS: Final = Histogram(
    "coxswain_reconcile_duration_seconds",
    "How long one pass took.",
    registry=REGISTRY,
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
RECONCILE_ERRORS: Final = Counter(
    "coxswain_reconcile_errors_total", "Passes that failed, by kind of error.", ["error"], registry=REGISTRY
)
QUEUE_DEPTH: Final = Gauge("coxswain_queue_depth", "Services due for a pass.", registry=REGISTRY)
QUEUE_AGE: Final = Gauge(
    "coxswain_queue_oldest_seconds", "How long the service that waited longest has been due.", registry=REGISTRY
)
LEADER: Final = Gauge("coxswain_leader", "1 while this process holds the Lease.", registry=REGISTRY)
API_REQUESTS: Final = Counter(
    "coxswain_api_requests_total", "Requests to the API server, watches aside.", ["verb", "code"], registry=REGISTRY
)
WATCH_EVENTS: Final = Counter(
    "coxswain_watch_events_total", "Objects that watches brought.", ["kind"], registry=REGISTRY
)
STATUS_POLLS: Final = Counter(
    "coxswain_status_polls_total", "Polls of services' status pages, by outcome.", ["result"], registry=REGISTRY
)
REPLICAS_CREATED: Final = Counter("coxswain_replicas_created_total", "Replica Pods made.", registry=REGISTRY)
REPLICAS_DELETED: Final = Counter(
    "coxswain_replicas_deleted_total", "Replica Pods taken away, by cause.", ["cause"], registry=REGISTRY
)
