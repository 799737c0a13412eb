"""Which replicas are lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coxswain_operator.judging.loss import GRACE_SECONDS, NodeWatch, is_lost, undecided
from coxswain_operator.observing.view import Hearing


def watch(*, now: float = 0.0, **ready: bool) -> NodeWatch:
    nodes = NodeWatch()
    nodes.observe(ready, now=now)
    return nodes


def test_a_replica_on_a_node_that_is_up_is_not_lost() -> None:
    assert not is_lost(node="a", hearing=Hearing.SILENT, nodes=watch(a=True), now=1000.0)


def test_silence_on_a_node_that_is_down_is_a_loss_at_once() -> None:
    nodes = watch(a=False, b=True)
    assert is_lost(node="a", hearing=Hearing.SILENT, nodes=nodes, now=0.0)


def test_a_node_that_is_gone_is_down() -> None:
    assert is_lost(node="gone", hearing=Hearing.SILENT, nodes=watch(b=True), now=0.0)


def test_what_no_gateway_can_speak_for_is_given_time() -> None:
    nodes = watch(a=False, b=True)
    assert not is_lost(node="a", hearing=Hearing.UNKNOWN, nodes=nodes, now=GRACE_SECONDS - 1)
    assert undecided(node="a", hearing=Hearing.UNKNOWN, nodes=nodes, now=GRACE_SECONDS - 1)
    assert is_lost(node="a", hearing=Hearing.UNKNOWN, nodes=nodes, now=GRACE_SECONDS)


def test_the_time_starts_anew_when_a_node_was_back_in_between() -> None:
    """After an API server's outage nodes are NotReady for as long as their leases are stale."""
    nodes = watch(a=False, b=True)
    nodes.observe({"a": True, "b": True}, now=20.0)
    nodes.observe({"a": False, "b": True}, now=25.0)
    assert not is_lost(node="a", hearing=Hearing.UNKNOWN, nodes=nodes, now=GRACE_SECONDS + 1)


def test_when_all_nodes_are_down_nothing_is_lost() -> None:
    nodes = watch(a=False, b=False)
    assert not is_lost(node="a", hearing=Hearing.SILENT, nodes=nodes, now=1e6)


def test_a_pod_without_a_node_is_not_lost() -> None:
    assert not is_lost(node="", hearing=Hearing.UNKNOWN, nodes=watch(b=True), now=1e6)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.booleans()), st.sampled_from("abcdx"), st.floats(0, 1e6), st.booleans()
)
def test_what_beats_is_never_lost(ready: dict[str, bool], node: str, now: float, again: bool) -> None:
    nodes = watch(**ready)
    if again:
        nodes.observe(ready, now=now)
    assert not is_lost(node=node, hearing=Hearing.BEATING, nodes=nodes, now=now)
