"""What preemption costs requests, seen from outside: it runs any policy and keeps watch on the engines' queues."""

from __future__ import annotations

from coxswain_scheduler.interface import Cluster, Engine, Policy, Request


class Watched:
    """A policy, and how long requests stood still that an engine had preempted.

    From the end of the step that preempted one to the end of the step that computed it anew, as Llumnix's artifact has
    it (wait, and recomputation less a decode step).
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._since: dict[int, tuple[int, float]] = {}
        self.loss_seconds = 0.0
        """Of all requests together."""

    @property
    def period(self) -> float | None:
        """As the policy has it."""
        return self._policy.period

    def begin(self, cluster: Cluster) -> None:
        """See `Policy`, as all that follows."""
        self._cluster = cluster
        self._policy.begin(cluster)

    def arrived(self, request: Request) -> None:
        """Passed on."""
        self._policy.arrived(request)

    def prefilled(self, request: Request) -> None:
        """Passed on."""
        self._policy.prefilled(request)

    def ended(self, request: Request) -> None:
        """Passed on."""
        self._count(request.id)
        self._policy.ended(request)

    def stepped(self, engine: Engine) -> None:
        """See who has been preempted, and who has been computed anew."""
        queued = engine.requests[-engine.waiting :] if engine.waiting else ()
        preempted = {one.id for one in queued if one.emitted and one.engine == engine.id}
        for name in [name for name, (where, _) in self._since.items() if where == engine.id and name not in preempted]:
            self._count(name)
        for name in preempted:
            self._since.setdefault(name, (engine.id, self._cluster.now))
        self._policy.stepped(engine)

    def tick(self) -> None:
        """Passed on."""
        self._policy.tick()

    def joined(self, engine: Engine) -> None:
        """Passed on."""
        self._policy.joined(engine)

    def lost(self, engine: int) -> None:
        """Passed on."""
        self._policy.lost(engine)

    def explain(self, request: Request) -> str:
        """Passed on."""
        return self._policy.explain(request)

    def _count(self, name: int) -> None:
        if name in self._since:
            self.loss_seconds += self._cluster.now - self._since.pop(name)[1]
