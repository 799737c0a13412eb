"""Engines that do nothing but keep what a policy decided: enough to see decisions, too little to see their effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from coxswain_scheduler.costs.timing import Timing
from coxswain_scheduler.interface import Engine, Objectives, Request, Role
from coxswain_scheduler.policies.base import Baseline
from coxswain_scheduler.policies.registry import create

BLOCK = 64


@dataclass(slots=True, eq=False)
class Ask:
    """A request; the test says what it has emitted."""

    id: int
    prompt_tokens: int
    arrival: float = 0.0
    hashes: Sequence[int] = ()
    priority: int = 0
    deadline: float | None = None
    tenant: str = ""
    workflow: str = ""
    places: frozenset[int] | None = None
    emitted: int = 0
    engine: int | None = None
    note: object = None


@dataclass(slots=True, eq=False)
class Body:
    """An engine; the test says what it runs: `running` of its requests are admitted."""

    id: int
    timing: Timing
    accelerator: str = "h200"
    total_blocks: int = 16384
    block_size: int = BLOCK
    max_num_seqs: int = 256
    step_tokens: int = 8192
    role: Role = "Serve"
    running: int = 0
    asks: list[Ask] = field(default_factory=list)
    preemptions: int = 0
    busy_until: float = 0.0

    @property
    def requests(self) -> Sequence[Request]:
        return self.asks

    @property
    def waiting(self) -> int:
        return len(self.asks) - self.running

    @property
    def decoding(self) -> int:
        return sum(ask.emitted > 0 for ask in self.asks[: self.running])

    @property
    def pending_prefill(self) -> int:
        return sum(ask.prompt_tokens for ask in self.asks if not ask.emitted)

    @property
    def context(self) -> int:
        return sum(ask.prompt_tokens + ask.emitted for ask in self.asks[: self.running])

    @property
    def free_blocks(self) -> int:
        return self.total_blocks - sum(map(_blocks, self.asks[: self.running]))

    @property
    def waiting_blocks(self) -> int:
        return sum(map(_blocks, self.asks[self.running :]))


class Fleet:
    """A `Cluster` whose time and engines the test moves by hand; it keeps every decision in `done`."""

    def __init__(self, timing: Timing, count: int, *, objectives: Objectives | None = None) -> None:
        self.timing, self.now = timing, 0.0
        self.bodies = {key: Body(key, timing) for key in range(count)}
        self.leaving: list[int] = []
        self.objectives = objectives or Objectives()
        self.kv_bytes_per_token, self.link_bytes_per_second = 131072, float("inf")
        self.can_pause = True
        self.held: dict[int, dict[int, int]] = {}
        """Prompt tokens held, by request and engine."""
        self.done: list[tuple[str, int, int | None]] = []
        self.reasons: dict[int, str] = {}
        self.started = 0

    @property
    def engines(self) -> dict[int, Engine]:
        return {key: body for key, body in self.bodies.items() if key not in self.leaving}

    def cached(self, request: Request, engine: int) -> int:
        return self.held.get(request.id, {}).get(engine, 0)

    def holders(self, request: Request) -> dict[int, int]:
        return self.held.get(request.id, {})

    def dispatch(self, request: Request, engine: int, *, rank: float = 0.0, hold: bool = False) -> None:
        assert isinstance(request, Ask) and request.engine is None
        request.engine = engine
        self.bodies[engine].asks.append(request)
        self.done.append(("hold" if hold else "dispatch", request.id, engine))

    def place(self, request: Request, engine: int) -> None:
        self._go(request, engine, "place")

    def move(self, request: Request, engine: int) -> None:
        self._go(request, engine, "move")

    def pause(self, request: Request) -> None:
        self.done.append(("pause", request.id, request.engine))

    def resume(self, request: Request) -> None:
        self.done.append(("resume", request.id, request.engine))

    def take_back(self, request: Request) -> None:
        self.done.append(("take back", request.id, request.engine))
        self.leave(request)

    def shed(self, request: Request, reason: str) -> None:
        assert not request.emitted
        self.done.append(("shed", request.id, None))
        self.reasons[request.id] = reason

    def limit(self, engine: int, *, step_tokens: int) -> None:
        self.bodies[engine].step_tokens = step_tokens

    def start(self, accelerator: str | None = None) -> None:
        self.started += 1

    def cancel(self) -> bool:
        self.started -= 1
        return True

    def stop(self, engine: int) -> None:
        self.leaving.append(engine)

    def leave(self, request: Request) -> None:
        """A request is gone from its engine."""
        assert isinstance(request, Ask) and request.engine is not None
        body = self.bodies[request.engine]
        body.running -= body.asks.index(request) < body.running
        body.asks.remove(request)
        request.engine = None

    def admitted(self, request: Request, *, emitted: int) -> None:
        """Its engine runs a request, which has emitted this much."""
        assert isinstance(request, Ask) and request.engine is not None
        body = self.bodies[request.engine]
        body.asks.remove(request)
        body.asks.insert(body.running, request)
        body.running += 1
        request.emitted = emitted

    def _go(self, request: Request, engine: int, how: str) -> None:
        emitted = max(1, request.emitted)
        self.leave(request)
        assert isinstance(request, Ask)
        request.engine = engine
        self.bodies[engine].asks.append(request)
        self.admitted(request, emitted=emitted)
        self.done.append((how, request.id, engine))


class Desk:
    """A policy at work on a fleet: the calls that whoever runs the cluster would make."""

    def __init__(self, spec: str, fleet: Fleet, *, seed: int = 0) -> None:
        policy = create(spec, seed=seed)
        assert isinstance(policy, Baseline)
        self.policy, self.fleet = policy, fleet
        policy.begin(fleet)
        self._ids = iter(range(1_000_000))

    def ask(
        self,
        prompt_tokens: int = 1000,
        *,
        held: dict[int, int] | None = None,
        hashes: Sequence[int] = (),
        priority: int = 0,
    ) -> Ask:
        """A request arrives. Its answer says where it is: `ask.engine`, None if it waits or was shed."""
        ask = Ask(next(self._ids), prompt_tokens, self.fleet.now, hashes, priority)
        self.fleet.held[ask.id] = held or {}
        self.policy.arrived(ask)
        return ask

    def run(self, ask: Ask, emitted: int = 1) -> None:
        """Its engine has admitted it and it has emitted."""
        self.fleet.admitted(ask, emitted=emitted)
        assert ask.engine is not None
        self.policy.stepped(self.fleet.bodies[ask.engine])

    def end(self, ask: Ask) -> None:
        assert ask.engine is not None
        engine = self.fleet.bodies[ask.engine]
        self.fleet.leave(ask)
        self.policy.ended(ask)
        self.policy.stepped(engine)

    def lose(self, engine: int) -> None:
        """An engine dies, and what it ran arrives again."""
        body = self.fleet.bodies.pop(engine)
        self.policy.lost(engine)
        for ask in body.asks:
            ask.engine = None
            self.policy.arrived(ask)

    def tick(self, seconds: float) -> None:
        self.fleet.now += seconds
        self.policy.tick()


def _blocks(ask: Ask) -> int:
    return -(-(ask.prompt_tokens + ask.emitted) // BLOCK)
