"""What a replica is told when it starts: its flags, checked, and the service's token from the environment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

from coxswain_workers.addresses import GatewayAddresses

OnDrain = Literal["Migrate", "Finish"]
Replay = Literal["Seamless", "Exact", "Disabled"]

ENGINE_FLAGS = {
    "block-size": "tokens per KV block",
    "num-blocks": "KV blocks of the pool",
    "max-model-len": "longest sequence, prompt and output together",
    "max-num-seqs": "sequences in one step",
    "max-step-tokens": "tokens in one step",
}


class _Parser(argparse.ArgumentParser):
    """Its complaints must reach the termination log, so they are raised rather than printed."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(message)


class SettingsError(ValueError):
    """A flag or variable is missing or impossible; the message names it and says what it should be."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One replica's configuration; times in seconds."""

    gateways: GatewayAddresses
    replica: str
    model: str
    token: str = field(repr=False)
    accelerator: str = "cpu"
    replay: Replay = "Seamless"
    on_drain: OnDrain = "Migrate"
    drain_seconds: float = 300.0
    status_host: str = ""
    status_port: int = 8002
    termination_log: Path = Path("/dev/termination-log")
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Fields of EngineOptions that were set; the rest keep the engine's defaults."""
    beat_seconds: float = 0.1
    silence_seconds: float = 10.0
    """A gateway that says nothing for this long is gone, and its requests with it."""
    refusal_seconds: float = 15.0
    """Refused by every gateway it met for this long, a replica that was never welcome gives up."""
    stall_seconds: float = 60.0
    """An engine with work in hand that finishes no step for this long has hung: its process ends itself."""
    max_backlog: int = 8 * 1024 * 1024
    """Bytes that may wait for one gateway to read; beyond it the gateway is dropped, and replays."""


def parse(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from flags and COXSWAIN_TOKEN. Raises SettingsError."""
    options = vars(_parser().parse_args(argv))
    token = environment.get("COXSWAIN_TOKEN", "")
    if not token:
        raise SettingsError("COXSWAIN_TOKEN is not set: it must hold the service's token, which gateways check")
    engine = {name: options.pop(name) for name in [flag.replace("-", "_") for flag in ENGINE_FLAGS]}
    engine["arithmetic"] = options.pop("arithmetic") or ("exact" if options["replay"] == "Exact" else "fast")
    engine["device"] = options.pop("device")
    try:
        options["gateways"] = GatewayAddresses.parse(options["gateways"])
    except ValueError as error:
        raise SettingsError(f"--gateways: {error}") from None
    engine = {name: value for name, value in engine.items() if value is not None}
    settings = Settings(token=token, engine=engine, **options)
    _check(settings)
    return settings


def termination_log(argv: Sequence[str]) -> Path:
    """Where to explain a failed start, even if the other flags make no sense."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--termination-log", type=Path, default=Settings.termination_log)
    path: Path = parser.parse_known_args(argv)[0].termination_log
    return path


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m coxswain_workers.replica", description="One engine of a service.")
    add = parser.add_argument
    add(
        "--gateways", required=True, help="HOST:PORT of the gateways, re-resolved every second; commas separate several"
    )
    add("--replica", required=True, help="name of this replica: its Pod")
    add("--model", required=True, help="folder of a checkpoint, or hf://org/name[@revision]")
    add("--accelerator", default=Settings.accelerator, help="name of the AcceleratorClass this Pod runs on")
    add("--replay", choices=get_args(Replay), default=Settings.replay, help="Exact implies --arithmetic exact")
    add("--on-drain", choices=get_args(OnDrain), default=Settings.on_drain, help="what SIGTERM does to streams")
    add("--drain-seconds", type=float, default=Settings.drain_seconds, help="how long draining may take")
    add("--status-host", default=Settings.status_host, help="address of the status pages (default: all)")
    add("--status-port", type=int, default=Settings.status_port, help="/live, /ready and /metrics")
    add("--termination-log", type=Path, default=Settings.termination_log, help="where a failed start is explained")
    add("--stall-seconds", type=float, default=Settings.stall_seconds, help="a step longer than this has hung")
    add("--device", default=None, help="as torch names it; by default the first GPU where there is one, else cpu")
    add("--arithmetic", choices=("exact", "fast"), default=None, help="exact: bits do not depend on the batch")
    for flag, text in ENGINE_FLAGS.items():
        add(f"--{flag}", type=int, default=None, help=text)
    return parser


def _check(settings: Settings) -> None:
    if not 0 <= settings.status_port <= 65535:
        raise SettingsError("--status-port must be between 0 and 65535")
    if settings.drain_seconds < 0:
        raise SettingsError("--drain-seconds must not be negative")
    if settings.stall_seconds <= 0:
        raise SettingsError("--stall-seconds must be above 0")
    for name, value in settings.engine.items():
        if isinstance(value, int) and value < 1:
            raise SettingsError(f"--{name.replace('_', '-')} must be at least 1")
