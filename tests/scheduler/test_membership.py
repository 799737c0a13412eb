from hypothesis import given
from hypothesis import strategies as st

from coxswain_protocol.messages import Load
from coxswain_protocol.status import GatewayStatus, MemberState, MemberStatus
from coxswain_scheduler.membership import departure_order, merge


def member(
    replica: str,
    state: MemberState = "Ready",
    *,
    incarnation: str = "a",
    beat_age: float = 0.1,
    streams: int = 0,
    token_age: float | None = None,
    load: Load | None = None,
) -> MemberStatus:
    return MemberStatus(
        replica=replica,
        incarnation=incarnation,
        state=state,
        beat_age=beat_age,
        weights_digest="w",
        accelerator="cpu",
        exact=True,
        step_floor_seconds=0.01,
        streams=streams,
        token_age=token_age,
        load=load or Load(),
    )


def gateway(*members: MemberStatus, name: str = "g") -> GatewayStatus:
    return GatewayStatus(gateway=name, members=members)


def test_lost_needs_every_gateway() -> None:
    cut_off = gateway(member("r0", "Lost", beat_age=9))
    assert merge([cut_off, gateway(member("r0"))])[0].state == "Ready"
    assert merge([cut_off, cut_off])[0].state == "Lost"


def test_a_gateway_that_never_met_the_replica_has_no_opinion() -> None:
    assert merge([gateway(member("r0", "Lost")), gateway()])[0].state == "Lost"
    assert merge([gateway(), gateway(member("r0"))])[0].state == "Ready"


def test_one_gateway_that_heard_it_leave_is_enough() -> None:
    assert merge([gateway(member("r0", "Draining")), gateway(member("r0"))])[0].state == "Draining"


def test_streams_add_up_and_ages_are_the_youngest() -> None:
    merged = merge(
        [
            gateway(member("r0", streams=3, token_age=None, beat_age=0.3, load=Load(running=1))),
            gateway(member("r0", streams=4, token_age=2.5, beat_age=0.1, load=Load(running=7))),
        ]
    )[0]
    assert (merged.streams, merged.token_age, merged.beat_age, merged.load.running) == (7, 2.5, 0.1, 7)


def test_the_newer_incarnation_replaces_the_older() -> None:
    old, new = member("r0", "Lost", incarnation="old", beat_age=4, streams=9), member("r0", incarnation="new")
    merged = merge([gateway(old, new), gateway(old)])
    assert [(m.incarnation, m.state, m.streams) for m in merged] == [("new", "Ready", 0)]


def test_departure_takes_the_one_with_least_to_move_first() -> None:
    members = [
        member("r0", streams=2),
        member("r1", "Lost", streams=9),
        member("r2", "Draining", streams=9),
        member("r3", streams=2, load=Load(context=500)),
        member("r4", streams=0),
    ]
    assert departure_order(members) == ("r1", "r2", "r4", "r0", "r3")


members_strategy = st.builds(
    member,
    st.sampled_from(["r0", "r1", "r2"]),
    st.sampled_from(["Ready", "Draining", "Lost"]),
    incarnation=st.sampled_from(["a", "b"]),
    beat_age=st.floats(0, 10),
    streams=st.integers(0, 5),
    token_age=st.none() | st.floats(0, 10),
)


@given(st.lists(st.lists(members_strategy, max_size=4), max_size=4))
def test_merging_lists_every_replica_once_and_never_loses_a_live_one(views: list[list[MemberStatus]]) -> None:
    merged = merge([gateway(*members) for members in views])
    seen = [member for members in views for member in members]
    assert [m.replica for m in merged] == sorted({m.replica for m in seen})
    for m in merged:
        alive = any(v.state != "Lost" for v in seen if v.replica == m.replica)
        assert (m.state == "Lost") == (not alive)
    assert sorted(departure_order(merged)) == [m.replica for m in merged]
