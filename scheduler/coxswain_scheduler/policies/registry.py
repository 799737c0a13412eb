"""The policies by name, and how a name with options is read: `NAME` or `NAME:key=value,key=value`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from coxswain_scheduler.interface import Policy
from coxswain_scheduler.policies.coxswain import Coxswain
from coxswain_scheduler.policies.distserve import DistServe
from coxswain_scheduler.policies.dynamo import DynamoKV
from coxswain_scheduler.policies.hpa import HorizontalAutoscaler
from coxswain_scheduler.policies.infaas import Infaas
from coxswain_scheduler.policies.least_requests import LeastRequests
from coxswain_scheduler.policies.llumnix import Llumnix
from coxswain_scheduler.policies.mooncake import MooncakeConductor
from coxswain_scheduler.policies.past_future import PastFuture
from coxswain_scheduler.policies.power_of_two import PowerOfTwo
from coxswain_scheduler.policies.round_robin import RoundRobin
from coxswain_scheduler.policies.sglang import SGLangCacheAware
from coxswain_scheduler.policies.splitwise import Splitwise
from coxswain_scheduler.policies.static import Static
from coxswain_scheduler.policies.uniform import Uniform

POLICIES: Mapping[str, Callable[..., Policy]] = {
    "coxswain": Coxswain,
    "round-robin": RoundRobin,
    "random": Uniform,
    "least-requests": LeastRequests,
    "power-of-two": PowerOfTwo,
    "sglang-cache-aware": SGLangCacheAware,
    "dynamo-kv": DynamoKV,
    "mooncake": MooncakeConductor,
    "llumnix": Llumnix,
    "infaas": Infaas,
    "splitwise": Splitwise,
    "distserve": DistServe,
    "static": Static,
    "past-future": PastFuture,
    "hpa": HorizontalAutoscaler,
}
"""Each takes its options, and `seed`, as keywords with defaults."""


def create(spec: str, *, seed: int = 0) -> Policy:
    """The policy that `spec` names. Raises ValueError with one line that says what is wrong and what there is."""
    name, _, rest = spec.partition(":")
    if name not in POLICIES:
        raise ValueError(f"policy {name!r}: unknown; there are {', '.join(POLICIES)}")
    factory = POLICIES[name]
    options = {"seed": seed}
    for option in rest.split(",") if rest else ():
        key, _, value = option.partition("=")
        options[key] = _value(name, key, value, defaults(factory))
    return factory(**options)


def defaults(factory: Callable[..., Policy]) -> dict[str, Any]:
    """The options of a policy with their defaults."""
    return {name: parameter.default for name, parameter in inspect.signature(factory).parameters.items()}


def _value(policy: str, key: str, value: str, known: Mapping[str, Any]) -> Any:
    """An option as the type of its default."""
    if key not in known:
        raise ValueError(f"policy {policy}: no option {key!r}; there are {', '.join(known)}")
    kind = type(known[key])
    try:
        return {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        raise ValueError(f"policy {policy}: {key}={value!r} is not {_WORDS[kind]}") from None


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
