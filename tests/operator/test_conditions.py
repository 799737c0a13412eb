"""The conditions of a service, judged from one moment's situation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_crds import reasons
from coxswain_crds.llm_service import Objective, Objectives
from coxswain_crds.validation import FieldError
from coxswain_operator.cluster import records
from coxswain_operator.cluster.failures import Failure
from coxswain_operator.cluster.records import PodRecord
from coxswain_operator.judging.conditions import judge
from coxswain_operator.judging.plan import Fate
from coxswain_operator.judging.situation import Situation, Standing
from coxswain_operator.observing.measured import Latencies
from coxswain_operator.observing.view import UNKNOWN, Member, View

NOW = 1_700_000_000.0


def pod(slot: int, failure: Failure | None = None) -> PodRecord:
    name = f"chat-serve-{slot}-1"
    labels = {"coxswain.dev/service": "chat", "coxswain.dev/slot": str(slot), "coxswain.dev/incarnation": "1"}
    found = records.pod({"metadata": {"namespace": "team", "name": name, "labels": labels}})
    return msgspec.structs.replace(found, failure=failure)


def standing(slot: int, fate: Fate = Fate.LIVE, *, current: bool = True, ready: bool = True) -> Standing:
    return Standing(pod(slot), fate, current, ready)


def view(**members: Member) -> View:
    named = {f"chat-serve-{key.removeprefix('s')}-1": member for key, member in members.items()}
    return View(answered=True, coordinator=True, members=named)


SERVING = Member("Ready", token_lately=True)
HEALTHY = Situation(
    generation=3,
    acting_generation=3,
    errors=[],
    wanted=2,
    objectives=Objectives(),
    standings=[standing(0), standing(1)],
    gateways_wanted=2,
    gateways_ready=2,
    coordinator_ready=True,
    view=view(s0=SERVING, s1=SERVING),
    all_nodes_down=False,
    refusal=None,
)


def judged(situation: Situation) -> dict[str, Any]:
    return {condition["type"]: condition for condition in judge(situation, now=NOW)}


def states(situation: Situation) -> dict[str, str]:
    return {name: f"{c['status']}/{c['reason']}" for name, c in judged(situation).items()}


def test_a_healthy_service() -> None:
    assert states(HEALTHY) == {
        "Accepted": "True/Valid",
        "Degraded": "False/Healthy",
        "Draining": "False/NoneDraining",
        "ObjectivesMet": "True/NoObjectives",
        "Progressing": "False/Complete",
        "Ready": "True/Serving",
        "RouterReady": "True/AllReady",
        "WorkloadsReady": "True/AllReady",
    }


def test_a_condition_that_stays_keeps_its_time_and_one_that_turns_gets_another() -> None:
    before = judged(HEALTHY)
    later = replace(HEALTHY, previous=before, gateways_ready=0)
    after = {condition["type"]: condition for condition in judge(later, now=NOW + 60)}
    assert after["Accepted"] == before["Accepted"]
    assert after["Ready"]["lastTransitionTime"] != before["Ready"]["lastTransitionTime"]


def test_one_gateway_is_enough_to_serve() -> None:
    found = states(replace(HEALTHY, gateways_ready=1, previous=judged(HEALTHY)))
    assert found["RouterReady"] == "True/SomeReady"
    assert found["Ready"] == "True/Serving"
    assert found["Degraded"] == "True/GatewaysLost"


def test_losing_the_coordinator_degrades_and_no_more() -> None:
    found = states(replace(HEALTHY, coordinator_ready=False, previous=judged(HEALTHY)))
    assert found["Degraded"] == "True/CoordinatorLost"
    assert found["Ready"] == "True/Serving"


def test_a_token_of_an_earlier_spec_does_not_count() -> None:
    standings = [standing(0, current=False), standing(1, ready=False)]
    found = states(replace(HEALTHY, standings=standings))
    assert found["Ready"] == "False/ReplicasStarting"
    assert found["Progressing"] == "True/RollingOut"


def test_a_failed_canary_is_what_keeps_it_from_ready() -> None:
    unused = Member("Ready")
    silent = replace(HEALTHY, view=replace(view(s0=unused, s1=unused), canary_error="out of memory"))
    assert judged(silent)["Ready"]["message"] == "out of memory"
    assert states(silent)["Ready"] == "False/CanaryFailed"
    assert states(replace(silent, view=view(s0=unused, s1=unused)))["Ready"] == "False/NoTokenLately"


def test_when_nobody_answers_nothing_is_claimed() -> None:
    found = states(replace(HEALTHY, view=UNKNOWN))
    assert found["Ready"] == "Unknown/StatusUnreachable"
    assert found["WorkloadsReady"] == "Unknown/StatusUnreachable"


def test_before_the_first_answer_what_was_said_stands() -> None:
    before = judged(HEALTHY)
    restarted = replace(HEALTHY, view=None, previous=before)
    assert judged(restarted)["Ready"] == before["Ready"]


def test_a_refused_spec_says_each_error_on_its_line_and_serves_on_under_its_old_generation() -> None:
    errors = [FieldError("spec.a", "is wrong"), FieldError("spec.b", "is worse")]
    found = judged(replace(HEALTHY, generation=4, errors=errors))
    assert found["Accepted"]["status"] == "False"
    assert found["Accepted"]["message"] == "spec.a: is wrong\nspec.b: is worse"
    assert found["Accepted"]["observedGeneration"] == 4
    assert (found["Ready"]["status"], found["Ready"]["observedGeneration"]) == ("True", 3)


def test_a_replica_that_cannot_start_is_the_reason_everywhere() -> None:
    failure = Failure("WeightsCorrupt", "is truncated", "spec.model.uri")
    broken = Standing(pod(0, failure), Fate.LIVE, True, False)
    found = judged(replace(HEALTHY, wanted=1, standings=[broken]))
    for condition in ("Ready", "WorkloadsReady", "Degraded"):
        assert found[condition]["reason"] == "WeightsCorrupt"
        assert "spec.model.uri: is truncated" in found[condition]["message"]


def test_objectives() -> None:
    objective = Objective.model_validate({"percentile": 95, "target": "100ms"})
    wanted = replace(HEALTHY, objectives=Objectives(ttft=objective))
    assert states(wanted)["ObjectivesMet"] == "Unknown/NoTraffic"
    assert HEALTHY.view is not None
    fast = replace(HEALTHY.view, ttft=Latencies(0.01, 2.0, {0: 100}))
    slow = replace(HEALTHY.view, ttft=Latencies(0.01, 2.0, {0: 90, 6: 10}))
    assert states(replace(wanted, view=fast))["ObjectivesMet"] == "True/Met"
    assert states(replace(wanted, view=slow))["ObjectivesMet"] == "False/Missed"
    assert judged(replace(wanted, view=slow))["ObjectivesMet"]["message"] == "ttft P95 is 1280ms, wanted 100ms"


REASONS: dict[str, set[str]] = {
    "Accepted": {*reasons.Accepted},
    "Degraded": {*reasons.Degraded, *reasons.StartFailure},
    "Draining": {*reasons.Draining},
    "ObjectivesMet": {*reasons.ObjectivesMet},
    "Progressing": {*reasons.Progressing},
    "Ready": {*reasons.Ready, *reasons.StartFailure},
    "RouterReady": {*reasons.RouterReady},
    "WorkloadsReady": {*reasons.WorkloadsReady, *reasons.StartFailure},
}

situations = st.builds(
    Situation,
    generation=st.integers(1, 5),
    acting_generation=st.integers(0, 5),
    errors=st.sampled_from([[], [FieldError("spec.a", "is wrong")]]),
    wanted=st.integers(0, 3),
    objectives=st.just(Objectives()),
    standings=st.lists(
        st.builds(standing, st.integers(0, 3), st.sampled_from(Fate), current=st.booleans(), ready=st.booleans())
    ),
    gateways_wanted=st.just(2),
    gateways_ready=st.integers(0, 2),
    coordinator_ready=st.booleans(),
    view=st.sampled_from([None, UNKNOWN, view(), view(s0=SERVING), view(s1=Member("Lost"))]),
    all_nodes_down=st.booleans(),
    refusal=st.sampled_from([None, Failure("PodRefused", "quota")]),
    previous=st.sampled_from([{}, judged(HEALTHY)]),
)


@settings(deadline=None)
@given(situations)
def test_every_reason_is_of_the_closed_set_and_judging_again_changes_nothing(situation: Situation) -> None:
    found = judged(situation)
    assert list(found) == sorted(REASONS)
    for name, condition in found.items():
        assert condition["reason"] in REASONS[name]
        assert condition["status"] in ("True", "False", "Unknown")
        assert condition["lastTransitionTime"]
    again = replace(situation, previous=found)
    settled = {condition["type"]: condition for condition in judge(again, now=NOW + 1)}
    final = {c["type"]: c for c in judge(replace(situation, previous=settled), now=NOW + 2)}
    assert final == settled
