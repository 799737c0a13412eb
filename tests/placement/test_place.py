import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_scheduler.placement.placement import InfeasibleError, Placement, UnservedError, place
from coxswain_scheduler.placement.problem import Present, Problem
from coxswain_scheduler.placement.reasons import reasons
from tests.placement.cases import kind, sizes, small_and_large

rates = st.lists(st.floats(0.1, 20), min_size=3, max_size=3)
throughputs = st.lists(st.floats(0.5, 10), min_size=3, max_size=3)
prices = st.lists(st.floats(0.5, 8), min_size=2, max_size=2)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    first, second = draw(prices)
    kinds = (kind("small", first, *draw(throughputs)), kind("large", second, *draw(throughputs)))
    return Problem(buckets=sizes(*draw(rates)), kinds=kinds, slice_factor=draw(st.integers(1, 2)))


def cheapest_of_all(problem: Problem) -> float:
    """By trying every way to give each part to a kind."""
    parts = [b for b in range(len(problem.buckets)) for _ in range(problem.slice_factor or 1)]
    loads = problem.loads / (problem.slice_factor or 1)

    def cost(choice: tuple[int, ...]) -> float:
        used = [sum(loads[e, b] for b, chosen in zip(parts, choice, strict=True) if chosen == e) for e in (0, 1)]
        return float(sum(problem.kinds[e].price * math.ceil(used[e] - 1e-7) for e in (0, 1)))

    return min(cost(choice) for choice in product((0, 1), repeat=len(parts)))


def check(placement: Placement) -> None:
    assert (placement.used <= placement.counts + 2e-6).all()
    assert placement.shares.sum(axis=0) == pytest.approx(np.ones(placement.shares.shape[1]))


@settings(deadline=None, max_examples=60)
@given(problems())
def test_in_parts_no_choice_of_kinds_is_cheaper(problem: Problem) -> None:
    placement = place(problem)
    check(placement)
    assert placement.cost == pytest.approx(cheapest_of_all(problem))


@settings(deadline=None, max_examples=60)
@given(problems())
def test_any_shares_cost_no_more_than_parts_and_no_less_than_the_bound(problem: Problem) -> None:
    placement = place(replace(problem, slice_factor=None))
    check(placement)
    assert problem.bound() - 1e-6 <= placement.cost <= place(problem).cost + 1e-6


def test_a_mix_is_cheaper_than_either_kind_alone() -> None:
    placement = place(small_and_large())
    assert placement.mix == {"small": 1, "large": 1}
    assert placement.cost == 5.0
    assert placement.bound == pytest.approx(1.0 + 4.0)


def test_buckets_without_requests_need_nobody_to_serve_them() -> None:
    problem = Problem(buckets=sizes(4.0, 0.0), kinds=(kind("small", 1.0, 5.0, 0.0),))
    assert place(problem).mix == {"small": 1}


def test_prefill_and_decode_may_go_to_different_kinds() -> None:
    kinds = (
        kind("fast", 4.0, 10.0),
        kind("fast", 4.0, 40.0, role="Prefill"),
        kind("wide", 1.0, 10.0, role="Decode"),
        kind("fast", 8.0, 18.0, tensor_parallel=2),
    )
    placement = place(Problem(buckets=sizes(40.0), kinds=kinds))
    assert placement.mix == {"fast Prefill": 1, "wide Decode": 4}
    assert placement.cost == placement.bound == 8.0


def test_stock_counts_accelerators_over_roles_and_parallelism() -> None:
    kinds = (kind("gpu", 1.0, 1.0), kind("gpu", 1.9, 3.0, tensor_parallel=2), kind("other", 9.0, 1.0))
    problem = Problem(buckets=sizes(7.0), kinds=kinds, stock={"gpu": 5})
    assert place(problem).mix == {"gpu": 1, "gpu ×2": 2}
    assert place(replace(problem, stock={"gpu": 4})).mix == {"gpu ×2": 2, "other": 1}


def test_what_no_kind_serves_is_named() -> None:
    problem = Problem(buckets=sizes(1.0, 3.0), kinds=(kind("small", 1.0, 5.0, 0.0),))
    with pytest.raises(UnservedError, match=r"200 in × 100 out \(75.00% of all\)"):
        place(problem)


