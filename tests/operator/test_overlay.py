"""Laying a patch over a PodSpec."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from coxswain_operator.desired.overlay import overlay


def test_objects_are_merged_and_null_removes() -> None:
    assert overlay({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": None, "e": 4}}) == {"a": {"c": 2, "e": 4}, "d": 3}


def test_named_lists_are_merged_by_name_and_an_item_can_be_deleted() -> None:
    base = {"volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "shm", "emptyDir": {}}]}
    patch = {"volumes": [{"name": "shm", "$patch": "delete"}, {"name": "data", "emptyDir": {}}]}
    assert overlay(base, patch) == {"volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "data", "emptyDir": {}}]}


def test_mounts_are_told_apart_by_their_path() -> None:
    base = {"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}
    patch = {"volumeMounts": [{"name": "fast", "mountPath": "/tmp"}]}
    assert overlay(base, patch)["volumeMounts"] == [{"name": "fast", "mountPath": "/tmp"}]


def test_other_lists_are_replaced() -> None:
    assert overlay({"args": ["a", "b"]}, {"args": ["c"]}) == {"args": ["c"]}


def _name(item: dict[str, Any]) -> str:
    return str(item["name"])


values = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: (
        st.dictionaries(st.sampled_from(["a", "containers", "env", "tolerations"]), inner, max_size=3)
        | st.lists(st.fixed_dictionaries({"name": st.sampled_from("xyz"), "v": inner}), max_size=3, unique_by=_name)
    ),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(["a", "containers", "env", "tolerations", "spec"]), values, max_size=4)


@given(objects, objects)
def test_laying_a_patch_over_twice_is_the_same_as_once(base: dict[str, Any], patch: dict[str, Any]) -> None:
    once = overlay(base, patch)
    assert overlay(once, patch) == once


@given(objects)
def test_an_empty_patch_changes_nothing(base: dict[str, Any]) -> None:
    assert overlay(base, {}) == base
