from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coxswain_crds.llm_service import LLMService
from coxswain_crds.reasons import Accepted
from coxswain_crds.validation import FieldError, accelerator_class_errors, errors
from tests.crds.manifests import full_spec, llm_service


def test_the_smallest_service_gets_all_defaults() -> None:
    spec = LLMService.model_validate(llm_service()).spec
    assert spec.scaling.replicas == 1
    assert spec.engine.type == "Native"
    assert spec.serve.name == "Serve"
    assert spec.serve.accelerators == []
    assert (spec.resilience.on_drain, spec.resilience.drain_timeout, spec.resilience.replay) == (
        "Migrate",
        "300s",
        "Seamless",
    )
    assert (spec.objectives.ttft, spec.objectives.inter_token) == (None, None)


def test_a_service_that_says_everything_is_accepted() -> None:
    assert errors(llm_service(full_spec()), accelerator_classes={"h100"}, step_floor_seconds=0.05) == []


def test_null_is_the_same_as_leaving_a_field_out() -> None:
    manifest = llm_service({"model": {"uri": "hf://a/b", "revision": None}, "scaling": None, "roles": None})
    assert LLMService.model_validate(manifest).spec.scaling.replicas == 1


def spec_with(path: str, value: object) -> dict[str, Any]:
    """The full spec with one value changed; `path` as in FieldError, below spec."""
    spec = full_spec()
    place: Any = spec
    *parents, last = path.split(".")
    for part in parents:
        place = place[part] if not part.endswith("[0]") else place[part.removesuffix("[0]")][0]
    place[last] = value
    return spec


WRONG: dict[str, list[tuple[Any, str]]] = {
    "model.uri": [
        (None, "is required"),
        ("", "must not be empty"),
        (7, "must be a string, not 7"),
        ("s3://bucket/model", "must be hf://ORG/NAME, pvc://CLAIM/PATH or file:///PATH"),
        ("hf://only-one", "must be hf://ORG/NAME"),
        ("pvc://Claim/x", "must be hf://ORG/NAME"),
        ("file://srv/x", "must be hf://ORG/NAME"),
        ("pvc://claim/a/../b", "must not contain .."),
        ("hf://a/b\n", "must be hf://ORG/NAME"),
        ("pvc://claim/" + "x" * 600, "must have at most 512 characters"),
    ],
    "model.revision": [("-x", "must start with a letter or digit"), ("", "must start with")],
    "model.served": [("a b", "hold only letters, digits")],
    "model.repo": [("x", "unknown field; known are uri, revision, served")],
    "model.revison": [("x", "unknown field; did you mean revision?")],
    "engine.type": [("VLLM", 'must be Native, not "VLLM"')],
    "engine.image": [("a b", "must be a container image")],
    "engine.args": [("--x", 'must be a list, not "--x"'), (["x"] * 65, "must have at most 64 items, not 65")],
    "roles[0].name": [("Prefill", 'must be Serve, not "Prefill"')],
    "roles[0].accelerators": [
        ([{"class": "a"}, {"class": "a"}], "more than one item has class a"),
        ([{"class": "a"}, {"class": "b"}], "must have at most 1 items"),
    ],
    "roles[0].template.podSpec": [({}, "unknown field; known are metadata, spec")],
    "objectives.ttft.percentile": [
        (0, "must be at least 1"),
        (100, "must be at most 99"),
        (95.5, "must be an integer"),
    ],
    "objectives.ttft.target": [
        ("fast", "such as 500ms"),
        (500, "must be a string"),
        ("0ms", "between 1ms and 10m"),
        ("11m", "between 1ms and 10m"),
    ],
    "objectives.interToken.percentile": [(True, "must be an integer, not true")],
    "scaling.replicas": [
        ("3", 'must be an integer, not "3"'),
        (-1, "must be at least 0"),
        (1001, "must be at most 1000"),
    ],
    "resilience.onDrain": [("Kill", "must be Migrate or Finish")],
    "resilience.drainTimeout": [("25h", "between 0s and 24h")],
    "resilience.replay": [(False, "must be Seamless, Exact or Disabled, not false")],
}


@pytest.mark.parametrize(
    ("path", "value", "message"), [(path, value, message) for path, cases in WRONG.items() for value, message in cases]
)
def test_a_wrong_field_is_named_with_what_to_write_instead(path: str, value: object, message: str) -> None:
    found = errors(llm_service(spec_with(path, value)))
    assert [error.path for error in found] == [f"spec.{path}"]
    assert message in found[0].message
    assert found[0].reason is Accepted.INVALID_SPEC


