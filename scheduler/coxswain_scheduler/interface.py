"""What a policy sees and what it may do.

A policy sees what a gateway sees: requests without their output lengths, the tokens that engines have emitted so far,
and what engines report. The simulator and the live gateway give the same view, so a policy cannot tell them apart.

Everything happens in calls to the policy; between them nothing changes for it. Within a call it acts through
`Cluster`. Times are seconds on `Cluster.now`; engines are known by small integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from coxswain_scheduler.costs.timing import Timing

Role = Literal["Serve", "Prefill", "Decode"]
"""Serve does both. A role is a policy's own note on an engine: engines can always do both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """What the user asked for, in seconds."""

    ttft: float = 2.0
    inter_token: float = 0.05
    """Mean over the request."""


class Request(Protocol):
    """One accepted request, as a gateway knows it. Identity is `id`; policies may hang their own notes on `note`."""

    @property
    def id(self) -> int:
        """Its number, never another's."""

    @property
    def arrival(self) -> float:
        """When the gateway got it."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of its prompt."""

    @property
    def hashes(self) -> Sequence[int]:
        """Chained hashes of the prompt's full blocks."""

    @property
    def priority(self) -> int:
        """Higher goes first; below 0 is batch work, which takes what the others leave."""

    @property
    def deadline(self) -> float | None:
        """Absolute time at which the whole answer is due."""

    @property
    def tenant(self) -> str:
        """Whose it is."""

    @property
    def workflow(self) -> str:
        """What it is a part of, empty for nothing."""

    @property
    def places(self) -> frozenset[int] | None:
        """Engines that it may go to, such as those that continue it bit for bit; None for all. It changes with them."""

    @property
    def emitted(self) -> int:
        """Output tokens seen so far, counted up to now."""

    @property
    def engine(self) -> int | None:
        """Where it is queued or runs; None while the policy holds it."""

    note: object


class Engine(Protocol):
    """One engine as it last reported, which is at the last change of its batch, and what it is."""

    @property
    def id(self) -> int:
        """Its number, never another's."""

    @property
    def timing(self) -> Timing:
        """Its cost model, as fitted from its steps."""

    @property
    def accelerator(self) -> str:
        """What it runs on."""

    @property
    def total_blocks(self) -> int:
        """Blocks of its KV memory."""

    @property
    def block_size(self) -> int:
        """Tokens in a block."""

    @property
    def max_num_seqs(self) -> int:
        """Sequences that it runs at most."""

    @property
    def running(self) -> int:
        """Sequences admitted."""

    @property
    def waiting(self) -> int:
        """Sequences queued in the engine."""

    @property
    def decoding(self) -> int:
        """Admitted sequences past their prefill."""

    @property
    def pending_prefill(self) -> int:
        """Prompt tokens queued or admitted and not yet computed; a queued prompt counts whole."""

    @property
    def context(self) -> int:
        """KV tokens held by admitted sequences, carried forward to now at a token per decode step."""

    @property
    def free_blocks(self) -> int:
        """Blocks that no sequence holds (reusable ones too)."""

    @property
    def waiting_blocks(self) -> int:
        """Blocks that the queued sequences' prompts will take."""

    @property
    def preemptions(self) -> int:
        """Since the start."""

    @property
    def requests(self) -> Sequence[Request]:
        """Admitted and queued, in the engine's order."""

    @property
    def step_tokens(self) -> int:
        """Tokens it computes in one step at most (the policy may change it)."""

    @property
    def busy_until(self) -> float:
        """When its current step ends, predicted; now when it is idle."""

    role: Role


class Cluster(Protocol):
    """The engines, and what can be asked of them."""

    @property
    def now(self) -> float:
        """Seconds; it stands still during a call to the policy."""

    @property
    def engines(self) -> Mapping[int, Engine]:
        """Those that live and are not leaving."""

    @property
    def objectives(self) -> Objectives:
        """Of every request."""

    @property
    def kv_bytes_per_token(self) -> int:
        """What KV takes on its way to another engine."""

    @property
    def link_bytes_per_second(self) -> float:
        """Between two engines; infinite where transfer is free."""

    @property
    def can_pause(self) -> bool:
        """Engines can keep a sequence and compute nothing for it; else `pause` and `resume` must not be called."""

    def cached(self, request: Request, engine: int) -> int:
        """Prompt tokens of `request` that `engine` is known (by its KV events) to hold."""

    def holders(self, request: Request) -> Mapping[int, int]:
        """The same for every engine that holds any, those that hold most first. It costs nothing to get, and a little
        for every engine that is asked about or gone through."""

    def dispatch(self, request: Request, engine: int, *, rank: float = 0.0, hold: bool = False) -> None:
        """Queue `request` (not yet dispatched, or taken back) in an engine; a lower rank is admitted earlier, equal
        ranks in order of dispatch. With `hold`, the sequence stays, its blocks held, after its prefill, until `place`
        says where it decodes; without, it decodes where it is."""

    def place(self, request: Request, engine: int) -> None:
        """Decode a request that is on hold on `engine`: its KV travels there (nothing to do for the same engine)."""

    def move(self, request: Request, engine: int) -> None:
        """Migrate a running request live: KV is copied while it decodes, the rest at a step boundary."""

    def pause(self, request: Request) -> None:
        """Have a decoding request keep its KV and compute nothing, from the end of the step under way."""

    def resume(self, request: Request) -> None:
        """Go on with a request that was paused."""

    def take_back(self, request: Request) -> None:
        """Withdraw a request from its engine: it is with the policy again; tokens emitted stay emitted, KV is given up
        (the engine's prefix cache may keep it)."""

    def shed(self, request: Request, reason: str) -> None:
        """Refuse it (HTTP 429): only a request that has emitted nothing."""

    def limit(self, engine: int, *, step_tokens: int) -> None:
        """Bound the engine's steps from the next one on."""

    def start(self, accelerator: str | None = None) -> None:
        """Ask for one more engine; it joins after its start-up time."""

    def cancel(self) -> bool:
        """Give up the engine that was asked for last and has not joined yet; False when there is none."""

    def stop(self, engine: int) -> None:
        """Have an engine leave: it takes nothing new, and goes when what it runs has ended or moved."""


class Policy(Protocol):
    """Decides. Called by whoever runs the cluster; never waits."""

    @property
    def period(self) -> float | None:
        """Seconds between two ticks; None for none."""

    def begin(self, cluster: Cluster) -> None:
        """Before everything else, and again after a restart of the scheduler: keep `cluster`, look at its engines."""

    def arrived(self, request: Request) -> None:
        """A new request, or one whose engine was lost (then it has perhaps emitted tokens). Dispatch it, hold it, or
        shed it."""

    def prefilled(self, request: Request) -> None:
        """A request dispatched with `hold` has been prefilled: `place` it now or later."""

    def ended(self, request: Request) -> None:
        """Finished or cancelled; its blocks are free."""

    def stepped(self, engine: Engine) -> None:
        """The engine's batch has changed: something was admitted, prefilled, preempted, or ended, or it fell idle."""

    def tick(self) -> None:
        """`period` seconds have passed."""

    def joined(self, engine: Engine) -> None:
        """A new engine is ready."""

    def lost(self, engine: int) -> None:
        """An engine died; its requests follow one by one through `arrived`."""

    def explain(self, request: Request) -> str:
        """One line on the last decision about `request`: candidates, predicted TTFT, inter-token time and cost of each,
        and the rule that chose. Rendered only when asked for."""
