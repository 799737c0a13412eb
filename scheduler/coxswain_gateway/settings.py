"""What a gateway is told when it starts: its flags, checked, and the service's token from the environment."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Replay = Literal["Seamless", "Exact", "Disabled"]

_LATEST = 4.0
"""Objectives."""


class SettingsError(Exception):
    """A flag or variable is missing or impossible; the message names it and says what it should be."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One gateway's configuration; times in seconds."""

    service: str
    namespace: str
    model: str
    gateway: str
    token: str
    host: str = "0.0.0.0"
    port: int = 8000
    replica_port: int = 8001
    status_port: int = 8002
    replay: Replay = "Seamless"
    max_waiting: int = 256
    """Accepted sequences without a first token; beyond it, requests are told to come back."""
    hold_seconds: float = 60.0
    """How long an accepted stream waits for a replica when there is none."""
    heartbeat_limit: float = 0.8
    """Silence after which a replica counts as lost."""
    max_body_bytes: int = 4 * 1024 * 1024
    linger_seconds: float = 5.0
    """After SIGTERM: how long new connections are still served while endpoints catch up."""
    stall_seconds: float = 120.0
    """A client that takes no byte for this long is gone."""
    alone_seconds: float = 30.0
    """How long a new gateway waits for a replica before it lets clients come, to be told that there is none."""
    canary_idle_seconds: float = 30.0
    """A replica that produced no token for this long is asked for one."""
    ttft_seconds: float = math.inf
    """Objective for the first token. Infinite: there is none, and nothing is refused."""
    inter_token_seconds: float = math.inf
    """Objective for the mean time between tokens: engines are not filled beyond it. Infinite: no limit."""
    record: Path | None = None
    """File for what happens, to replay it in the simulator (docs/simulator.md)."""

    @property
    def latest_ttft_seconds(self) -> float:
        """What could only begin later is refused while others wait. An objective is for a percentile: a little late is
        no reason."""
        return self.ttft_seconds * _LATEST


def parse(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from flags and COXSWAIN_TOKEN. Raises SettingsError; exits with usage on unknown flags."""
    options = vars(_parser().parse_args(argv))
    token = environment.get("COXSWAIN_TOKEN", "")
    if not token:
        raise SettingsError("COXSWAIN_TOKEN is not set: it must hold the service's token, which replicas present")
    settings = Settings(token=token, **options)
    _check(settings)
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m coxswain_gateway", description="The OpenAI API of one LLMService.")
    for name, text in (
        ("service", "name of the LLMService"),
        ("namespace", "its namespace"),
        ("model", "name under which the model is served"),
        ("gateway", "name of this gateway: its Pod"),
    ):
        parser.add_argument(f"--{name}", required=True, help=text)
    parser.add_argument("--replay", choices=get_args(Replay), default=Settings.replay, help="how lost streams resume")
    for flag, kind, text in (
        ("host", str, "address to listen on"),
        ("port", int, "the OpenAI API, /health and /metrics"),
        ("replica-port", int, "where replicas dial in"),
        ("status-port", int, "/internal/status, /live and /ready"),
        ("max-waiting", int, "sequences without a first token before requests get 429"),
        ("hold-seconds", float, "how long accepted streams wait when no replica is left"),
        ("heartbeat-limit", float, "seconds of silence after which a replica is lost"),
        ("max-body-bytes", int, "largest request body"),
        ("linger-seconds", float, "seconds of listening after SIGTERM"),
        ("stall-seconds", float, "seconds after which a client that reads nothing is dropped"),
        ("alone-seconds", float, "seconds after which a gateway is ready though no replica has come"),
        ("canary-idle-seconds", float, "idle seconds after which a replica is asked for a token"),
        ("ttft-seconds", float, "objective for the first token; those that would take 4 × as long get 429"),
        ("inter-token-seconds", float, "objective for the mean time between tokens"),
    ):
        default = getattr(Settings, flag.replace("-", "_"))
        parser.add_argument(f"--{flag}", type=kind, default=default, help=f"{text} (default: {default})")
    parser.add_argument("--record", type=Path, help="write what happens to this file, for coxswain-simulate validate")
    return parser


def _check(settings: Settings) -> None:
    for field in ("port", "replica_port", "status_port"):
        if not 0 <= getattr(settings, field) <= 65535:
            raise SettingsError(f"--{field.replace('_', '-')} must be between 0 and 65535")
    for field in (
        "max_waiting",
        "heartbeat_limit",
        "max_body_bytes",
        "stall_seconds",
        "canary_idle_seconds",
        "ttft_seconds",
        "inter_token_seconds",
    ):
        if not getattr(settings, field) > 0:
            raise SettingsError(f"--{field.replace('_', '-')} must be above 0")
    for field in ("hold_seconds", "linger_seconds", "alone_seconds"):
        if getattr(settings, field) < 0:
            raise SettingsError(f"--{field.replace('_', '-')} must not be negative")
