"""Flags of a replica: what is derived, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coxswain_workers.addresses import GatewayAddresses
from coxswain_workers.replica.settings import SettingsError, parse, termination_log

REQUIRED = ["--gateways", "chat-gateways:8001", "--replica", "chat-serve-0-1", "--model", "/model"]
ENVIRONMENT = {"COXSWAIN_TOKEN": "secret"}


def test_engine_flags_that_are_not_set_keep_the_engines_defaults() -> None:
    settings = parse([*REQUIRED, "--num-blocks", "64"], ENVIRONMENT)
    assert settings.engine == {"arithmetic": "fast", "num_blocks": 64}
    assert settings.gateways == GatewayAddresses(frozenset(), (("chat-gateways", 8001),))
    assert "secret" not in repr(settings)


def test_exact_replay_needs_exact_arithmetic() -> None:
    assert parse([*REQUIRED, "--replay", "Exact"], ENVIRONMENT).engine["arithmetic"] == "exact"
    assert parse([*REQUIRED, "--replay", "Exact", "--arithmetic", "fast"], ENVIRONMENT).engine["arithmetic"] == "fast"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-blocks", "0"], "--num-blocks must be at least 1"),
        (["--num-blocks", "many"], "--num-blocks: invalid int value: 'many'"),
        (["--no-such-flag"], "unrecognized arguments: --no-such-flag"),
        (["--gateways", "chat-gateways"], "--gateways: 'chat-gateways' is not HOST:PORT"),
        (["--gateways", "chat-gateways:99999"], "is not HOST:PORT"),
        (["--status-port", "70000"], "--status-port must be between 0 and 65535"),
        (["--drain-seconds", "-1"], "--drain-seconds must not be negative"),
        (["--on-drain", "Panic"], "--on-drain: invalid choice"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(flags: list[str], message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse([*REQUIRED, *flags], ENVIRONMENT)
    assert message in str(raised.value)


def test_the_token_must_be_there() -> None:
    with pytest.raises(SettingsError, match="COXSWAIN_TOKEN is not set"):
        parse(REQUIRED, {})


def test_the_termination_log_is_known_even_when_other_flags_are_wrong() -> None:
    assert termination_log(["--no-such-flag", "--termination-log", "/tmp/t"]) == Path("/tmp/t")
    assert termination_log(["--no-such-flag"]) == Path("/dev/termination-log")


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_address_is_taken_as_it_stands(ip: object, port: int) -> None:
    host = f"[{ip}]" if ":" in str(ip) else str(ip)
    assert GatewayAddresses.parse(f"{host}:{port}") == GatewayAddresses(frozenset({(str(ip), port)}), ())
