"""What a coordinator is told when it starts: its flags, checked, and the service's token from the environment."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coxswain_workers.addresses import GatewayAddresses


class SettingsError(ValueError):
    """A flag or variable is missing or impossible; the message names it and says what it should be."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One coordinator's configuration; times in seconds."""

    service: str
    gateways: GatewayAddresses
    token: str = field(repr=False)
    status_host: str = ""
    status_port: int = 8002
    poll_seconds: float = 1.0
    answer_seconds: float = 0.8
    """A gateway that has not answered by then is unreachable in this round."""
    ttft_seconds: float | None = None
    inter_token_seconds: float | None = None
    """Replicas are recommended where both objectives are set."""
    attainment: float = 0.95
    startup_seconds: float = 180.0
    """From asking for a replica until it serves."""
    recommend_seconds: float = 15.0
    """From one recommendation to the next."""


def parse(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from flags and COXSWAIN_TOKEN. Raises SettingsError; exits with usage on unknown flags."""
    options = vars(_parser().parse_args(argv))
    token = environment.get("COXSWAIN_TOKEN", "")
    if not token:
        raise SettingsError("COXSWAIN_TOKEN is not set: it must hold the service's token, which gateways check")
    if not 0 <= options["status_port"] <= 65535:
        raise SettingsError("--status-port must be between 0 and 65535")
    for flag in ("ttft_seconds", "inter_token_seconds", "startup_seconds", "recommend_seconds"):
        if options[flag] is not None and not 0 < options[flag] < math.inf:
            raise SettingsError(f"--{flag.replace('_', '-')} must be more than 0, in seconds")
    if not 0 < options["attainment"] < 1:
        raise SettingsError("--attainment must be between 0 and 1")
    try:
        options["gateways"] = GatewayAddresses.parse(options["gateways"])
    except ValueError as error:
        raise SettingsError(f"--gateways: {error}") from None
    return Settings(token=token, **options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m coxswain_workers.coordinator", description="All gateways of one service, merged."
    )
    add = parser.add_argument
    add("--service", required=True, help="name of the LLMService")
    add("--gateways", required=True, help="HOST:PORT of the gateways' status pages; commas separate several")
    add("--status-host", default=Settings.status_host, help="address to listen on (default: all)")
    add("--status-port", type=int, default=Settings.status_port, help="/internal/status, /live, /ready and /metrics")
    add("--ttft-seconds", type=float, help="objective for the first token")
    add("--inter-token-seconds", type=float, help="objective for the mean time between tokens")
    add("--attainment", type=float, default=Settings.attainment, help="share of requests that are to meet both")
    add("--startup-seconds", type=float, default=Settings.startup_seconds, help="until a new replica serves")
    add("--recommend-seconds", type=float, default=Settings.recommend_seconds, help="between two recommendations")
    return parser