@pytest.mark.parametrize("name", ["Chat", "1chat", "my.chat", "x" * 41, "chat-", ""])
def test_a_name_that_makes_no_service_name_is_refused(name: str) -> None:
    (error,) = errors(llm_service(name=name))
    assert error.path == "metadata.name"
    assert "at most 40 characters" in error.message


def test_every_error_is_reported_at_once() -> None:
    spec = {
        "model": {"uri": "file:///srv/models/tiny"},
        "enginee": {},
        "scaling": {"replicas": -1},
        "roles": [{"name": "Serve", "accelerators": [{"class": "b200"}]}],
        "objectives": {"ttft": {"target": "2ms"}, "interToken": {"target": "soon"}},
    }
    found = errors(llm_service(spec, name="Bad"), accelerator_classes={"h100"}, step_floor_seconds=0.0123)
    assert {(error.path, error.reason.value) for error in found} == {
        ("metadata.name", "InvalidSpec"),
        ("spec.enginee", "InvalidSpec"),
        ("spec.model.uri", "ModelSourceNotAllowed"),
        ("spec.scaling.replicas", "InvalidSpec"),
        ("spec.objectives.interToken.target", "InvalidSpec"),
        ("spec.objectives.ttft.target", "ObjectiveImpossible"),
        ("spec.roles[0].accelerators[0].class", "AcceleratorClassNotFound"),
    }


@pytest.mark.parametrize(
    ("uri", "prefixes", "allowed"),
    [
        ("file:///srv/models/tiny", [], False),
        ("file:///srv/models/tiny", ["/srv/models"], True),
        ("file:///srv/models/tiny", ["/srv/models/"], True),
        ("file:///srv/models", ["/srv/models"], True),
        ("file:///srv/models-secret/x", ["/srv/models"], False),
        ("file:///etc", ["/srv/models", "/data"], False),
        ("file:///anything", ["/"], True),
        ("hf://org/name", [], True),
    ],
)
def test_file_models_come_only_from_allowed_directories(uri: str, prefixes: list[str], allowed: bool) -> None:
    found = errors(llm_service({"model": {"uri": uri}}), allowed_file_prefixes=prefixes)
    assert [error.reason for error in found] == ([] if allowed else [Accepted.MODEL_SOURCE_NOT_ALLOWED])


def test_a_refused_objective_comes_with_the_nearest_one_that_can_be_met() -> None:
    manifest = llm_service({"model": {"uri": "hf://a/b"}, "objectives": {"interToken": {"target": "12ms"}}})
    assert errors(manifest, step_floor_seconds=0.0123) == [
        FieldError(
            "spec.objectives.interToken.target",
            "12ms is below one measured step of the engine; the nearest that can be met is 13ms",
            Accepted.OBJECTIVE_IMPOSSIBLE,
        )
    ]


@given(st.integers(1, 999).map(lambda ms: ms / 1000), st.integers(1, 999))
def test_the_nearest_objective_is_always_accepted(floor: float, target: int) -> None:
    def refused(milliseconds: str) -> list[FieldError]:
        spec = {"model": {"uri": "hf://a/b"}, "objectives": {"ttft": {"target": milliseconds}}}
        return errors(llm_service(spec), step_floor_seconds=floor)

    for error in refused(f"{target}ms"):
        assert refused(error.message.rsplit(" ", 1)[1]) == []


@pytest.mark.parametrize("value", [None, 7, "x", [], {}, {"spec": []}, {"spec": {"roles": {}, "objectives": []}}])
def test_nonsense_is_refused_without_a_traceback(value: Any) -> None:
    assert errors(value, accelerator_classes=set(), step_floor_seconds=1.0)


def test_an_accelerator_class_names_an_extended_resource() -> None:
    manifest = {"apiVersion": "coxswain.dev/v1alpha1", "kind": "AcceleratorClass", "metadata": {"name": "h100"}}
    good = manifest | {"spec": {"resourceName": "nvidia.com/gpu", "nodeSelector": {"gpu": "h100"}}}
    assert accelerator_class_errors(good) == []
    (error,) = accelerator_class_errors(manifest | {"spec": {"resourceName": "gpu"}})
    assert error.path == "spec.resourceName"
    assert "such as nvidia.com/gpu" in error.message