def test_a_stock_too_small_names_the_rate_that_it_carries() -> None:
    with pytest.raises(InfeasibleError, match=r"stock \(1 large \+ 1 small\) cannot carry 40 .* is 10 requests/s"):
        place(small_and_large(rate=40.0, stock={"small": 1, "large": 1}))


def test_a_budget_too_small_names_what_it_takes_and_what_it_buys() -> None:
    with pytest.raises(
        InfeasibleError, match=r"budget of 9 .* takes 10; .* is 16.6667 requests/s, with 1 small \+ 2 large at 9"
    ):
        place(small_and_large(rate=20.0, budget=9.0))


@pytest.mark.parametrize(
    ("engines", "changes", "mix"),
    [
        ({"small": 1, "large": 1}, {}, {"small": 1, "large": 1}),
        ({"large": 2}, {"start": 10.0, "stop": 10.0}, {"large": 2}),
        ({"large": 2}, {"start": 10.0, "stop": 10.0, "hours": 100.0}, {"small": 1, "large": 1}),
        ({"large": 2}, {"tolerance": 0.6}, {"large": 2}),
        ({"large": 2}, {"tolerance": 0.5}, {"small": 1, "large": 1}),
    ],
)
def test_a_present_mix_stays_where_changes_do_not_pay(
    engines: dict[str, int], changes: dict[str, float], mix: dict[str, int]
) -> None:
    assert place(small_and_large(present=Present(engines=engines, **changes))).mix == mix


def test_a_present_mix_that_is_too_small_grows() -> None:
    present = Present(engines={"small": 1, "large": 1}, start=1.0, stop=1.0, tolerance=0.1)
    placement = place(small_and_large(rate=20.0, present=present))
    assert placement.mix == {"small": 2, "large": 2}
    check(placement)


def test_changing_a_role_is_free() -> None:
    kinds = (kind("gpu", 4.0, 1.0), kind("gpu", 4.0, 10.0, role="Prefill"), kind("gpu", 4.0, 10.0, role="Decode"))
    present = Present(engines={"gpu": 2}, start=100.0, stop=100.0)
    assert place(Problem(buckets=sizes(10.0), kinds=kinds, present=present)).mix == {"gpu Prefill": 1, "gpu Decode": 1}


def test_each_line_says_who_serves_what_and_why_nothing_cheaper_does() -> None:
    lines = reasons(place(small_and_large(present=Present(engines={"large": 2}))))
    whole = "1 small + 1 large for 5 per hour: no cheaper mix carries more than 66.67% of the rate (1 large at 4)"
    assert lines[0] == whole
    assert lines[1].startswith("1 small at 1: ")
    assert "start 1 small: 0 run now" in lines
    assert "stop 1 large: 2 run now" in lines


def test_a_kind_that_is_left_out_says_what_it_would_cost() -> None:
    problem = Problem(
        buckets=sizes(10.0), kinds=(kind("good", 1.0, 10.0), kind("dear", 3.0, 10.0), kind("no", 1.0, 0.0))
    )
    lines = reasons(place(problem))
    assert "no dear: per request it costs 3.00 times the least at best (100 in × 100 out)" in lines
    assert "no no: it serves no size of request as asked" in lines


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kinds": ()}, "at least one bucket"),
        ({"kinds": (kind("a", 1.0, 1.0),)}, "a has 1 throughputs for 2 buckets"),
        ({"kinds": (kind("a", 0.0, 1.0, 1.0),)}, "a has a price of 0 per hour; it must be above 0"),
        ({"kinds": (kind("a", 1.0, 1.0, -1.0),)}, "a: a throughput must be"),
        ({"kinds": (kind("a", 1.0, 1.0, 1.0), kind("a", 2.0, 1.0, 1.0))}, "two kinds of engine"),
        ({"kinds": (kind("a", 1.0, 1.0, 1.0, role="Prefill"),), "slice_factor": 2}, "slice_factor"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(small_and_large(), **fields)  # type: ignore[arg-type]
