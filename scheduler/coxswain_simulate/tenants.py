"""A trace's requests, given to tenants and chained to workflows as a scenario says."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from coxswain_scheduler.simulator.trace import Trace, TraceRequest
from coxswain_simulate.scenarios import Tenant, Workflows


def assign(trace: Trace, tenants: Sequence[Tenant], *, seed: int = 0) -> Trace:
    """Each request to one of the tenants, drawn by their shares; what is left over belongs to none.

    A tenant's priority replaces a request's own where it is higher. Requests of a tenant with workflows are chained in
    order of arrival, so many stages a chain; the last chain may be shorter.
    """
    if not tenants:
        return trace
    source = random.Random(f"tenants {seed}")
    theirs: dict[str, list[int]] = {tenant.name: [] for tenant in tenants}
    requests = list(trace.requests)
    for index, request in enumerate(requests):
        tenant = _drawn(tenants, source.random())
        if tenant is not None:
            theirs[tenant.name].append(index)
            requests[index] = _belonging(request, tenant)
    for tenant in tenants:
        if tenant.workflows:
            _chain(requests, theirs[tenant.name], tenant.name, tenant.workflows)
    return Trace(trace.name, tuple(requests), trace.chunk_tokens)


def _drawn(tenants: Sequence[Tenant], point: float) -> Tenant | None:
    for tenant in tenants:
        point -= tenant.share
        if point < 0:
            return tenant
    return None


def _belonging(request: TraceRequest, tenant: Tenant) -> TraceRequest:
    priority = max(request.priority, tenant.priority) if request.priority else tenant.priority
    return replace(request, tenant=tenant.name, priority=priority, deadline=tenant.deadline)


def _chain(requests: list[TraceRequest], indices: Sequence[int], name: str, flows: Workflows) -> None:
    part = None if flows.deadline is None else flows.deadline / flows.stages
    for place, index in enumerate(indices):
        number, stage = divmod(place, flows.stages)
        one = replace(requests[index], workflow=f"{name}-{number}")
        if part is not None:
            one = replace(one, deadline=part)
        if stage:
            one = replace(one, after=(indices[place - 1],), arrival=flows.pause)
        requests[index] = one
