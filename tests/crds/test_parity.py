"""The models and the API server come to the same verdict, and the same defaults, on every object."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from coxswain_crds.llm_service import LLMService
from coxswain_crds.validation import schema_errors
from tests.crds.conftest import Client
from tests.crds.manifests import Object, full_spec, llm_service

pytestmark = pytest.mark.apiserver

WORDS = [
    *(
        "Native",
        "Serve",
        "Disabled",
        "exact",
        "500ms",
        "0s",
        "1h",
        "24h",
        "25h",
        "1.5s",
        "5m\n",
        "hf://a/b",
        "hf://a/b/c",
    ),
    *("pvc://c", "pvc://c/..", "pvc://c/../d", "pvc://c/x..", "file:///", "file://x", "s3://b", "a" * 600, "ä" * 16),
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 1100)
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.0, 1.0, 50.0, 1e300])
    | st.text(max_size=20)
    | st.sampled_from(WORDS)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["model", "replicas", "unknown", "Model", "class", "class_", "on_drain", "", "x-y", "ä"])


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Object]:
    return st.fixed_dictionaries({}, optional=fields)


DURATION = st.builds("{}{}".format, st.integers(1, 60), st.sampled_from(["ms", "s"])) | st.just("10m")
OBJECTIVE = st.fixed_dictionaries({"target": DURATION}, optional={"percentile": st.integers(1, 99)})
LABELS = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)
ROLE = st.fixed_dictionaries(
    {"name": st.just("Serve")},
    optional={
        "accelerators": st.lists(st.just({"class": "h100"}), max_size=1),
        "template": optional(
            metadata=optional(labels=LABELS, annotations=LABELS),
            spec=st.dictionaries(st.text(max_size=5), JSON, max_size=3),
        ),
    },
)
SPEC = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries(
            {"uri": st.sampled_from(["hf://acme/small", "pvc://models/tiny", "pvc://models", "file:///srv/x"])},
            optional={"revision": st.just("v1"), "served": st.just("acme/small:1")},
        )
    },
    optional={
        "engine": optional(
            type=st.just("Native"), image=st.just("a/b:c@sha256:0"), args=st.lists(st.text(max_size=9), max_size=3)
        ),
        "roles": st.lists(ROLE, max_size=1),
        "objectives": optional(ttft=OBJECTIVE, interToken=OBJECTIVE),
        "scaling": optional(replicas=st.integers(0, 1000)),
        "resilience": optional(
            onDrain=st.sampled_from(["Migrate", "Finish"]),
            drainTimeout=DURATION,
            replay=st.sampled_from(["Seamless", "Exact", "Disabled"]),
        ),
    },
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from places(inner)


def twisted(value: Any) -> list[Any]:
    """What is nearly the same as a value, and mostly wrong."""
    match value:
        case bool() | None:
            return [str(value), [value]]
        case int() | float():
            return [float(value), value + 0.5, -value, value * 1000, str(value), [value]]
        case str():
            return [
                f"{value}\n",
                f" {value}",
                value.upper(),
                f"{value}/..",
                f"{value}0",
                value * 60,
                [value],
                {value: value},
            ]
        case _:
            return [[value], str(value), None]


@st.composite
def mutated(draw: st.DrawFn) -> Object:
    """A valid spec in which a few places hold something else, nothing, null, or one field more."""
    spec = copy.deepcopy(draw(SPEC | st.just(full_spec())))
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(list(places(spec)) or [(spec, None)]))
        if key not in (container if isinstance(container, dict) else range(len(container))):
            continue  # gone by an earlier mutation
        match draw(st.sampled_from(["replace", "twist", "twist", "remove", "null", "add", "repeat"])):
            case "replace":
                container[key] = draw(SCALARS | JSON)
            case "twist":
                container[key] = draw(st.sampled_from(twisted(container[key])))
            case "null":
                container[key] = None
            case "remove":
                del container[key]
            case "add" if isinstance(container, dict):
                container[draw(NAMES)] = draw(SCALARS)
            case "repeat" if isinstance(container, list):
                container.append(copy.deepcopy(container[key]))
    return spec


NAME = st.sampled_from(["chat", "a", "a-1", "x" * 40, "x" * 41, "1a", "a.b"])


def understood(manifest: Object) -> Object:
    """The spec as the models read it, without what is passed through (where 1e17 and 10**17 are the same number)."""
    spec = LLMService.model_validate(manifest).spec
    return spec.model_dump(exclude={"roles": {"__all__": {"template": {"spec"}}}})


def same_verdict(client: Client, manifest: Object) -> None:
    status, answer = client.try_create(manifest)
    assert status in (201, 400, 422), answer
    found = schema_errors(LLMService, manifest)
    event("accepted" if status == 201 else "refused")
    assert (found == []) == (status == 201), (found, answer.get("message"))
    if status == 201:
        assert understood(answer) == understood(manifest)


@settings(max_examples=200, deadline=None)
@given(SPEC)
def test_valid_objects_are_accepted_by_both(client: Client, spec: Object) -> None:
    manifest = llm_service(spec)
    assert schema_errors(LLMService, manifest) == []
    same_verdict(client, manifest)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(), NAME)
def test_mutated_objects_get_the_same_verdict(client: Client, spec: Object, name: str) -> None:
    same_verdict(client, llm_service(spec, name=name))


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_any_json_in_place_of_the_spec_gets_the_same_verdict(client: Client, spec: object) -> None:
    same_verdict(client, llm_service() | {"spec": spec})
