"""The plan: replacing, rolling out and scaling replicas."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from coxswain_operator.judging.plan import SURGE, Cause, Creation, Deletion, Fate, Plan, Replica, plan


def serving(slot: int, incarnation: int = 1, *, current: bool = True) -> Replica:
    return Replica(f"m-serve-{slot}-{incarnation}", slot, incarnation, current, serving=True, settled=True)


def starting(slot: int, incarnation: int = 1, *, current: bool = True) -> Replica:
    return Replica(f"m-serve-{slot}-{incarnation}", slot, incarnation, current)


def dead(slot: int, fate: Fate, incarnation: int = 1, *, current: bool = True) -> Replica:
    return Replica(f"m-serve-{slot}-{incarnation}", slot, incarnation, current, fate=fate)


def names(deletions: tuple[Deletion, ...]) -> set[str]:
    return {deletion.name for deletion in deletions}


def test_a_new_service_gets_its_replicas_in_the_lowest_slots() -> None:
    assert plan([], wanted=3) == Plan(create=(Creation(0, 1), Creation(1, 1), Creation(2, 1)))


def test_nothing_is_done_when_everything_is_as_wanted() -> None:
    assert plan([serving(0), serving(1)], wanted=2) == Plan()


def test_starting_replicas_are_waited_for() -> None:
    assert plan([starting(0), starting(1)], wanted=2) == Plan()


def test_a_lost_replica_is_replaced_at_once_and_kept_until_the_replacement_serves() -> None:
    lost = dead(0, Fate.LOST)
    assert plan([lost, serving(1)], wanted=2) == Plan(create=(Creation(0, 2, Fate.LOST),))
    assert plan([lost, starting(0, 2), serving(1)], wanted=2) == Plan()
    assert plan([lost, serving(0, 2), serving(1)], wanted=2) == Plan(delete=(Deletion(lost.name, Cause.LOST),))


def test_a_leaving_replica_is_replaced_without_waiting_for_its_end() -> None:
    assert plan([dead(1, Fate.LEAVING), serving(0)], wanted=2).create == (Creation(1, 2, Fate.LEAVING),)


def test_a_failed_replica_is_deleted_and_replaced_when_its_pause_is_over() -> None:
    failed = dead(0, Fate.FAILED)
    assert plan([failed], wanted=1, held=[0]) == Plan(delete=(Deletion(failed.name, Cause.FAILED),))
    assert plan([failed], wanted=1).create == (Creation(0, 2, Fate.FAILED),)


def test_a_replica_whose_node_came_back_stays_and_its_unfinished_replacement_goes() -> None:
    todo = plan([serving(0, 1), starting(0, 2)], wanted=1)
    assert todo == Plan(delete=(Deletion("m-serve-0-2", Cause.SURPLUS),))


def test_when_both_serve_one_of_them_goes() -> None:
    todo = plan([serving(0, 1), serving(0, 2)], wanted=1)
    assert todo == Plan(delete=(Deletion("m-serve-0-1", Cause.SURPLUS),))


def test_a_changed_spec_rolls_out_one_slot_at_a_time() -> None:
    old = [serving(slot, current=False) for slot in range(3)]
    first = plan(old, wanted=3)
    assert len(first.create) == SURGE
    assert not first.delete
    slot = first.create[0].slot
    assert plan([*old, starting(slot, 2)], wanted=3) == Plan()
    after = plan([*old, serving(slot, 2)], wanted=3)
    assert names(after.delete) == {f"m-serve-{slot}-1"}
    assert len(after.create) == SURGE


def test_where_no_node_has_room_for_a_successor_one_old_replica_at_a_time_makes_room() -> None:
    old = [serving(slot, current=False) for slot in range(3)]
    stuck = replace(starting(1, 2), homeless=True)
    assert plan([*old, stuck], wanted=3) == Plan(delete=(Deletion("m-serve-1-1", Cause.ROLL_OUT),))
    leaving = dead(1, Fate.LEAVING, current=False)
    assert plan([old[0], leaving, old[2], stuck], wanted=3) == Plan(), "two serve: the third must come first"
    assert len(plan([old[0], old[2], serving(1, 2)], wanted=3).create) == SURGE


def test_the_only_replica_makes_no_room_for_its_successor() -> None:
    assert plan([serving(0, current=False), replace(starting(0, 2), homeless=True)], wanted=1) == Plan()


def test_an_old_replica_that_serves_nobody_makes_room_at_once() -> None:
    todo = plan([starting(0, current=False), starting(1, current=False)], wanted=2)
    assert names(todo.delete) == {"m-serve-0-1", "m-serve-1-1"}
    assert {creation.slot for creation in todo.create} == {0, 1}


def test_a_spec_that_is_changed_back_keeps_what_still_serves() -> None:
    todo = plan([serving(0, 1), starting(0, 2, current=False)], wanted=1)
    assert todo == Plan(delete=(Deletion("m-serve-0-2", Cause.ROLL_OUT),))


def test_scaling_down_takes_who_serves_nobody_then_the_departure_order() -> None:
    pods = [serving(0), serving(1), serving(2), starting(3)]
    assert names(plan(pods, wanted=3).delete) == {"m-serve-3-1"}
    departures = ["m-serve-0-1", "m-serve-2-1", "m-serve-1-1"]
    assert names(plan(pods, wanted=1, departures=departures).delete) == {"m-serve-3-1", "m-serve-0-1", "m-serve-2-1"}


def test_scaling_to_zero_deletes_everything_lost_ones_included() -> None:
    todo = plan([serving(0), dead(1, Fate.LOST), dead(2, Fate.LEAVING)], wanted=0)
    assert names(todo.delete) == {"m-serve-0-1", "m-serve-1-1"}
    assert not todo.create


def test_a_name_does_not_come_twice() -> None:
    assert plan([], wanted=1, used={0: 7}).create == (Creation(0, 8),)


# For all clusters, whatever happened to them

fates = st.sampled_from([Fate.LIVE] * 4 + list(Fate))


@st.composite
def replicas(draw: st.DrawFn) -> list[Replica]:
    found = []
    for slot in range(draw(st.integers(0, 5))):
        for incarnation in range(1, 1 + draw(st.integers(0, 3))):
            fate = draw(fates)
            settled = fate is Fate.LIVE and draw(st.booleans())
            heard = settled or (fate is Fate.LIVE and draw(st.booleans()))
            found.append(
                Replica(f"m-serve-{slot}-{incarnation}", slot, incarnation, draw(st.booleans()), fate, heard, settled)
            )
    return found


def carried_out(before: list[Replica], todo: Plan) -> list[Replica]:
    gone = names(todo.delete)
    kept = [replace(r, fate=Fate.LEAVING, serving=False, settled=False) if r.name in gone else r for r in before]
    return kept + [starting(creation.slot, creation.incarnation) for creation in todo.create]


def live(pods: list[Replica]) -> list[Replica]:
    return [r for r in pods if r.fate is Fate.LIVE]


@given(replicas(), st.integers(0, 6))
def test_no_slot_ever_has_more_than_one_live_pod_and_a_successor(pods: list[Replica], wanted: int) -> None:
    after = live(carried_out(pods, plan(pods, wanted=wanted)))
    for slot, count in Counter(r.slot for r in after).items():
        assert count <= 2, slot
        assert sum(r.current for r in after if r.slot == slot) <= 1
    successors = [r for r in after if r.current and any(o.slot == r.slot and not o.current for o in after)]
    before = {r.name for r in pods}
    assert sum(r.name not in before for r in successors) <= SURGE
    assert len({r.slot for r in after}) <= wanted


@given(replicas(), st.integers(0, 6))
def test_pods_are_never_more_than_wanted_and_the_surge_once_a_plan_made_any(pods: list[Replica], wanted: int) -> None:
    todo = plan(pods, wanted=wanted)
    if any(creation.replaces is None for creation in todo.create) and not live(pods):
        assert len(live(carried_out(pods, todo))) <= wanted + SURGE


@given(replicas(), st.integers(0, 6))
def test_a_live_replica_of_the_current_spec_that_serves_is_deleted_only_when_another_holds_its_slot_or_scaling_down(
    pods: list[Replica], wanted: int
) -> None:
    todo = plan(pods, wanted=wanted)
    for deletion in todo.delete:
        victim = next(r for r in pods if r.name == deletion.name)
        if victim.current and victim.serving and victim.fate is Fate.LIVE:
            others = [r for r in pods if r.slot == victim.slot and r.serving and r.name != victim.name]
            assert others or len({r.slot for r in live(pods)}) > wanted


@given(replicas(), st.integers(0, 6))
def test_a_plan_never_leaves_fewer_serving_than_wanted_if_there_were_enough(pods: list[Replica], wanted: int) -> None:
    slots_before = {r.slot for r in live(pods) if r.serving}
    slots_after = {r.slot for r in live(carried_out(pods, plan(pods, wanted=wanted))) if r.serving}
    assert len(slots_after) >= min(len(slots_before), wanted)


@given(replicas(), st.integers(0, 6), st.data())
def test_making_room_costs_one_replica_at_most_and_only_when_all_serve(
    pods: list[Replica], wanted: int, data: st.DataObject
) -> None:
    pods = [replace(r, homeless=not r.serving and r.fate is Fate.LIVE and data.draw(st.booleans())) for r in pods]
    before = {r.slot for r in live(pods) if r.serving}
    after = {r.slot for r in live(carried_out(pods, plan(pods, wanted=wanted))) if r.serving}
    assert len(after) >= min(len(before), wanted) - (1 if len(before) >= max(2, wanted) else 0)


@given(replicas(), st.integers(0, 6))
def test_every_cluster_comes_to_rest_with_exactly_what_is_wanted(pods: list[Replica], wanted: int) -> None:
    """Between passes, new Pods become ready, leaving ones end, and lost ones stay lost."""
    for _ in range(30):
        before = pods
        pods = [r for r in carried_out(pods, plan(pods, wanted=wanted)) if r.fate is not Fate.LEAVING]
        pods = [replace(r, serving=True, settled=True) if r.fate is Fate.LIVE else r for r in pods]
        if pods == before:
            break
    else:
        raise AssertionError(f"no rest after 30 passes: {pods}")
    assert len(pods) == wanted
    assert all(r.current and r.settled for r in pods)
    assert len({r.slot for r in pods}) == wanted


@given(replicas(), st.integers(0, 6))
def test_a_plan_carried_out_is_not_made_again(pods: list[Replica], wanted: int) -> None:
    after = carried_out(pods, plan(pods, wanted=wanted))
    again = plan(after, wanted=wanted)
    assert not {creation.slot for creation in again.create} & {r.slot for r in live(after) if r.current}
