"""How long a Pod waits for a node before somebody makes room."""

from __future__ import annotations

from coxswain_operator.reconciling.homeless import PATIENCE_SECONDS, Homeless


def test_patience_counts_from_when_a_pod_was_first_seen_without_a_node() -> None:
    homeless = Homeless()
    homeless.observe(["a"], now=100.0)
    homeless.observe(["a", "b"], now=130.0)
    assert homeless.for_good(now=100.0 + PATIENCE_SECONDS) == {"a"}
    assert homeless.waits(now=100.0 + PATIENCE_SECONDS) == [30.0]


def test_a_pod_that_found_a_node_starts_anew() -> None:
    homeless = Homeless()
    homeless.observe(["a"], now=0.0)
    homeless.observe([], now=10.0)
    homeless.observe(["a"], now=20.0)
    assert homeless.for_good(now=PATIENCE_SECONDS) == frozenset()
