"""Fixtures that several areas share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from e2e.cluster.control_plane import ControlPlane

# How fast a shared machine draws examples says nothing about the code.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A Kubernetes API (etcd, API server, controllers; no nodes) for the whole session.

    Tests share it, so each works in a namespace of its own and leaves the API server running.
    """
    with ControlPlane() as plane:
        yield plane
