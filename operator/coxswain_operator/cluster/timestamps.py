"""Times as the Kubernetes API writes them."""

from __future__ import annotations

from datetime import UTC, datetime


def parse(text: str) -> float:
    """Seconds since the epoch; 0 for what is no RFC 3339 time."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def seconds(at: float) -> str:
    """RFC 3339 in UTC with whole seconds: `metav1.Time`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micros(at: float) -> str:
    """RFC 3339 in UTC with microseconds: `metav1.MicroTime`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
