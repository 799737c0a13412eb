"""What a policy may do in a simulation, not at a gateway: requests stay where they were sent, engines as they are."""

from __future__ import annotations

from typing import NoReturn

from coxswain_scheduler.interface import Request


class Fixed:
    """The part of `interface.Cluster` that asks for more than replicas can do."""

    kv_bytes_per_token = 0
    link_bytes_per_second = 0.0
    """Engines cannot hand KV to each other: a request decodes where it was prefilled."""
    can_pause = False
    """What an engine was given it computes: batch work is held back before it is sent, not after."""

    def take_back(self, request: Request) -> None:
        _cannot("withdraw a request from an engine")

    def place(self, request: Request, engine: int) -> None:
        _cannot("hand KV over")

    def move(self, request: Request, engine: int) -> None:
        _cannot("migrate a request live")

    def pause(self, request: Request) -> None:
        _cannot("pause a request")

    def resume(self, request: Request) -> None:
        _cannot("resume a request")

    def limit(self, engine: int, *, step_tokens: int) -> None:
        _cannot("change the size of a step")

    def start(self, accelerator: str | None = None) -> None:
        _cannot("start an engine")

    def cancel(self) -> bool:
        _cannot("start an engine")

    def stop(self, engine: int) -> None:
        _cannot("stop an engine")


def _cannot(what: str) -> NoReturn:
    raise NotImplementedError(f"engines cannot {what}")
